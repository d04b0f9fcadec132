"""What a job says while it works: lines for people on standard output, warnings on standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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

from pneumoseg.pipeline.names import shown

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


@contextmanager
def tracked(what: str, *, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar while a loop runs, where somebody can see it; call what is given once an item."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), _RateColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)
