"""Record the files that this process opens."""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_records: list[Counter[Path]] = []


def _note(event: str, words: tuple[Any, ...]) -> None:
    if event == "open" and _records and isinstance(words[0], str | bytes | os.PathLike):
        for record in _records:
            record[Path(os.fsdecode(words[0]))] += 1


sys.addaudithook(_note)  # it cannot be removed, so that it is added once


@contextmanager
def opened_files() -> Iterator[Counter[Path]]:
    """Count how often each file is opened in this process."""
    record: Counter[Path] = Counter()
    _records.append(record)
    try:
        yield record
    finally:
        _records.pop()
