"""Robust reader of CSV files: any size, encoding or separator is read, or refused with a reason."""

import codecs
import csv
import gzip
import itertools
import re
import stat
import zlib
from collections.abc import Iterable, Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO, Generic, Literal, TypeVar, cast

LabelFileErrorKind = Literal[
    "DUPLICATE_COLUMN", "EMPTY_FILE", "ENCODING", "MALFORMED", "MISSING_COLUMN", "TOO_LARGE", "UNREADABLE",
]  # fmt: skip

_Kind = TypeVar("_Kind", bound=str)

UNKNOWN = frozenset({"", "nan", "none", "null", "na", "<na>", "n/a", "#n/a"})
"""Cells, in lower case, that mean that a value is unknown."""
MAX_BYTES = 256 * 2**20
MAX_LINES = 2**20  # the size of a full spreadsheet; a file of line ends alone would take long

_ROUNDED = re.compile(r"[0-9]([.,][0-9]+)?[eE]\+[0-9]{2,}")
_MAYBE_ROUNDED = re.compile(r"[0-9]{15}0+")
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_WIDE_TEXT = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SEPARATORS = ",;\t|"
_SEPARATOR_LINE = re.compile(rf'\s*"?sep=([{_SEPARATORS}])"?\s*', re.IGNORECASE)
_NOT_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


class LabelError(ValueError, Generic[_Kind]):
    """Error of a label.

    Args:
        kind: Kind of the error, one word.
        message: What was found, and what would be valid.
    """

    def __init__(self, kind: _Kind, message: str) -> None:
        super().__init__(kind, message)  # both, so that the error survives pickling
        self.kind = kind

    def __str__(self) -> str:
        return str(self.args[1])


class LabelFileError(LabelError[LabelFileErrorKind]):
    """Error of a CSV file as a whole."""


def is_rounded(text: str) -> bool:
    """Check whether a spreadsheet has taken a text for a number and rounded it, like ``1.23457E+17``.

    Args:
        text: Id of an image or a patient.
    """
    return _ROUNDED.fullmatch(text) is not None


def may_be_rounded(text: str) -> bool:
    """Check whether a text is a number whose digits end where those of a spreadsheet's numbers do, at the fifteenth.

    Args:
        text: Id of an image or a patient.
    """
    return is_rounded(text) or _MAYBE_ROUNDED.fullmatch(text) is not None


def read_rows(path: Path, *, max_bytes: int = MAX_BYTES) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not empty, with the number of its first line.

    The text is UTF-8, with or without a byte order mark; an invalid byte becomes a lone surrogate, so that it affects
    its cell only. The separator is the most frequent of comma, semicolon, tab and bar in the first row, or the one that
    a spreadsheet names in a line ``sep=;`` above it. A gzip file is recognised by its content, and its
    uncompressed size is checked before it is read.

    Args:
        path: Path of the file.
        max_bytes: Largest uncompressed size of a file that is read.

    Raises: LabelFileError: If the file is empty, too large, not text, or its quotes do not close.
    """
    line = 0
    with TextIOWrapper(
        _open_binary(path, max_bytes), encoding="utf-8-sig", errors="surrogateescape", newline=""
    ) as text:
        try:
            lines = _bounded(text, path)
            numbered = (
                (n, row.lstrip("\ufeff")) for n, row in enumerate(lines, 1) if row.strip("\ufeff \t\r\n")
            )
            line, first = next(numbered, (0, ""))
            separator = max(_SEPARATORS, key=first.count)  # of several, the first
            if named := _SEPARATOR_LINE.fullmatch(first):
                separator = named[1]
                line, first = next(numbered, (0, ""))
            if not first:
                raise LabelFileError("EMPTY_FILE", f"{path} holds no row; was it saved or loaded to the end?")
            if _NOT_TEXT.search(first):
                raise LabelFileError("ENCODING", f"{path}, line {line} is not text; CSV in UTF-8 would fit")
            csv.field_size_limit(max(max_bytes, csv.field_size_limit()))  # global, so it is only ever raised
            rows = csv.reader(
                itertools.chain([first], lines), delimiter=separator, skipinitialspace=True, strict=True
            )
            skipped = line - 1
            for cells in rows:
                if any(cell.strip() for cell in cells):
                    yield line, cells
                line = skipped + rows.line_num + 1
        except csv.Error as error:
            raise LabelFileError(
                "MALFORMED", f"{path}, line {line}: {error}; does a quote not close?"
            ) from None
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise LabelFileError("MALFORMED", f"{path} is a damaged gzip file: {error}") from None


def _bounded(lines: Iterable[str], path: Path) -> Iterator[str]:
    """Yield lines up to the limit, including those inside of quotes."""
    for number, line in enumerate(lines):
        if number >= MAX_LINES:
            raise LabelFileError("TOO_LARGE", f"{path} has more than {MAX_LINES:,} lines, which is the limit")
        yield line


def _open_binary(path: Path, max_bytes: int) -> BinaryIO:
    """Open a regular file within the size limit, uncompressed where it is gzip."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would block
            raise LabelFileError("UNREADABLE", f"{path} is not a regular file; a CSV file would fit")
        if status.st_size > max_bytes:
            raise LabelFileError(
                "TOO_LARGE", f"{path} has {status.st_size:,} bytes; the limit is {max_bytes:,}"
            )
        with path.open("rb") as file:
            start = file.read(4)
        if start.startswith(_GZIP):
            _measure_gzip(path, max_bytes)
            return cast("BinaryIO", gzip.open(path))
        if start.startswith((_ZIP, *_WIDE_TEXT)):
            form = "a zip archive or a workbook" if start == _ZIP else "UTF-16 text"
            raise LabelFileError("ENCODING", f"{path} is {form}; CSV in UTF-8 would fit")
        return path.open("rb")
    except OSError as error:
        raise LabelFileError("UNREADABLE", f"{path} cannot be read: {error.strerror}") from None


def _measure_gzip(path: Path, max_bytes: int) -> None:
    """Refuse a gzip file that exceeds the limit; the size that the file states may be wrong."""
    size = 0
    try:
        with gzip.open(path) as file:
            while chunk := file.read(2**20):
                size += len(chunk)
                if size > max_bytes:
                    raise LabelFileError(
                        "TOO_LARGE", f"{path} unpacks to more than the limit of {max_bytes:,} bytes"
                    )
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise LabelFileError("MALFORMED", f"{path} is a damaged gzip file: {error}") from None
