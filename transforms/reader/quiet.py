"""Suppression of warnings and log records of the DICOM libraries, which contain values of elements."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock

_reading: ContextVar[bool] = ContextVar("reading", default=False)
_NOISY_MODULES = r"(pydicom|highdicom|PIL|openjpeg|imagecodecs)\b"
_NOISY_LOGGERS = (
    "pydicom",
    "pydicom.pixels.decoders.base",
    "pydicom.pixels.utils",
    "highdicom.base",
    "highdicom.sc.sop",
)

for _name in _NOISY_LOGGERS:
    logging.getLogger(_name).addFilter(lambda _record: not _reading.get())


class _SharedSilence:
    """Filter warnings while at least one thread reads.

    Before Python 3.14 the filters are shared by the whole process. If each thread saved and restored them itself, the
    last one to leave could restore the filters of another thread.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._readers = 0
        self._filters = warnings.catch_warnings()

    def enter(self) -> None:
        with self._lock:
            if self._readers == 0:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=_NOISY_MODULES)
            self._readers += 1

    def leave(self) -> None:
        with self._lock:
            self._readers -= 1
            if self._readers == 0:
                self._filters.__exit__(None, None, None)


_silence = _SharedSilence()


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Suppress warnings and log records of pydicom and the decoders; thread-safe."""
    token = _reading.set(True)
    _silence.enter()
    try:
        yield
    finally:
        _silence.leave()
        _reading.reset(token)
