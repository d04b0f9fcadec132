"""What a job says while it works: lines for people on standard output, warnings on standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from pneumoseg.pipeline.files import shown

console = Console(highlight=False, soft_wrap=True, emoji=False)
error_console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def say(text: str) -> None:
    """Print a line that may have come from a file: nothing in it is markup, nothing in it moves the cursor."""
    console.print("\n".join(shown(line) for line in text.split("\n")), markup=False)


def warn(text: str) -> None:
    """Print a line to standard error, also when the run is quiet."""
    error_console.print("[yellow]warning:[/]", Text(shown(text)))


@contextmanager
def tracked(what: str, *, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar while a loop runs, where somebody can see it; call what is given once an item."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)
