"""Reading radiographs in worker processes: whatever a file does to its reader, the batch goes on."""

import itertools
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

from pneumoseg.pipeline.reading.decode_worker import Orders, Read
from pneumoseg.pipeline.reading.worker_process import END, Answers, WorkerProcess
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.reasons import RadiographError

SECONDS: Final = 10.0
"""Most time for one file; a radiograph takes 1 to 100 ms, by its encoding."""
MEMORY_BYTES: Final = 3 * 2**29
"""Most memory for one file, beyond what an idle worker has."""

_LONGEST_WAIT_S: Final = 60.0
_QUEUED: Final = 4  # files that a worker has been told of: it never waits for the next
_Result = TypeVar("_Result")


class Readers(Generic[_Result]):
    """Worker processes that read files, and give results in the order asked for.

    A file that takes too long, or that ends its worker, gets its reason, and another worker goes on behind it.
    Workers start when the context is entered, and end with it.

    Args:
        read: What to do with each file: `read_radiograph`, `read_facts`, or another function of some module.
        acceptance: Which files count as frontal chest radiographs.
        workers: How many processes; none reads in this one, without protection from damaged files.
        window: Most results that wait to be taken; memory grows with it, and a slow file holds up fewer others.
        seconds: Most time for one file.
        memory_bytes: Most memory for one file, where the system can limit it.
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

    def read(self, paths: Iterable[str | Path]) -> Iterator[_Result | RadiographError]:
        """Read files; one call at a time.

        Returns: For each of *paths*, in order, what was read or why it was not.
        Raises: JobError: If a worker cannot be started.
        """
        files = enumerate(map(Path, paths))
        if self.count == 0:
            yield from (self._orders.carry_out(path) for _, path in files)
            return
        results: dict[int, _Result | RadiographError] = {}
        self._fill()
        try:
            for number in itertools.count():
                while number not in results:
                    self._hand_out(files, room=self.window - len(results))
                    if not any(worker.files for worker in self._workers):
                        return
                    self._receive(results)
                yield results.pop(number)
        finally:  # left early: nobody waits for what is still being read
            for worker in [worker for worker in self._workers if worker.files]:
                self._workers.remove(worker)
                worker.end()

    def _fill(self) -> None:
        while len(self._workers) < self.count:
            self._workers.append(self._start())

    def _start(self) -> WorkerProcess:
        return WorkerProcess(self._orders, self._answers)

    def _hand_out(self, files: Iterator[tuple[int, Path]], room: int) -> None:
        """Tell workers of files, the least busy one first."""
        room -= sum(len(worker.files) for worker in self._workers)
        for _ in range(room):
            worker = min(self._workers, key=lambda worker: len(worker.files))
            file = next(files, None) if len(worker.files) < _QUEUED else None
            if file is None:
                return
            worker.ask(*file)

    def _receive(self, results: dict[int, _Result | RadiographError]) -> None:
        """Wait for one answer, or for a worker to be late or to end."""
        patience = min(worker.due for worker in self._workers) - time.monotonic()
        try:
            worker, answer = self._answers.get(timeout=min(max(patience, 0), _LONGEST_WAIT_S))
        except Empty:
            for worker in self._workers:
                if worker.due <= time.monotonic():
                    worker.interrupt()
            return
        if worker not in self._workers:  # it said so before it was left
            return
        if answer is END:
            self._replace(worker, results)
        elif (number := worker.take(answer)) is not None:
            results[number] = answer

    def _replace(self, worker: WorkerProcess, results: dict[int, _Result | RadiographError]) -> None:
        """Put a fresh worker in the place of one that has ended, with the files that are still to be read."""
        self._workers.remove(worker)
        worker.end()
        if (error := worker.blame()) is not None:
            number, _ = worker.files.popleft()
            results[number] = error
        fresh = self._start()
        self._workers.append(fresh)
        for file in worker.files:
            fresh.ask(*file)
