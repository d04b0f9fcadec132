"""Writing without ever leaving half a file, and never over what somebody else has made."""

import csv
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.core.names import cell

LOCK: Final = ".lock"
_UNFINISHED: Final = ".writing-"


@contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """Give a temporary path beside *path*; on success it is synced and takes the place of *path*.

    The temporary name keeps the suffixes, since many writers choose the format by them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_UNFINISHED}{secrets.token_hex(6)}{''.join(path.suffixes[-2:])}")
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # a full disk does not say over which file
            error.filename = str(path)
        raise


def sync_folder(folder: Path) -> None:
    """Let the names in a folder outlive a power cut, where the system can do so."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write *text* as UTF-8 with plain line ends, all of it or nothing."""
    with written_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, content: Any) -> None:
    """Write *content* as JSON that people can read and compare."""
    write_text(path, to_json(content, indent=1) + "\n")


def write_json_list(path: Path, head: Mapping[str, Any], *, key: str, items: Iterable[Any]) -> None:
    """Write the bytes that `write_json` would write of *head* with a list of *items* at its end, one after the other.

    Args:
        path: The file.
        head: Keys and values that come first.
        key: Of the list.
        items: Held one at a time.
    """
    with written_atomically(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(to_json({**head, key: []}, indent=1).removesuffix("]\n}"))
        last = ""
        for item in items:
            lines = to_json(item, indent=1).split("\n")
            file.write(("," if last else "") + "".join(f"\n  {line}" for line in lines))
            last = "\n "
        file.write(last + "]\n}\n")


def to_json(content: Any, *, indent: int | None = None) -> str:
    """*content* as JSON; in its texts, all that cannot be printed is spelled out as JSON does it."""
    text = json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)
    return "\n".join(line if line.isprintable() else _spell_out(line) for line in text.split("\n"))


def _spell_out(line: str) -> str:
    return "".join(letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in line)


def write_csv(path: Path, rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> None:
    """Write a table, row by row; ``None`` becomes an empty cell, and no cell can act as a formula."""
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
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def claim_folder(
    folder: Path, *, overwrite: bool, command: str, inputs: Sequence[Path] = (), resume: bool = False
) -> None:
    """Make an output folder, and never write over another run's results by accident.

    Args:
        folder: Where results will go.
        overwrite: Whether results that are there may be deleted.
        command: Whose results; the folder is marked with it, and only a marked one is ever deleted.
        inputs: What the results are made from, and must not be deleted with earlier ones.
        resume: Whether earlier results of the same command are gone on with; then nothing is deleted here.

    Raises: UsageError: If the folder holds something and may not, or must not, be emptied.
    """
    marker = folder / f".pneumoseg-{command}"
    if folder.is_file():
        raise UsageError(f"{folder} is a file; give a folder for the results")
    if folder.exists() and any(folder.iterdir()):
        if resume and marker.exists():
            return
        if not overwrite and not resume:
            raise UsageError(f"{folder} is not empty; name another folder or give --overwrite")
        if not marker.exists():
            raise UsageError(f"{folder} is not an earlier result of `{command}`; name another folder")
        folder = folder.resolve()  # a link cannot be emptied, what it leads to can
        for path in inputs:
            if path.resolve().is_relative_to(folder):
                raise UsageError(f"{path} lies in {folder}, which would be emptied; name another folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    marker.touch()  # first of all: what is interrupted can be overwritten, too


def empty_folder(folder: Path, *, keep: Collection[str]) -> None:
    """Delete all that lies in a folder but files of these names."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name not in keep:
            path.unlink()


def remove_unfinished(folder: Path) -> None:
    """Delete, with its subfolders, what a process was writing when it was killed; none may be writing there now."""
    for path in folder.rglob(f"{_UNFINISHED}*"):
        path.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path, *, patience_s: float = 0) -> Iterator[None]:
    """Keep other processes out of a folder; the lock ends with the process, however that ends.

    Args:
        folder: Gets a file called ``.lock``.
        patience_s: How long to wait for another process.

    Raises: JobError: If another process has the folder.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=patience_s)
    except Timeout:
        raise JobError(
            f"{folder} is in use by another process; wait for its end, or give another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()


def claim_file(path: Path, *, overwrite: bool, inputs: Sequence[Path] = ()) -> None:
    """Refuse to write over a file unless asked to, and to begin what could not be written in the end.

    Args:
        path: Where a result will go.
        overwrite: Whether an earlier one may be replaced.
        inputs: What the result is made from, and is never replaced by it.

    Raises: UsageError: If *path* exists and may not be replaced, is no file, or cannot be made.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give the name of a file")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists; name another file or give --overwrite")
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no regular file, and would not be one any more; name another file")
    if path.resolve() in {input_.resolve() for input_ in inputs}:
        raise UsageError(f"{path} is read as well; name another file")
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{path} cannot be written: {folder} is no folder, or not ours; name another file")
