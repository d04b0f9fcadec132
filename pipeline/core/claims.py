"""Protection of existing files and folders: claims of outputs, locks, links, and what killed runs left."""

import errno
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.core.files import UNFINISHED, unfinished_name

LOCK: Final = ".lock"
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})


def claim_folder(
    folder: Path, *, overwrite: bool, command: str, inputs: Sequence[Path] = (), resume: bool = False
) -> None:
    """Create an output folder, and refuse to overwrite the results of another run by accident.

    Args:
        folder: Output folder.
        overwrite: Whether earlier results in it may be deleted.
        command: Command that writes the results; a marker file names it, and only a folder with the marker is emptied.
        inputs: Inputs of the command, which must not be deleted with earlier results.
        resume: Whether to continue earlier results of the same command; they are then not deleted.

    Raises:
        UsageError: If the folder is not empty and may not, or must not, be emptied.
        JobError: If earlier results that are continued contain a link, or another process is writing those to delete.
    """
    marker = folder / f".pneumoseg-{command}"
    if folder.is_file():
        raise UsageError(f"{folder} is a file; give a folder for the results")
    if folder.exists() and any(folder.iterdir()):
        if resume and marker.exists():
            refuse_links(folder)
            return
        if not overwrite and not resume:
            raise UsageError(f"{folder} is not empty; name another folder or give --overwrite")
        if not marker.exists():
            raise UsageError(f"{folder} is not an earlier result of `{command}`; name another folder")
        folder = folder.resolve()  # rmtree refuses a symbolic link
        for path in inputs:
            if path.resolve().is_relative_to(folder):
                raise UsageError(f"{path} lies in {folder}, which would be emptied; name another folder")
        for lock in (*folder.glob(LOCK), *folder.glob(f"*/{LOCK}")):  # as of the folds of a run
            with locked(lock.parent):
                pass
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    marker.touch()  # comes first, so that an interrupted run can be overwritten, too


def empty_folder(folder: Path, *, keep: Collection[str]) -> None:
    """Delete the content of a folder.

    Args:
        folder: Folder to empty.
        keep: Names of files and folders in it that are kept.
    """
    for path in folder.iterdir():
        if path.name in keep:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def refuse_links(folder: Path) -> None:
    """Check that no result in a folder would be read or written through a symbolic link.

    Args:
        folder: Folder of results; it may itself be reached through a link.

    Raises: JobError: If there is a link in it, at any depth.
    """
    for entry in _entries(folder):
        if entry.is_symlink():
            raise JobError(
                f"{entry.path} is a link; results are neither read nor written through links: remove it, or give "
                "another folder"
            )
        if entry.is_dir():
            refuse_links(Path(entry.path))


def remove_unfinished(folder: Path) -> None:
    """Delete the temporary files that killed processes left behind.

    Args:
        folder: Folder to search with its subfolders, except those in use by another process; no other process may be
            writing there now.
    """
    for entry in _entries(folder):
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            if not is_in_use(path):
                remove_unfinished(path)
        elif entry.name.startswith(UNFINISHED):
            path.unlink(missing_ok=True)


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    with os.scandir(folder) as entries:
        return list(entries)


def is_in_use(folder: Path) -> bool:
    """Tell whether a process holds the lock of a folder.

    Args:
        folder: Folder that `locked` may have been called with.
    """
    if not (folder / LOCK).exists():
        return False
    try:
        with locked(folder):
            return False
    except JobError:
        return True


def check_place(path: Path) -> None:
    """Check that a file can be opened for writing at a path without leaving its folder.

    Args:
        path: Path of a log or a lock, which is not replaced as a whole.

    Raises: JobError: If a link or a folder is there.
    """
    if path.is_symlink() or path.is_dir():
        kind = "link" if path.is_symlink() else "folder"
        raise JobError(f"{path} is a {kind} where a file belongs; remove it, or give another folder")


@contextmanager
def locked(folder: Path, *, patience_s: float = 0) -> Iterator[None]:
    """Lock a folder against other processes; the lock ends with the process, even if that is killed.

    Args:
        folder: Folder to lock, by a file called ``.lock`` in it.
        patience_s: Seconds to wait for another process; without end if negative.

    Raises: JobError: If another process holds the lock, no lock can be there, or the file system offers none.
    """
    check_place(folder / LOCK)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=patience_s)
    except Timeout:
        raise JobError(
            f"{folder} is in use by another process; wait until it ends, or give another folder"
        ) from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
        raise JobError(
            f"{folder / LOCK}: cannot be locked ({getattr(error, 'strerror', None) or 'not supported'}); some network "
            "drives offer no locks: give a folder on a local disk"
        ) from None
    try:
        yield
    finally:
        lock.release()


def claim_file(path: Path, *, overwrite: bool, inputs: Sequence[Path] = ()) -> None:
    """Check before a job that its output file can be written and overwrites nothing by accident.

    What killed jobs left unfinished of the same file is deleted.

    Args:
        path: Path of the output file.
        overwrite: Whether an existing file may be replaced.
        inputs: Inputs of the job, which are never replaced.

    Raises: UsageError: If *path* exists and may not be replaced, is not a regular file, or cannot be written.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give the name of a file")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists; name another file or give --overwrite")
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is not a regular file and cannot be replaced by one; name another file")
    if path.resolve() in {input_.resolve() for input_ in inputs}:
        raise UsageError(f"{path} is also an input; name another file")
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(
            f"{path} cannot be written: {folder} is not a folder, or not writable; name another file"
        )
    for left in path.parent.glob(f"{unfinished_name(path)}*"):
        with suppress(OSError):  # one of another user, in a folder such as /tmp
            left.unlink()
