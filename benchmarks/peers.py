"""Peers in processes of their own, with the memory allocator as other programs leave it.

pneumoseg's commands keep freed memory, which would also make a peer in the same process faster than its users know it.
"""

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


class Peer:
    """Work in a process of its own, which is called like a function.

    Args:
        make: Function of a module that makes the work, in that process.
        arguments: Its arguments.

    Attributes:
        processor_s: Processor time that the process has used by the end of the last call.

    Raises: Exception: What *make* raises.
    """

    def __init__(self, make: Callable[..., Callable[[], object]], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
        self._connection, end = context.Pipe()
        context.Process(target=_serve, args=(end, make, arguments), daemon=True).start()
        end.close()
        self.processor_s = self._receive()

    def __call__(self) -> None:
        """Do the work once, and wait for it."""
        self._connection.send(None)
        self.processor_s = self._receive()

    def _receive(self) -> float:
        answer: float | Exception = self._connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer


def _serve(connection: Connection, make: Callable[..., Callable[[], object]], arguments: Any) -> None:
    """Do the work as often as it is asked for, and answer with the processor time so far."""
    try:
        work = make(*arguments)
        while True:
            connection.send(sum(os.times()[:4]))
            connection.recv()
            work()
    except EOFError:  # the other side is gone
        return
    except Exception as error:  # noqa: BLE001  (it is raised on the other side)
        connection.send(error)
