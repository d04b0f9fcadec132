"""One worker process, as its parent sees it: what it was asked, when it is late, and of what it died."""

import math
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import IO, Any, Final, cast

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.reading.decode_worker import READY, Orders
from pneumoseg.transforms.reader.reasons import RadiographError, Reason

END: Final = object()
"""The last thing that comes from a worker: there is nobody there any more."""

_START_S: Final = 120.0  # a cold start from a network drive has to fit
# the last is for glibc: to hand memory back after each image costs a quarter of the time
_ENVIRONMENT: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_TOP_PAD_": str(2**26)}
# the worker finds modules where its parent does, and never in the folder that it happens to be called from (-P)
_SERVE: Final = (
    "import sys; sys.path[:] = sys.argv[1:]\n"
    "from pneumoseg.pipeline.reading.decode_worker import serve; serve()"
)

Answers = SimpleQueue[tuple["WorkerProcess", Any]]


class WorkerProcess:
    """A process that reads one file after another.

    Args:
        orders: What to do with each file.
        answers: Gets a pair of this object and an answer for each file, in the order asked; at last, `END`.
    """

    def __init__(self, orders: Orders[Any], answers: Answers) -> None:
        self.seconds = orders.seconds
        self.files: deque[tuple[int, Path]] = deque()
        """What it was asked and has not answered, with running numbers."""
        self.due = time.monotonic() + _START_S
        """When it should have said something."""
        self._is_ready = False
        self._has_answered = False
        self._late: tuple[int, Path] | None = None
        self._process = subprocess.Popen(  # noqa: S603  (ourselves)
            [sys.executable, "-P", "-c", _SERVE, *filter(None, sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | _ENVIRONMENT,
        )
        self._requests = cast("IO[bytes]", self._process.stdin)
        self._replies = cast("IO[bytes]", self._process.stdout)
        self._write(pickle.dumps(orders))
        self._thread = Thread(target=self._receive, args=[answers], daemon=True)
        self._thread.start()

    def ask(self, number: int, path: Path) -> None:
        """Tell it of one more file."""
        self.files.append((number, path))
        self._write(pickle.dumps(path))
        if self._is_ready and len(self.files) == 1:
            self.due = time.monotonic() + self.seconds

    def take(self, answer: object) -> int | None:
        """Note that it has answered; give the number of the file, or None when it was its first word."""
        number = None
        if self._is_ready:
            number, _ = self.files.popleft()
            self._has_answered = True
        elif answer == READY:
            self._is_ready = True
        self.due = time.monotonic() + self.seconds if self.files else math.inf
        return number

    def interrupt(self) -> None:
        """End it for being late; what it has said before is still to come."""
        self._late = self.files[0] if self._is_ready else None
        self.due = math.inf
        self._process.kill()

    def end(self) -> None:
        """End it, whatever it is doing, and let go of all that it holds."""
        self._process.kill()
        self._process.wait()
        self._thread.join()
        self._replies.close()
        with suppress(OSError):  # what was not sent is lost
            self._requests.close()

    def blame(self) -> RadiographError | None:
        """Say why the first of its files is not to be asked again; None where another worker should try it.

        A decoder may damage its process and let the next file suffer, so only a fresh one's death tells anything.

        Raises: JobError: If it never was ready.
        """
        if not self._is_ready:
            raise JobError(
                f"a process to read files in could not be started ({self._last_words()}); "
                "`python -c 'import pneumoseg.transforms.reader.radiograph'` may show why"
            )
        if self._late is not None:
            is_late = bool(self.files) and self.files[0] == self._late
            return RadiographError(Reason.TIMED_OUT, f"more than {self.seconds:g} s") if is_late else None
        if self._has_answered or not self.files:
            return None
        return RadiographError(Reason.DECODER_DIED, f"its worker ended ({self._last_words()})")

    def _last_words(self) -> str:
        code = self._process.wait()
        return str(signal.strsignal(-code)) if code < 0 else f"exit code {code}"

    def _write(self, request: bytes) -> None:
        with suppress(OSError):  # it is dead; its end is on the way
            self._requests.write(request)
            self._requests.flush()

    def _receive(self, answers: Answers) -> None:
        """Pass on what comes, in a thread of its own, so that a worker never waits to be heard."""
        try:
            while True:
                answers.put((self, pickle.load(self._replies)))  # noqa: S301  (both ends are this program)
        except Exception:  # noqa: BLE001  (cut off, or damaged on the way: both are its end)
            answers.put((self, END))
