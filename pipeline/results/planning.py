"""Which files there are, what their results are called, and whose they are: the same in every run and every part."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.core.names import safe_name
from pneumoseg.transforms.reader.description import read_uid
from pneumoseg.transforms.reader.dicom_file import peek
from pneumoseg.transforms.reader.quiet import quiet_libraries
from pneumoseg.transforms.reader.radiograph import FileKind, sniff

_START_BYTES: Final = 2**14  # the UID is one of the first elements


@dataclass(frozen=True)
class Planned:
    """One file.

    Attributes:
        path: Of the file.
        shown: What the tables call it: its path within the folder, or what tells nothing of a person.
        name: Of all its results, less the ending.
    """

    path: Path
    shown: str
    name: str


@dataclass(frozen=True)
class Part:
    """One of several runs that divide a folder among themselves.

    Raises: UsageError: If there is no such part.
    """

    number: int
    """From 0."""
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.count:
            raise UsageError(
                f"--part-id {self.number} of --num-parts {self.count}: 0 to {self.count - 1} fit"
            )

    def __str__(self) -> str:
        return f"{self.number}-of-{self.count}"

    def of(self, planned: Sequence[Planned]) -> Sequence[Planned]:
        """The files of this part."""
        return planned[self.number :: self.count]


def plan(paths: Sequence[Path], folder: Path, *, research: bool, max_bytes: int) -> list[Planned]:
    """Name the results of each file: by its UID if it has one, else as the file; never one name twice.

    Args:
        paths: In their order; the second of two with one name gets a number behind it.
        folder: What the paths are shown within.
        research: Whether paths and names of files are to be kept out; a file without a UID goes by its content then.
        max_bytes: Larger files are not read for that.
    """
    taken: set[str] = set()
    planned = []
    for path in paths:
        uid = _peek_uid(path)
        if research:
            base = uid or f"content-{(content_sha256(path, max_bytes) or 'unknown')[:32]}"
        else:
            base = safe_name(uid or path.stem)
        name = _free(base, taken)
        planned.append(Planned(path, name if research else os.path.relpath(path, folder), name))
    return planned


def content_sha256(path: Path, max_bytes: int) -> str | None:
    """Hash a file; None where it cannot be read, or is of another kind or size than is ever read."""
    data = read_content(path, max_bytes)
    return None if data is None else hashlib.sha256(data).hexdigest()


def read_content(path: Path, max_bytes: int) -> bytes | None:
    """The bytes of a regular file of at most *max_bytes*; None where there is none."""
    try:
        if not path.is_file() or path.stat().st_size > max_bytes:  # opening a pipe would wait for ever
            return None
        return path.read_bytes()
    except (OSError, ValueError):
        return None


def _peek_uid(path: Path) -> str | None:
    try:
        if sniff(path) is not FileKind.DICOM or not path.is_file():
            return None
        with path.open("rb") as file, quiet_libraries():
            return read_uid(peek(file.read(_START_BYTES), "SOPInstanceUID"), "SOPInstanceUID")
    except (OSError, ValueError):
        return None


def _free(base: str, taken: set[str]) -> str:
    name, number = base, 1
    while name.casefold() in taken:  # file systems that fold case would write one over the other
        number += 1
        name = f"{base}-{number}"
    taken.add(name.casefold())
    return name
