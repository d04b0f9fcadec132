"""Being asked to stop: finish the step, save, and leave with the exit code of the signal."""

import signal
from types import FrameType, TracebackType
from typing import Any, Self

from pneumoseg.pipeline.core.errors import JobError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class InterruptedRunError(JobError):
    """Somebody asked the run to stop, and it was saved.

    Args:
        message: Where it stopped and how it goes on.
        number: Of the signal.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class Interruption:
    """Notes SIGINT and SIGTERM while it is entered; a second one takes its usual course at once.

    Attributes:
        received: Number of the signal, or 0.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        try:
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        except ValueError:  # only the main thread hears signals; elsewhere they are somebody else's task
            self._before = {}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.received = number
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
