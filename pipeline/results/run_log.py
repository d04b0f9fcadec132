"""``run.log``: when a run began, how it went and how it ended; no name, number or path gets into it."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from pneumoseg.pipeline.core.console import Pace


class RunLog:
    """Lines with the time in front, added to what earlier runs have left.

    Args:
        path: Of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pace = Pace(0)

    def line(self, text: str) -> None:
        """Add a line; *text* is ours, and quotes no file."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{now} {text}\n")

    def expect(self, total: int) -> None:
        """From now on, so many files are to be done."""
        self._pace = Pace(total)

    def advance(self) -> None:
        """One file more is done; twice a minute that is told, with the rate and the time left."""
        if (text := self._pace.advance()) is not None:
            self.line(text)


@contextmanager
def logged(path: Path, *, facts: Mapping[str, object]) -> Iterator[RunLog]:
    """Log a run: what it begins with, and how it ends."""
    log = RunLog(path)
    log.line("begin " + " ".join(f"{key}={value}" for key, value in facts.items()))
    try:
        yield log
    except BaseException as error:
        with suppress(OSError):  # a disk that is full of results has no room for this either
            log.line(f"ended by {type(error).__name__}")  # its text may quote a file
        raise
    log.line("end")


def counts(reasons: Counter[str]) -> str:
    """Reasons and how often each was found."""
    return " ".join(f"{reason}={count}" for reason, count in sorted(reasons.items())) or "none"
