"""Content of a report, independent of its HTML form."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True)
class Tile:
    """Headline number.

    Attributes:
        name: Name of the number.
        value: Formatted value.
        beside: Interval or explanation.
        comparison: What to compare the value with.
    """

    name: str
    value: str
    beside: str = ""
    comparison: str = ""


@dataclass(frozen=True)
class Tiles:
    """Headline numbers."""

    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Text:
    """Paragraph."""

    text: str


@dataclass(frozen=True)
class Chart:
    """Chart.

    Attributes:
        title: Title.
        svg: SVG element from `to_svg`.
        note: Explanation.
    """

    title: str
    svg: str
    note: str = ""


@dataclass(frozen=True)
class Charts:
    """Charts, side by side where the width allows it."""

    charts: Sequence[Chart]


@dataclass(frozen=True)
class Cell:
    """Cell of a table with more than a plain text or number.

    Attributes:
        text: Text of the cell.
        note: Addition on a line of its own, such as an interval.
        order: Number to sort by; None sorts by the text.
        is_number: Whether the cell is aligned as a number.
    """

    text: str
    note: str = ""
    order: float | None = None
    is_number: bool = True


CellValue: TypeAlias = str | float | int | Cell | None


@dataclass(frozen=True)
class Table:
    """Table of texts and numbers.

    The numbers of a column have the same number of decimals.

    Attributes:
        columns: Column headings.
        rows: Cells of each row; None is an empty cell.
        filters: Columns with a filter; a table with filters, or with many rows, has a search field.
        left_out: Number of rows that are only in the file.
        file: Name of the file with all rows.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[CellValue]]
    filters: Sequence[str] = ()
    left_out: int = 0
    file: str = ""


@dataclass(frozen=True)
class Picture:
    """Picture of a case.

    Attributes:
        name: Title of the picture.
        jpeg: Content of a JPEG file.
    """

    name: str
    jpeg: bytes

    @property
    def address(self) -> str:
        """The picture as a ``data:`` address, so that a page needs no other file."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode('ascii')}"


@dataclass(frozen=True)
class Shown:
    """Pictures of a case.

    Attributes:
        kind: Reason why the case is shown.
        name: Name of the case.
        facts: Values by name.
        panels: Pictures; empty where they must not be shown.
        text: Sentence about the case.
    """

    kind: str
    name: str
    facts: Mapping[str, str]
    panels: Sequence[Picture]
    text: str = ""


@dataclass(frozen=True)
class PictureGallery:
    """Pictures of several cases."""

    cases: Sequence[Shown]


@dataclass(frozen=True)
class Folded:
    """Preformatted text, such as a configuration, that is collapsed by default."""

    title: str
    text: str


Block: TypeAlias = Tiles | Text | Charts | Table | PictureGallery | Folded


@dataclass(frozen=True)
class Section:
    """Part of the page with a heading."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """Report.

    Attributes:
        title: Title.
        subtitle: Description of the data.
        sections: Sections in order.
        warnings: Warnings at the top of the page.
    """

    title: str
    subtitle: str
    sections: Sequence[Section]
    warnings: Sequence[str] = field(default_factory=tuple)
