"""What a job says while it works: lines for people on standard output, warnings on standard error."""

import time
from collections.abc import Callable, Iterator
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

# no markup: what is printed may hold names of files, in tables too
console = Console(markup=False, highlight=False, soft_wrap=True, emoji=False)
error_console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True, emoji=False)


def say(text: str) -> None:
    """Print lines that may have come from a file: nothing in them moves the cursor."""
    console.print(*map(shown, text.split("\n")), sep="\n")


def warn(text: str) -> None:
    """Print a line to standard error, also when the run is quiet."""
    error_console.print(Text("warning:", style="yellow"), shown(text))


def complain(*lines: str) -> None:
    """Print lines to standard error as they are."""
    error_console.print(*map(shown, lines), sep="\n")


class _RateColumn(ProgressColumn):
    """Items a second, of late."""

    def render(self, task: Task) -> Text:
        """What stands in the bar."""
        return Text("" if task.speed is None else f"{task.speed:.3g}/s")


class Pace:
    """How far a loop is, how fast, and how long it will take, in words and now and then.

    Args:
        total: Items to go through, from now on.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._began = self._told = time.monotonic()
        self._done = 0

    def advance(self) -> str | None:
        """One item more is done; what is to be told of that, twice a minute."""
        self._done += 1
        now = time.monotonic()
        if now - self._told < _EVERY_S:
            return None
        self._told = now
        rate = self._done / (now - self._began)
        left = (self.total - self._done) / rate
        return f"{self._done} of {self.total}, {rate:.3g}/s, {left:.0f} s left"


@contextmanager
def tracked(what: str, *, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar while a loop runs or, where there is no terminal, lines; call what is given once an item."""
    if not console.is_terminal:
        pace = Pace(total)

        def advance() -> None:
            if (text := pace.advance()) is not None:
                say(f"{what}: {text}")

        yield advance
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), _RateColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=console.quiet) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)
