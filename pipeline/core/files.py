"""Atomic writing of files, and protection of existing files and folders."""

import csv
import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.core.names import cell

LOCK: Final = ".lock"
UNFINISHED: Final = ".writing-"  # start of the names of files that are not complete yet
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
_NOT_OFFERED: Final = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF}
"""What file systems answer that cannot sync: network drives, WSL and some overlays, mostly for folders."""


@contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """Write a file under a temporary name; on success, sync it and rename it to *path*.

    The temporary name keeps the suffixes, since many writers choose the format by them. After an error, the temporary
    file is deleted, and a file that was at *path* is unchanged.

    Args:
        path: Path of the file; its folder is created if necessary.

    Yields: Temporary path beside *path*, of an empty file.

    Raises:
        JobError: If a folder stands where the file belongs, or a file where its folder belongs.
        OSError: If the system reports an error; it names *path* and the cause, also where a library has hidden it.
    """
    if path.is_dir() and not path.is_symlink():
        raise JobError(f"{path} is a folder where a file belongs; remove it, or give another output")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise JobError(
            f"{path.parent} cannot hold {path.name}, since it is no folder; give another output"
        ) from None
    temporary = path.with_name(f"{_unfinished_name(path)}{secrets.token_hex(3)}{''.join(path.suffixes[-2:])}")
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            _sync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.filename is not None:
            raise
        cause = _system_error(
            error
        )  # that of a full disk names no file, and libraries put a text in its place
        raise OSError(cause.errno or errno.EIO, cause.strerror or str(error), str(path)) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _unfinished_name(path: Path) -> str:
    """Make the start of the temporary names of a file; in a shared folder, it tells those of other files apart."""
    return f"{UNFINISHED}{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:6]}"


def _system_error(error: OSError) -> OSError:
    """Find the error of the system that led to an error without a number."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno:
            return cause
        cause = cause.__cause__ or cause.__context__
    return error


def sync_folder(folder: Path) -> None:
    """Sync the directory entries of a folder to disk, where the system and the file system support it.

    Args:
        folder: Folder in which files were created or renamed.

    Raises: OSError: If the entries may be lost.
    """
    if hasattr(os, "O_DIRECTORY"):
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except PermissionError:  # it may be written but not read
            return
        try:
            _sync(descriptor)
        finally:
            os.close(descriptor)


def _sync(descriptor: int) -> None:
    """Sync a file or a folder; a file system that does not offer this is no error."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_OFFERED:
            raise


def write_text(path: Path, text: str) -> None:
    """Write a text atomically, as UTF-8 with Unix line ends.

    Args:
        path: Path of the file.
        text: Content of the file.
    """
    with written_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON atomically.

    Args:
        path: Path of the file.
        content: Values that JSON has; floats are finite.

    Raises: ValueError: If a float is non-finite (NaN or Inf).
    """
    write_text(path, to_json(content, indent=1) + "\n")


def to_json(content: Any, *, indent: int | None = None) -> str:
    """Encode *content* as JSON; characters that cannot be printed are escaped.

    Args:
        content: Values that JSON has; floats are finite.
        indent: Spaces for each level; None for one line.

    Raises: ValueError: If a float is non-finite (NaN or Inf).
    """
    text = json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)
    return "\n".join(line if line.isprintable() else _escaped(line) for line in text.split("\n"))


def _escaped(line: str) -> str:
    return "".join(letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in line)


def write_csv(path: Path, rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> None:
    """Write a CSV table atomically, row by row.

    Args:
        path: Path of the file.
        rows: Values by column; None and missing values become empty cells, and texts are escaped by `cell`.
        columns: Columns in order.
    """
    with written_atomically(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow([_cell(row.get(column)) for column in columns])


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return cell(value) if isinstance(value, str) else value


def sha256_of(path: Path) -> str:
    """Compute the SHA-256 of the content of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
        JobError: If earlier results that are continued contain a link.
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
        raise UsageError(f"{path} is no regular file and cannot be replaced by one; name another file")
    if path.resolve() in {input_.resolve() for input_ in inputs}:
        raise UsageError(f"{path} is also an input; name another file")
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(
            f"{path} cannot be written: {folder} is not a folder, or not writable; name another file"
        )
    for left in path.parent.glob(f"{_unfinished_name(path)}*"):
        with suppress(OSError):  # one of another user, in a folder such as /tmp
            left.unlink()
