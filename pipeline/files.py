"""Writing without ever leaving half a file, and names that stay where they belong."""

import csv
import hashlib
import io
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pneumoseg.pipeline.errors import UsageError

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
_CONTROL: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_RESERVED: Final = re.compile(r"(?i)^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)")  # devices of Windows


@contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """Give a temporary path beside *path*; on success it is synced and takes the place of *path*.

    The temporary name keeps the suffixes, since many writers choose the format by them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".writing-{secrets.token_hex(6)}{''.join(path.suffixes[-2:])}")
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write *text* as UTF-8 with plain line ends, all of it or nothing."""
    with written_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, content: Any) -> None:
    """Write *content* as JSON that people can read and compare."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: Path, rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> None:
    """Write a table; ``None`` becomes an empty cell, and no cell can act as a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(column)) for column in columns])
    write_text(path, text.getvalue())


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if not isinstance(value, str):
        return value
    value = shown(value)
    return f"'{value}" if value[:1] in ("=", "+", "-", "@") and value != "-1" else value


def shown(text: str) -> str:
    """*text* on one line, with control and direction-changing characters spelled out, not sent."""
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def safe_name(text: str) -> str:
    """A file name made of *text* that stays in its folder on every system; a changed one carries a hash."""
    name = _UNSAFE.sub("_", text).strip("._-") or "_"  # hidden; an option
    if name == text and len(name) <= 120 and not _RESERVED.match(name):
        return name
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{name[:100]}-{digest}" if not _RESERVED.match(name) else f"_{name[:100]}-{digest}"


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def claim_folder(folder: Path, *, overwrite: bool, command: str) -> None:
    """Make an output folder, and never write over another run's results by accident.

    Args:
        folder: Where results will go.
        overwrite: Whether results that are there may be deleted.
        command: Whose results; the folder is marked with it, and only a marked one is ever deleted.

    Raises: UsageError: If the folder holds something and may not, or must not, be emptied.
    """
    marker = folder / f".pneumoseg-{command}"
    if folder.is_file():
        raise UsageError(f"{shown(str(folder))} is a file; give a folder for the results")
    if folder.exists() and any(folder.iterdir()):
        if not overwrite:
            raise UsageError(f"{shown(str(folder))} is not empty; name another folder or give --overwrite")
        if not marker.exists():
            raise UsageError(
                f"{shown(str(folder))} is not an earlier result of `{command}`; name another folder"
            )
        folder = folder.resolve()  # a link cannot be emptied, what it leads to can
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    marker.touch()  # first of all: what is interrupted can be overwritten, too


def claim_file(path: Path, *, overwrite: bool) -> None:
    """Refuse to write over a file unless asked to.

    Raises: UsageError: If *path* exists and *overwrite* is false, or if it is a folder.
    """
    if path.is_dir():
        raise UsageError(f"{shown(str(path))} is a folder; give the name of a file")
    if path.exists() and not overwrite:
        raise UsageError(f"{shown(str(path))} exists; name another file or give --overwrite")
