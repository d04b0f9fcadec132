"""The code that runs in a worker process: read one radiograph after another, within limits, and send the results.

A decoder that runs out of memory ends its process, and one that loops never returns; both must happen here and not in
the process that runs the batch. `pneumoseg.pipeline.reading.readers` starts workers and replaces them.
Nothing in here imports torch or MONAI, since a worker has to start quickly.
"""

import math
import os
import pickle
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Generic, Protocol, TypeVar

from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.reasons import RadiographError

READY: Final = "ready"
_BACKSTOP_S: Final = 2
_Result_co = TypeVar("_Result_co", covariant=True)


class Read(Protocol[_Result_co]):
    """A module-level function that reads one file, as `read_radiograph` does."""

    def __call__(self, path: Path, /, *, acceptance: AcceptanceFilters) -> _Result_co:
        """Read *path*, or raise a `RadiographError`."""


@dataclass(frozen=True, kw_only=True)
class Orders(Generic[_Result_co]):
    """The first message to a worker: how to read files.

    Args:
        read: Function that reads a file.
        acceptance: Which files are accepted as frontal chest radiographs.
        seconds: Time limit for one file.
        memory_bytes: Memory limit, beyond the memory of a worker that is ready.
    """

    read: Read[_Result_co]
    acceptance: AcceptanceFilters
    seconds: float
    memory_bytes: int

    def carry_out(self, path: Path) -> _Result_co | RadiographError:
        """Read one file in this process; a file that cannot be used gives its error."""
        try:
            return self.read(path, acceptance=self.acceptance)
        except RadiographError as error:
            return error


def serve() -> None:
    """Read the files named on standard input, and write each result to standard output, until the input closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    requests, answers = _take_pipes()
    orders: Orders[object] = pickle.load(requests)  # noqa: S301  (from our parent; imports the reader)
    at_start = _address_space()
    _limit_memory(at_start, orders.memory_bytes)
    _send(answers, READY)
    _be_silent()
    for path in _paths(requests):
        _set_alarm(orders.seconds + _BACKSTOP_S)
        result = orders.carry_out(path)
        _set_alarm(0)  # sending may block until the parent reads
        _send(answers, result)
        if _address_space() > at_start + orders.memory_bytes // 2:
            return  # damaged streams make decoders leak; the parent starts another worker


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Reserve the pipes for messages: output that a library prints must not be mixed with a result."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    return requests, answers


def _be_silent() -> None:
    """Discard standard error: decoders may quote a file there, and the error gives the reason."""
    os.dup2(0, 2)


def _paths(requests: BinaryIO) -> Iterator[Path]:
    while True:
        try:
            yield pickle.load(requests)  # noqa: S301
        except EOFError:  # the parent has closed the pipe or is dead
            return


def _send(answers: BinaryIO, answer: object) -> None:
    pickle.dump(answer, answers, protocol=5)  # pixels go out as they are, without a copy
    answers.flush()


def _set_alarm(seconds: float) -> None:
    """Let the system end this process in case the parent, which keeps the time limit, is dead."""
    if hasattr(signal, "alarm"):
        signal.alarm(math.ceil(seconds))


def _address_space() -> int:
    """Give the virtual memory of this process in bytes; 0 if the system does not report it."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[0])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _limit_memory(at_start: int, more: int) -> None:
    """Let the system refuse memory beyond the limit; macOS and Windows have no such limit."""
    try:
        import resource  # noqa: PLC0415  (not on Windows)
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would contain pixels
    if at_start:
        resource.setrlimit(resource.RLIMIT_AS, (at_start + more, at_start + more))
