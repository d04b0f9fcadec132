"""Readers of the tables and numbers that jobs write."""

import csv
import json
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pneumoseg.pipeline.core.errors import JobError

Row = Mapping[str, str]
_LONGEST_CELL: Final = 2**31 - 1  # run lengths of complex masks exceed the default limit of `csv`
_DAMAGE: Final = (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError)


@contextmanager
def results_of(folder: Path) -> Iterator[None]:
    """Convert errors of damaged results, or of results of another release, to a `JobError`.

    Args:
        folder: Folder of the results, for the message.

    Raises: JobError: If reading the results within this context fails.
    """
    try:
        yield
    except _DAMAGE as error:
        raise JobError(
            f"{folder}: holds results that this release cannot show ({error!r}); run the job that wrote them anew"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: Path of the file.

    Raises: JobError: If the file is missing, damaged, or contains no object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise JobError(f"{path}: is missing; run the job that writes it anew") from None
    except (OSError, ValueError, RecursionError) as error:
        raise JobError(f"{path}: cannot be read ({error}); run the job that wrote it anew") from None
    if not isinstance(content, dict):
        raise JobError(
            f"{path}: holds a {type(content).__name__}, not an object; run the job that wrote it anew"
        )
    return content


def read_rows(path: Path, *, without: Collection[str] = ()) -> list[Row]:
    """Read the rows of a table written by `write_csv`.

    Args:
        path: Path of the table.
        without: Columns to leave out, for example those that would exhaust the memory.

    Raises: JobError: If the file is missing or damaged.
    """
    longest = csv.field_size_limit(_LONGEST_CELL)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = csv.DictReader(file)
            if table.fieldnames is None:
                raise JobError(f"{path}: is empty; run the job that wrote it anew")
            return [
                {name: value or "" for name, value in row.items() if name and name not in without}
                for row in table
            ]
    except FileNotFoundError:
        raise JobError(f"{path}: is missing; run the job that writes it anew") from None
    except (OSError, ValueError, csv.Error) as error:
        raise JobError(f"{path}: cannot be read ({error}); run the job that wrote it anew") from None
    finally:
        csv.field_size_limit(longest)


def number(text: str | None) -> float | None:
    """Convert a cell to a number.

    Args:
        text: Content of the cell.

    Returns: Number; None where the cell is empty, non-finite or not a number.
    """
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def number_or_text(text: str) -> str | float | int | None:
    """Convert a cell to a number where it is one.

    Args:
        text: Content of the cell.

    Returns: Number or text; None where the cell is empty.
    """
    value = number(text)
    if value is None:
        return text or None
    return int(value) if text.lstrip("-").isdecimal() else value
