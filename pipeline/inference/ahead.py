"""The next things made while the last ones are used: a generator in a thread of its own."""

from collections.abc import Generator
from contextlib import closing
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import Final, TypeVar, cast

_END: Final = object()
_Item = TypeVar("_Item")


def ahead(source: Generator[_Item], *, depth: int = 1) -> Generator[_Item]:
    """Let a generator run ahead of whoever takes its items; they come in their order.

    What it raises is raised here, behind the items that came before. Whoever leaves early, by closing this generator,
    waits until the item that is being made is done; then *source* is closed, in the thread that it has run in.

    Args:
        source: Used by this alone.
        depth: Most items that wait to be taken, or are being made; no more are in memory.
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
