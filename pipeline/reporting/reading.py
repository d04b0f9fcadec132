"""Reading back the tables and numbers that jobs have written."""

import csv
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from pneumoseg.pipeline.errors import JobError

Row = Mapping[str, str]
_CELL_LETTERS: Final = 2**27  # run lengths of a large, noisy mask


def read_json(path: Path) -> dict[str, Any]:
    """An object of JSON.

    Raises: JobError: If there is none, or something else.
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
    """The rows of a table as `write_csv` has written it.

    Args:
        path: Of the table.
        without: Columns to leave out: those that would fill the memory.

    Raises: JobError: If there is none, or none that can be read.
    """
    csv.field_size_limit(max(_CELL_LETTERS, csv.field_size_limit()))  # global, so it is only ever raised
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [
                {name: value or "" for name, value in row.items() if name and name not in without}
                for row in csv.DictReader(file)
            ]
    except FileNotFoundError:
        raise JobError(f"{path}: is missing; run the job that writes it anew") from None
    except (OSError, ValueError, csv.Error) as error:
        raise JobError(f"{path}: cannot be read ({error}); run the job that wrote it anew") from None


def number(text: str | None) -> float | None:
    """A cell as a number; None where it is empty or something else."""
    try:
        return None if not text else float(text)
    except ValueError:
        return None


def number_or_text(text: str) -> str | float | int | None:
    """A cell as what it looks like."""
    value = number(text)
    if value is None:
        return text or None
    return int(value) if text.lstrip("-").isdecimal() else value
