"""Read radiographs in worker processes, so that the batch continues whatever a file does to its reader."""

import itertools
import time
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

from pneumoseg.pipeline.reading.decode_worker import Orders, Read
from pneumoseg.pipeline.reading.worker_process import END, Answers, WorkerProcess
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.reasons import RadiographError

SECONDS: Final = 10.0
"""Time limit for one file; a radiograph takes 1 to 100 ms, depending on its encoding."""
MEMORY_BYTES: Final = 3 * 2**29
"""Memory limit for one file, beyond the memory of an idle worker."""

_LONGEST_WAIT_S: Final = 60.0
_QUEUED: Final = 4  # files sent to a worker in advance, so that it never waits for the next
_Result = TypeVar("_Result")


class Readers(Generic[_Result]):
    """Worker processes that read files, and give the results in the order of the files.

    A file that exceeds the time limit or ends its worker gets its reason, and another worker continues after it.
    Workers start when the context is entered, and end with it; they serve any number of calls of `read`.

    Args:
        read: Function that reads a file: `read_radiograph`, `read_facts`, or another module-level function.
        acceptance: Which files are accepted as frontal chest radiographs.
        workers: Number of processes; 0 reads in this process, without protection from damaged files.
        window: Largest number of results that wait to be used; with a larger one, more memory is needed and a slow
            file delays fewer others.
        seconds: Time limit for one file.
        memory_bytes: Memory limit for one file, where the system supports it.
    """

    def __init__(
        self,
        read: Read[_Result],
        *,
        acceptance: AcceptanceFilters | None = None,
        workers: int = 1,
        window: int = 16,
        seconds: float = SECONDS,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self.count = workers
        self.window = window
        self._orders: Orders[_Result] = Orders(
            read=read,
            acceptance=acceptance or AcceptanceFilters(),
            seconds=seconds,
            memory_bytes=memory_bytes,
        )
        self._answers: Answers = SimpleQueue()
        self._workers: list[WorkerProcess] = []

    def __enter__(self) -> Self:
        self._fill()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._workers:
            self._workers.pop().end()

    def read(self, paths: Iterable[str | Path]) -> Generator[_Result | RadiographError]:
        """Read files; only one call may be active at a time.

        Args:
            paths: Paths of the files.

        Returns: For each of *paths*, in order, what was read, or the error.
        Raises: JobError: If a worker cannot be started.
        """
        files = enumerate(map(Path, paths))
        if self.count == 0:
            yield from (self._orders.carry_out(path) for _, path in files)
            return
        results: dict[int, _Result | RadiographError] = {}
        self._fill()
        try:
            for index in itertools.count():
                while index not in results:
                    self._hand_out(files, room=self.window - len(results))
                    if not any(worker.files for worker in self._workers):
                        return
                    self._receive(results)
                yield results.pop(index)
        finally:  # closed early: results still being read are not needed
            for worker in [worker for worker in self._workers if worker.files]:
                self._workers.remove(worker)
                worker.end()

    def _fill(self) -> None:
        """Start missing workers, and replace those that have ended without a file, as one that the system killed."""
        for worker in [worker for worker in self._workers if worker.has_ended]:
            self._workers.remove(worker)
            worker.end()
        while len(self._workers) < self.count:
            self._workers.append(self._start())

    def _start(self) -> WorkerProcess:
        return WorkerProcess(self._orders, self._answers)

    def _hand_out(self, files: Iterator[tuple[int, Path]], room: int) -> None:
        """Send files to workers, the least busy one first."""
        room -= sum(len(worker.files) for worker in self._workers)
        for _ in range(room):
            worker = min(self._workers, key=lambda worker: len(worker.files))
            file = next(files, None) if len(worker.files) < _QUEUED else None
            if file is None:
                return
            worker.ask(*file)

    def _receive(self, results: dict[int, _Result | RadiographError]) -> None:
        """Wait for one result, or until a worker exceeds its time limit or ends."""
        patience = min(worker.due for worker in self._workers) - time.monotonic()
        try:
            worker, answer = self._answers.get(timeout=min(max(patience, 0), _LONGEST_WAIT_S))
        except Empty:
            for worker in self._workers:
                if worker.due <= time.monotonic():
                    worker.interrupt()
            return
        if worker not in self._workers:  # it was sent before the worker was replaced
            return
        if answer is END:
            self._replace(worker, results)
        elif (index := worker.take(answer)) is not None:
            results[index] = answer

    def _replace(self, worker: WorkerProcess, results: dict[int, _Result | RadiographError]) -> None:
        """Replace a worker that has ended by a new one, with the files that remain to be read."""
        self._workers.remove(worker)
        worker.end()
        if (error := worker.blame()) is not None:
            index, _ = worker.files.popleft()
            results[index] = error
        fresh = self._start()
        self._workers.append(fresh)
        for file in worker.files:
            fresh.ask(*file)
