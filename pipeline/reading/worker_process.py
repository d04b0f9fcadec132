"""The parent's side of a worker process: the files sent to it, its time limit, and why it ended."""

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
"""Last message of a worker: the process has ended."""

_START_S: Final = 120.0  # long enough for a cold start from a network drive
# the last is for glibc: returning memory after each image costs a quarter of the time
_ENVIRONMENT: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_TOP_PAD_": str(2**26)}
# the worker imports modules from where its parent does, and never from the working directory (-P)
_SERVE: Final = (
    "import sys; sys.path[:] = sys.argv[1:]\n"
    "from pneumoseg.pipeline.reading.decode_worker import serve; serve()"
)

Answers = SimpleQueue[tuple["WorkerProcess", Any]]


class WorkerProcess:
    """A process that reads one file after another.

    Args:
        orders: How to read files.
        answers: Queue that gets a pair of this object and a result for each file, in order; at last, `END`.
    """

    def __init__(self, orders: Orders[Any], answers: Answers) -> None:
        self.seconds = orders.seconds
        self.files: deque[tuple[int, Path]] = deque()
        """Files that were sent and have no result yet, with their indices."""
        self.due = time.monotonic() + _START_S
        """Time at which the next message is overdue."""
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

    def ask(self, index: int, path: Path) -> None:
        """Send one more file.

        Args:
            index: Index of the file.
            path: Path of the file.
        """
        self.files.append((index, path))
        self._write(pickle.dumps(path))
        if self._is_ready and len(self.files) == 1:
            self.due = time.monotonic() + self.seconds

    def take(self, answer: object) -> int | None:
        """Record a message of the worker.

        Args:
            answer: The message.

        Returns: Index of the file that the message is the result of; None for the first message, `READY`.
        """
        index = None
        if self._is_ready:
            index, _ = self.files.popleft()
            self._has_answered = True
        elif answer == READY:
            self._is_ready = True
        self.due = time.monotonic() + self.seconds if self.files else math.inf
        return index

    def interrupt(self) -> None:
        """Kill the process for exceeding its time limit; results that it has sent before are still received."""
        self._late = self.files[0] if self._is_ready else None
        self.due = math.inf
        self._process.kill()

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None

    def end(self) -> None:
        """Kill the process and release its resources."""
        self._process.kill()
        self._process.wait()
        self._thread.join()
        self._replies.close()
        with suppress(OSError):  # unsent messages are lost
            self._requests.close()

    def blame(self) -> RadiographError | None:
        """Give the error of the first of its files; None if another worker should try that file.

        A decoder may damage its process and fail at a later file, so only the end of a new process blames a file.

        Raises: JobError: If the process never became ready.
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
        with suppress(OSError):  # the process is dead; its `END` will follow
            self._requests.write(request)
            self._requests.flush()

    def _receive(self, answers: Answers) -> None:
        """Forward messages to the queue in a separate thread, so that a worker never has to wait."""
        try:
            while True:
                answers.put((self, pickle.load(self._replies)))  # noqa: S301  (both ends are this program)
        except Exception:  # noqa: BLE001  (cut off or damaged: both mean that it has ended)
            answers.put((self, END))
