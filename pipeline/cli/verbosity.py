"""The options -v and -q, which every command has."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer

from pneumoseg.pipeline.core.console import console


class Verbosity:
    """State of the process that -v sets; -q sets that of the console.

    Attributes:
        tracebacks: Whether an error is printed with its traceback.
    """

    tracebacks = False

    @classmethod
    def be_verbose(cls, value: bool) -> None:
        """Print tracebacks if *value* is true; never turn them off again."""
        cls.tracebacks = cls.tracebacks or value

    @classmethod
    def be_quiet(cls, value: bool) -> None:
        """Silence standard output if *value* is true; never turn it on again."""
        console.quiet = console.quiet or value


_OPTIONS: Final = {
    "verbose": Annotated[
        bool,
        typer.Option(
            "-v", "--verbose", callback=Verbosity.be_verbose, help="Print the traceback of an error."
        ),
    ],
    "quiet": Annotated[
        bool,
        typer.Option("-q", "--quiet", callback=Verbosity.be_quiet, help="Print only warnings and errors."),
    ],
}


def with_verbosity(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options -v and -q to a command.

    Their callbacks run while the command line is parsed, so that the command itself does not receive them.

    Args:
        function: Command whose annotations typer reads.

    Returns: The command with two options more.
    """

    @functools.wraps(function)
    def call(**options: Any) -> None:
        function(**{name: value for name, value in options.items() if name not in _OPTIONS})

    signature = inspect.signature(function)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
        for name, annotation in _OPTIONS.items()
    ]
    parameters = [*signature.parameters.values(), *added]
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call
