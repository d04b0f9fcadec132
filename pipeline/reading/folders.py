"""Finding radiographs under a folder."""

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pneumoseg.pipeline.core.console import warn
from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.core.files import UNFINISHED
from pneumoseg.transforms.reader.radiograph import FileKind, kind_of, read_start, read_uid

_MARK: Final = ".pneumoseg-"  # `claim_folder` leaves a file of this name in each folder of results
_ARCHIVES: Final = (".7z", ".rar", ".tar", ".tar.gz", ".tgz", ".zip", ".dcm.gz", ".png.gz")
_NAMES_OF_OTHERS: Final = frozenset(
    {"changelog", "copying", "dicomdir", "index", "licence", "license", "readme", "version"}
)
_PREFIX_BYTES: Final = 132  # of the preamble and the prefix, by which DICOM is known
_START_BYTES, _MOST_BYTES = 2**14, 2**24  # the UID is one of the first elements


@dataclass(frozen=True)
class FoundFiles:
    """Files under a folder.

    Attributes:
        images: Files that are DICOM or PNG by content or by name, and files and folders that may not be read: each
            will get a result or a reason. So will a file whose name tells nothing and whose content may be what is left
            of a radiograph. Sorted by path.
        others: Number of unrelated files.
        links: Number of links that were not followed.
    """

    images: tuple[Path, ...]
    others: int
    links: int = 0


def find_radiographs(
    folder: Path,
    *,
    leave_out: Sequence[Path] = (),
    follow_links: bool = False,
    warn_of_archives: bool = True,
    only: Collection[Path] | None = None,
) -> FoundFiles:
    """Find radiographs in a folder and its subfolders, except in folders that hold results of earlier commands.

    Only files are opened whose name tells nothing: these are looked for a DICOM header or a PNG signature.

    Args:
        folder: Folder to search. A single file is accepted as it is.
        leave_out: Files and folders to leave out, such as the folder of the results.
        follow_links: Whether to follow links to files that are not found without them; loops do no harm.
        warn_of_archives: Whether to print a warning if there are archives, which are not opened.
        only: Files to take, of those that are found; they may have gone meanwhile. None takes all.

    Raises:
        UsageError: If there is no such folder.
        JobError: If no file in it could be a radiograph, and *only* is None.
    """
    paths, links = list_files(folder, leave_out=leave_out, follow_links=follow_links)
    images = sorted((path for path in paths if may_be_radiograph(path)), key=Path.as_posix)
    others = len(paths) - len(images)
    archives = sum(path.name.lower().endswith(_ARCHIVES) for path in paths)
    if archives and warn_of_archives:
        warn(f"{archives} archives are not opened; unpack them to have their images read")
    if only is not None:
        images = [path for path in images if path in only]
    elif not images:
        behind = f", {links} links were not followed" if links else ""
        raise JobError(
            f"{folder}: holds no DICOM or PNG file (unrelated files: {others}{behind}); is it the right folder?"
        )
    return FoundFiles(tuple(images), others, links)


def list_files(
    folder: Path, *, leave_out: Sequence[Path] = (), follow_links: bool = False
) -> tuple[list[Path], int]:
    """List all files in a folder and its subfolders, except in folders that hold results of earlier commands.

    Args:
        folder: Folder to search. A single file is accepted as it is.
        leave_out: Files and folders to leave out, such as the folder of the results.
        follow_links: Whether to follow links to files that are not found without them; loops do no harm.

    Returns: The files, and the folders that cannot be listed; the number of links that were not followed.
    Raises: UsageError: If there is no such folder.
    """
    if not os.path.exists(folder):  # noqa: PTH110  (Path.exists raises where a folder above may not be entered)
        raise UsageError(f"{folder}: there is no such folder")
    left_out = {os.path.realpath(path) for path in leave_out}
    if os.path.isdir(folder):  # noqa: PTH112  (see above)
        left_out.discard(os.path.realpath(folder))  # the writer reports that results cannot go there
    walk = _Walk(left_out)
    paths = list(walk.under(folder))
    if follow_links:
        for link in walk.links:  # the list grows while there are links behind links
            paths += walk.under(link, only_new=True)
    return paths, 0 if follow_links else len(walk.links)


