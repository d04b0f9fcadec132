"""Output of a job while it runs: messages on standard output, warnings on standard error."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from pneumoseg.pipeline.core.names import shown

_EVERY_S: Final = 30.0
_SHOWN_LINES: Final = 5

# without markup: printed texts and tables contain names of files
console = Console(markup=False, highlight=False, soft_wrap=True, emoji=False)
error_console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True, emoji=False)


def say(text: str) -> None:
    """Print text, one line for each of its lines; control characters are escaped.

    Args:
        text: Text that may contain names from files.
    """
    console.print(*map(shown, text.split("\n")), sep="\n")


def warn(text: str) -> None:
    """Print a warning of one line to standard error, even with -q."""
    error_console.print(Text("warning:", style="yellow"), shown(text))


def complain(*lines: str) -> None:
    """Print lines to standard error without a prefix; control characters are escaped."""
    error_console.print(*map(shown, lines), sep="\n")


def warn_some(lines: Sequence[str], what: str) -> None:
    """Warn of a number of findings, and print the first of them.

    Args:
        lines: One line for each finding; nothing is printed where there are none.
        what: What their number counts, in words that fit one and many.
    """
    if not lines:
        return
    warn(f"{what}: {len(lines)}" + ("" if len(lines) <= _SHOWN_LINES else f"; the first {_SHOWN_LINES}"))
    complain(*(f"  {line}" for line in lines[:_SHOWN_LINES]))


class _RateColumn(ProgressColumn):
    """Current rate in items per second."""

    def render(self, task: Task) -> Text:
        """Render the rate; empty before the first item."""
        return Text("" if task.speed is None else f"{task.speed:.3g}/s")


class Pace:
    """Progress, rate and remaining time of a loop, as a line twice a minute.

    Args:
        total: Number of items that remain.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._began = self._last_line = time.monotonic()
        self._done = 0

    def advance(self) -> str | None:
        """Count one more item.

        Returns: A line to print, or None if the last one is less than half a minute old.
        """
        self._done += 1
        now = time.monotonic()
        if now - self._last_line < _EVERY_S:
            return None
        self._last_line = now
        rate = self._done / (now - self._began)
        left = (self.total - self._done) / rate
        return f"{self._done} of {self.total}, {rate:.3g}/s, {left:.0f} s left"


@contextmanager
def tracked(label: str, *, total: int) -> Iterator[Callable[[], None]]:
    """Show the progress of a loop: as a bar, or as lines where there is no terminal.

    Args:
        label: Name of what the loop does.
        total: Number of items.

    Yields: A function to call after each item.
    """
    if not console.is_terminal:
        pace = Pace(total)

        def advance() -> None:
            if (text := pace.advance()) is not None:
                say(f"{label}: {text}")

        yield advance
        return
    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), _RateColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=console.quiet) as progress:
        task = progress.add_task(label, total=total)
        yield lambda: progress.advance(task)
