"""Prefetching: a generator that runs ahead of its consumer in a thread."""

from collections.abc import Generator
from contextlib import closing
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import Final, TypeVar, cast

_END: Final = object()
_Item = TypeVar("_Item")


def ahead(source: Generator[_Item], *, depth: int = 1) -> Generator[_Item]:
    """Run a generator in a thread ahead of its consumer; the items keep their order.

    An exception of the generator is raised here after the items that precede it. Closing this generator early waits
    until the current item is complete, and then closes *source* in the thread in which it has run.

    Args:
        source: Generator, used by this function only.
        depth: Largest number of items that are in memory, complete or being made.
    """
    room, left = Semaphore(depth), Event()
    ready: SimpleQueue[tuple[object, BaseException | None]] = SimpleQueue()

    def work() -> None:
        try:
            with closing(source):
                item: object = None
                while item is not _END:
                    room.acquire()
                    if left.is_set():
                        return
                    item = next(source, _END)
                    ready.put((item, None))
        except BaseException as error:  # noqa: BLE001  (it is raised where somebody waits)
            ready.put((_END, error))

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is _END:
                return
            room.release()
            yield cast("_Item", item)
    finally:
        left.set()
        room.release()
        thread.join()
