"""What a report is made of, before it is a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True)
class Tile:
    """A number to see first.

    Attributes:
        name: What it is of.
        value: As it is to be read.
        beside: An interval, or what it is to be compared with.
    """

    name: str
    value: str
    beside: str = ""


@dataclass(frozen=True)
class Tiles:
    """Numbers to see first."""

    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Chart:
    """A drawing.

    Attributes:
        title: What it shows.
        svg: From `to_svg`.
        note: How to read it.
        wide: Whether it takes the whole width.
    """

    title: str
    svg: str
    note: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Charts:
    """Drawings, side by side where there is room."""

    charts: Sequence[Chart]


@dataclass(frozen=True)
class Table:
    """Rows of texts and numbers.

    Attributes:
        columns: Their heads.
        rows: Cells; None is an empty one.
        filters: Columns that rows can be chosen by; a table with any, or with many rows, can be searched too.
        left_out: Rows that are in the file only.
        file: Where all of them are.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | int | None]]
    filters: Sequence[str] = ()
    left_out: int = 0
    file: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture with its name; the picture as a ``data:`` address."""

    name: str
    picture: str


@dataclass(frozen=True)
class Shown:
    """A case in pictures.

    Attributes:
        kind: Why this one is shown.
        name: Of the case.
        facts: Names and values.
        panels: Pictures.
    """

    kind: str
    name: str
    facts: Mapping[str, str]
    panels: Sequence[Picture]


@dataclass(frozen=True)
class PictureGallery:
    """Cases in pictures."""

    cases: Sequence[Shown]


@dataclass(frozen=True)
class Folded:
    """A text of its own form, like a configuration, that is shown when asked for."""

    title: str
    text: str


Block: TypeAlias = Tiles | Text | Charts | Table | PictureGallery | Folded


@dataclass(frozen=True)
class Section:
    """A part of the page under its own heading."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """The whole report.

    Attributes:
        title: Its heading.
        subtitle: What was done, on what.
        sections: In their order.
        warnings: To see before anything else.
    """

    title: str
    subtitle: str
    sections: Sequence[Section]
    warnings: Sequence[str] = field(default_factory=tuple)
