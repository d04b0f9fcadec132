"""Finding radiographs under a folder."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.transforms.reader.radiograph import FileKind, sniff

_MARK: Final = ".pneumoseg-"  # `claim_folder` leaves a file of this name in each folder of results


@dataclass(frozen=True)
class Found:
    """What lies under a folder.

    Args:
        images: What is DICOM or PNG by content or by name, and what the system does not let us look at: each will
            get a result or a reason. Sorted by path.
        others: How many further files there are; they are none of our business.
        links: How many links were not followed.
    """

    images: tuple[Path, ...]
    others: int
    links: int = 0


def find_radiographs(folder: Path, *, leave_out: Sequence[Path] = (), follow_links: bool = False) -> Found:
    """Look through a folder and its subfolders, but not into those that hold results of earlier commands.

    Args:
        folder: Where to look. A single file is taken as it is.
        leave_out: Files, and folders not to look into, such as the one that results go to.
        follow_links: Look behind links as well, at what has not been found without them; loops are no harm.

    Raises:
        UsageError: If there is no such folder.
        JobError: If nothing in it could be a radiograph.
    """
    if not os.path.exists(folder):  # noqa: PTH110  (Path.exists raises where a folder above may not be entered)
        raise UsageError(f"{folder}: there is no such folder")
    left_out = {os.path.realpath(path) for path in leave_out}
    if os.path.isdir(folder):  # noqa: PTH112  (see above)
        left_out.discard(os.path.realpath(folder))  # who writes is to say that results cannot go there
    walk = _Walk(left_out)
    paths = list(walk.under(folder))
    if follow_links:
        for link in walk.links:  # the list grows while there are links behind links
            paths += walk.under(link, only_new=True)
    links = 0 if follow_links else len(walk.links)

    images = [path for path in paths if _needs_an_answer(path)]
    others = len(paths) - len(images)
    if not images:
        behind = f" ({links} links were not followed)" if links else ""
        raise JobError(
            f"{folder}: holds no DICOM or PNG file among {others} files{behind}; is it the right folder?"
        )
    return Found(tuple(sorted(images, key=Path.as_posix)), others, links)


def _needs_an_answer(path: Path) -> bool:
    """Tell radiographs, and what cannot be looked at and might be one, from other files."""
    if sniff(path) is not FileKind.OTHER:
        return True
    return not os.access(path, os.R_OK) or os.path.isdir(path)  # noqa: PTH112  (a folder that cannot be listed)


class _Walk:
    """Goes through folders, puts links aside, and remembers what it has come to."""

    def __init__(self, left_out: set[str]) -> None:
        self.left_out = left_out
        self.links: list[Path] = []
        self._known: set[tuple[int, int]] = set()

    def under(self, start: Path, *, only_new: bool = False) -> Iterator[Path]:
        """Give *start* if it is no folder, else all in it that is none, and the folders that cannot be listed."""
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
        """Tell whether a file or folder has been come to before, on whatever way, and remember it."""
        try:
            status = path.stat()
        except OSError:  # a dead link, a loop of links, a file that has just gone
            return False
        identity = status.st_dev, status.st_ino
        known = identity in self._known
        self._known.add(identity)
        return known
