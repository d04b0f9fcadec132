"""The command `pneumoseg`: the list of its commands, its errors and its exit codes.

Commands import their jobs when they are called: MONAI takes seconds to import, and `--help` should not.
"""

import signal
import sys
import traceback
from importlib.metadata import version
from types import FrameType
from typing import Annotated, Final

import typer

from pneumoseg.pipeline.cli.archive_commands import listen, pull
from pneumoseg.pipeline.cli.data_commands import check, prepare
from pneumoseg.pipeline.cli.model_commands import evaluate, predict, submit
from pneumoseg.pipeline.cli.option_groups import with_groups
from pneumoseg.pipeline.cli.options import Printing
from pneumoseg.pipeline.cli.result_commands import describe, report, score
from pneumoseg.pipeline.cli.tool_commands import demo, doctor, export, models
from pneumoseg.pipeline.cli.training_commands import quantize, train, tune
from pneumoseg.pipeline.core.console import complain, say
from pneumoseg.pipeline.core.errors import JobError, explain
from pneumoseg.pipeline.core.memory import keep_freed_memory
from pneumoseg.pipeline.core.surroundings import provide_user

_INTERRUPTED: Final = 128 + signal.SIGINT
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Find and outline pneumothorax on chest radiographs. Research software, not a medical device.",
)
for _command in (
    *(demo, prepare, train, tune, evaluate, submit, score),
    *(predict, listen, pull),
    *(models, export, quantize, describe, check, report, doctor),
):
    app.command()(with_groups(_command))


def main() -> None:
    """Run the command, and exit with its code; an error is printed in one line, without -v."""
    interrupted = _note_interruptions()
    provide_user()
    keep_freed_memory()
    try:
        code = app(standalone_mode=False)
        if code == _INTERRUPTED:  # typer turns KeyboardInterrupt into this code without a message
            _fail("interrupted", code=code)
    except (typer.Abort, KeyboardInterrupt) as error:
        ended_early = error.__cause__  # typer takes the end of any file for that of the keyboard's input
        if isinstance(ended_early, EOFError):
            code = _fail(explain(ended_early), code=1)
        else:
            code = _fail("interrupted", code=_INTERRUPTED)
    except typer.TyperException as error:
        message = error.format_message()  # empty where no argument was given, which prints the help
        code = _fail(f"{message} See --help.", code=error.exit_code) if message else error.exit_code
    except JobError as error:
        code = _fail(*str(error).split("\n"), code=error.exit_code)
    except Exception as error:  # noqa: BLE001  (the last resort: a bug in pneumoseg is reported in one line, too)
        # a library that is interrupted while it is imported may raise anything
        code = _fail("interrupted", code=_INTERRUPTED) if interrupted else _fail(explain(error), code=1)
    if interrupted and hasattr(signal, "pthread_sigmask"):
        # after an interruption within exec(), Python would end itself by a signal instead of with the code
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    sys.exit(code)


def _note_interruptions() -> list[int]:
    """Note each SIGINT in a list before it raises KeyboardInterrupt, which a library may swallow."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.default_int_handler(number, frame)

    # a process in the background may ignore it
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, note)
    return received


def _fail(message: str, *details: str, code: int) -> int:
    if Printing.tracebacks:
        complain(*traceback.format_exc().splitlines())
    complain(f"error: {message}", *details)
    return code


def _print_version(value: bool) -> None:
    if value:
        say(f"pneumoseg {version('pneumoseg')}")
        raise typer.Exit


@app.callback()
@with_groups
def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Accept the options that come before the name of a command."""
