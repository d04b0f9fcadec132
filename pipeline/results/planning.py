"""The files to process, the names of their results, and their division into parts: the same in every run."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.core.names import safe_name
from pneumoseg.transforms.reader.radiograph import Radiograph, image_name
from pneumoseg.transforms.reader.reasons import RadiographError, Reason

_File = TypeVar("_File")


@dataclass(frozen=True)
class Planned:
    """A file to process.

    Attributes:
        path: Path of the file.
        shown: Name of the file in the tables: its path within the folder or, for research, `name`.
        name: File name of all its results, without suffix.
        identity: SOPInstanceUID or, for research, SHA-256 of the content that the name is made of; None for the path.
    """

    path: Path
    shown: str
    name: str
    identity: str | None = None

    def check(self, radiograph: Radiograph) -> RadiographError | None:
        """Refuse another image that took the place of the file after it was named: the name is not that of this one.

        Args:
            radiograph: What was read from the path.
        """
        if self.identity in {None, radiograph.sop_instance_uid, radiograph.file_sha256}:
            return None
        error = RadiographError(Reason.CHANGED, "it is not the image that was there when the run began")
        error.file_sha256, error.sop_instance_uid = radiograph.file_sha256, radiograph.sop_instance_uid
        return error


@dataclass(frozen=True)
class Part:
    """One of several runs that share the files of a folder.

    Attributes:
        index: Index of the part, from 0.
        count: Number of parts.

    Raises: UsageError: If there is no such part.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise UsageError(f"--part-id {self.index} of --num-parts {self.count}: 0 to {self.count - 1} fit")

    def __str__(self) -> str:
        return f"{self.index}-of-{self.count}"

    def of(self, files: Sequence[_File]) -> Sequence[_File]:
        """Select the files of this part.

        Args:
            files: All files, or something for each of them, in order.
        """
        return files[self.index :: self.count]


class Names:
    """Unique names for the results of files: the SOPInstanceUID of a file that has one, else its path in the folder.

    The name of a file in a subfolder ends with a hash of its path, so that files of one name in several folders keep
    the names of their results when another such file arrives or leaves.

    Args:
        folder: Folder that the paths in the tables are relative to.
        research: Whether to keep paths and file names out of the results; a file without a UID is then named by the
            hash of its content.
        max_bytes: Size of the largest file that is read for its hash.
    """

    def __init__(self, folder: Path, *, research: bool, max_bytes: int) -> None:
        self.folder = folder
        self.research = research
        self.max_bytes = max_bytes
        self.files: dict[Path, Planned] = {}
        self._taken: set[str] = set()

    def plan(self, path: Path, uid: str | None, sha256: str | None = None) -> Planned:
        """Name the results of a file; call for all files in the order of their paths.

        Args:
            path: Path of the file. A file that has a name keeps it.
            uid: Its SOPInstanceUID; None without a valid one.
            sha256: Hash of its content; None where it has not been read.

        Returns: The file; the second of two with the same name gets a number appended.
        """
        if path in self.files:
            return self.files[path]
        where = Path(os.path.relpath(path, self.folder))
        identity = uid
        if self.research:
            identity = uid or sha256 or content_sha256(path, self.max_bytes)
            name = self._free(uid or f"content-{(identity or 'unknown')[:32]}")
        else:
            name = self._free(safe_name(uid or where.with_name(image_name(where)).as_posix()))
        self.files[path] = Planned(path, name if self.research else str(where), name, identity)
        return self.files[path]

    def _free(self, base: str) -> str:
        name, number = base, 1
        while name.casefold() in self._taken:  # file systems that fold case would write one over the other
            number += 1
            name = f"{base}-{number}"
        self._taken.add(name.casefold())
        return name


def content_sha256(path: Path, max_bytes: int) -> str | None:
    """Hash a file.

    Args:
        path: Path of the file.
        max_bytes: Size of the largest file that is read.

    Returns: SHA-256 in hexadecimal digits; None if the file is too large, not a regular file, or cannot be read.
    """
    try:
        if not path.is_file() or path.stat().st_size > max_bytes:  # opening a pipe would wait for ever
            return None
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError):
        return None
