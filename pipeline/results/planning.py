"""The files to process, the names of their results, and their division into parts: the same in every run."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.core.names import safe_name
from pneumoseg.pipeline.reading.folders import FoundFiles


@dataclass(frozen=True)
class Planned:
    """A file to process.

    Attributes:
        path: Path of the file.
        shown: Name of the file in the tables: its path within the folder or, for research, `name`.
        name: File name of all its results, without suffix.
    """

    path: Path
    shown: str
    name: str


@dataclass(frozen=True)
class Part:
    """One of several runs that share the files of a folder.

    Attributes:
        number: Index of the part, from 0.
        count: Number of parts.

    Raises: UsageError: If there is no such part.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.count:
            raise UsageError(
                f"--part-id {self.number} of --num-parts {self.count}: 0 to {self.count - 1} fit"
            )

    def __str__(self) -> str:
        return f"{self.number}-of-{self.count}"

    def of(self, planned: Sequence[Planned]) -> Sequence[Planned]:
        """Select the files of this part."""
        return planned[self.number :: self.count]


def plan(found: FoundFiles, folder: Path, *, research: bool, max_bytes: int) -> list[Planned]:
    """Give the results of each file a unique name: its SOPInstanceUID if it has one, else the name of the file.

    Args:
        found: The files; the second of two with the same name gets a number appended.
        folder: Folder that the paths in the tables are relative to.
        research: Whether to keep paths and file names out of the results; a file without a UID is then named by the
            hash of its content.
        max_bytes: Size of the largest file that is read for its hash.
    """
    taken: set[str] = set()
    planned = []
    for path, uid in zip(found.images, found.uids, strict=True):
        if research:
            base = uid or f"content-{(content_sha256(path, max_bytes) or 'unknown')[:32]}"
        else:
            base = safe_name(uid or path.stem)
        name = _free(base, taken)
        planned.append(Planned(path, name if research else os.path.relpath(path, folder), name))
    return planned


def content_sha256(path: Path, max_bytes: int) -> str | None:
    """Hash a file.

    Args:
        path: Path of the file.
        max_bytes: Size of the largest file that is read.

    Returns: SHA-256 in hexadecimal digits; None if the file is too large, not a regular file, or cannot be read.
    """
    data = read_content(path, max_bytes)
    return None if data is None else hashlib.sha256(data).hexdigest()


def read_content(path: Path, max_bytes: int) -> bytes | None:
    """Read a regular file of at most *max_bytes*; None if there is none, or it cannot be read."""
    try:
        if not path.is_file() or path.stat().st_size > max_bytes:  # opening a pipe would wait for ever
            return None
        return path.read_bytes()
    except (OSError, ValueError):
        return None


def _free(base: str, taken: set[str]) -> str:
    name, number = base, 1
    while name.casefold() in taken:  # file systems that fold case would write one over the other
        number += 1
        name = f"{base}-{number}"
    taken.add(name.casefold())
    return name
