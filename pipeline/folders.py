"""Finding radiographs under a folder."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pneumoseg.pipeline.errors import JobError, UsageError
from pneumoseg.pipeline.files import shown
from pneumoseg.transforms.radiograph import sniff


@dataclass(frozen=True)
class Found:
    """What lies under a folder, sorted by path.

    Args:
        images: Files that are DICOM or PNG, by content or by name: each will get a result or a reason.
        others: How many further files there are; they are none of our business.
    """

    images: tuple[Path, ...]
    others: int


def find_radiographs(folder: Path, *, leave_out: Sequence[Path] = ()) -> Found:
    """Look through a folder and its subfolders; links are not followed.

    Args:
        folder: Where to look. A single file is taken as it is.
        leave_out: Folders not to look into, such as the one that results go to.

    Raises:
        UsageError: If there is no such folder.
        JobError: If nothing in it could be a radiograph.
    """
    if not folder.exists():
        raise UsageError(f"{shown(str(folder))}: there is no such folder")
    left_out = {path.resolve() for path in leave_out}
    images, others = [], 0
    for path in [folder] if folder.is_file() else _walk(folder, left_out):
        if sniff(path) == "other":
            others += 1
        else:
            images.append(path)
    if not images:
        raise JobError(
            f"{shown(str(folder))}: holds no DICOM or PNG file among {others} files; is it the right folder?"
        )
    return Found(tuple(images), others)


def _walk(folder: Path, left_out: set[Path]) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        here = Path(parent)
        folders[:] = sorted(name for name in folders if (here / name).resolve() not in left_out)
        yield from (here / name for name in sorted(names) if not (here / name).is_symlink())
