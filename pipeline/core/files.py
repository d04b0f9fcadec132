"""Atomic writing of files."""

import csv
import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.names import cell

UNFINISHED: Final = ".writing-"  # start of the names of files that are not complete yet
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
            f"{path.parent} cannot hold {path.name}, since it is not a folder; give another output"
        ) from None
    temporary = path.with_name(f"{unfinished_name(path)}{secrets.token_hex(3)}{''.join(path.suffixes[-2:])}")
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
        # that of a full disk names no file, and libraries put a text in its place
        cause = _system_error(error)
        raise OSError(cause.errno or errno.EIO, cause.strerror or str(error), str(path)) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def unfinished_name(path: Path) -> str:
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
