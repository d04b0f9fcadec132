"""The command as a user types it, without the seconds that another interpreter needs for its imports."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from threading import Event, Thread
from unittest.mock import patch

from pneumoseg.pipeline.cli import app as cli


def run_command(*words: object) -> subprocess.CompletedProcess[str]:
    """Run ``pneumoseg`` in this process; returns its exit code and what it printed."""
    arguments = ["pneumoseg", *map(str, words)]
    out, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(errors), patch.object(sys, "argv", arguments):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
    assert isinstance(code, int)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), errors.getvalue())


@contextmanager
def signalled(number: signal.Signals, when: Callable[[], object]) -> Iterator[None]:
    """Send this process a signal as soon as *when* returns something true; nothing happens if it comes too late."""
    over = Event()

    def watch() -> None:
        while not over.wait(0.005):
            if when():
                os.kill(os.getpid(), number)
                return

    before = signal.signal(number, signal.SIG_IGN)
    watcher = Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        signal.signal(number, before)
