"""Interruption by a signal: finish the step, save, and exit with the code of the signal."""

import signal
from types import FrameType, TracebackType
from typing import Any, Self

from pneumoseg.pipeline.core.errors import JobError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class InterruptedRunError(JobError):
    """Report that a run was interrupted and saved.

    Args:
        message: Where it stopped and how to resume it.
        signal_number: Number of the signal.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class Interruption:
    """Record SIGINT and SIGTERM inside a `with` block; a second signal has its default effect at once.

    Attributes:
        received: Number of the signal, or 0 before one arrives.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        try:
            self._before = {number: signal.signal(number, self._record) for number in _SIGNALS}
        except ValueError:  # only the main thread can handle signals
            self._before = {}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _record(self, number: int, _: FrameType | None) -> None:
        self.received = number
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