def look_for_uids(paths: Sequence[Path]) -> list[str | None]:
    """Read the SOPInstanceUIDs of files that are not to be decoded, from their first bytes.

    Args:
        paths: Paths of the files.

    Returns: UID of each file; None where it has no valid one, or cannot be read.
    """
    return [_look_for_uid(path) for path in paths]


def _look_for_uid(path: Path) -> str | None:
    start = read_start(path, _START_BYTES)
    uid = read_uid(start)
    if uid is None and len(start) == _START_BYTES and kind_of(path, start) is FileKind.DICOM:
        uid = read_uid(read_start(path, _MOST_BYTES))
    return uid


def may_be_radiograph(path: Path) -> bool:
    """Tell whether a file is DICOM or PNG by name or content, or might be one or hold one, as it may not be read.

    Files on a medium often have no suffix, so that one of them that was not copied to its end has neither name nor
    content: where the name tells nothing, a file that is empty, starts with zeros or ends too early counts as well.

    Args:
        path: Path of the file, or of a folder that cannot be listed. It is opened only if its name tells nothing.
    """
    # the first and last are of macOS
    if path.name.startswith(("._", UNFINISHED)) or path.name == ".DS_Store":
        return False
    is_named = kind_of(path, b"") is not FileKind.OTHER
    cannot_be_read = not os.access(path, os.R_OK) or os.path.isdir(path)  # noqa: PTH112  (one that cannot be listed)
    if is_named or cannot_be_read:
        return True
    start = read_start(path, _PREFIX_BYTES)
    return kind_of(path, start) is not FileKind.OTHER or (
        path.is_file() and _tells_nothing(path) and _may_be_cut(start)
    )


def _tells_nothing(path: Path) -> bool:
    """Tell whether a file has no suffix; what follows the last point of a UID is none."""
    if path.name.startswith(".") or path.name.casefold() in _NAMES_OF_OTHERS:
        return False
    return not path.suffix or path.suffix[1:].isdigit()


def _may_be_cut(start: bytes) -> bool:
    """Tell whether a file may have been a radiograph: it has no bytes, only zeros, or too few, which are no text."""
    if len(start) == _PREFIX_BYTES or not any(start):
        return not any(start)
    text = start.decode(errors="surrogateescape")  # what is not UTF-8 cannot be printed
    return not all(letter.isprintable() or letter.isspace() for letter in text)


class _Walk:
    """Walks through folders, sets links aside, and remembers the files and folders that it has visited."""

    def __init__(self, left_out: set[str]) -> None:
        self.left_out = left_out
        self.links: list[Path] = []
        self._known: set[tuple[int, int]] = set()

    def under(self, start: Path, *, only_new: bool = False) -> Iterator[Path]:
        """Yield *start* if it is a file, else all files in it and the folders that cannot be listed."""
        waiting = [(start, os.path.realpath(start))]
        while waiting:
            here, really = waiting.pop()
            if really in self.left_out or (self._is_known(here) and only_new):
                continue
            if not os.path.isdir(here):  # noqa: PTH112  (Path.is_dir raises as Path.exists does)
                yield here
                continue
            try:
                entries = sorted(os.scandir(here), key=lambda entry: entry.name)
            except OSError:
                yield here  # reading it will give the reason
                continue
            if here != start and any(entry.name.startswith(_MARK) for entry in entries):
                continue
            self.links += [here / entry.name for entry in entries if entry.is_symlink()]
            waiting += [
                (here / entry.name, os.path.join(really, entry.name))  # noqa: PTH118  (a text is compared faster)
                for entry in entries
                if not entry.is_symlink()
            ]

    def _is_known(self, path: Path) -> bool:
        """Tell whether a file or folder has been visited before, by any path, and remember it."""
        try:
            status = path.stat()
        except OSError:  # a dead link, a loop of links, a file that has just gone
            return False
        identity = status.st_dev, status.st_ino
        known = identity in self._known
        self._known.add(identity)
        return known
