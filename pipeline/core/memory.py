"""Setting of the memory allocator for processes that run networks on the processor."""

import ctypes
import os
import sys
from typing import Final

# of glibc's malloc.h, with their values here
_TRIM_THRESHOLD: Final = (-1, 2**31 - 1)  # free bytes at the end of the heap that go back to the system
_MMAP_MAX: Final = (-4, 0)  # allocations that are mapped, which go back to the system when they are freed
_ARENA_MAX: Final = (-8, 1)  # heaps: large blocks do not fit into those of threads, where networks run


def keep_freed_memory() -> None:
    """Let this process reuse the memory that it frees, instead of returning it to the system.

    glibc returns each large block when it is freed, and so each layer of a network waits until the system has cleared
    the pages of its output: a quarter of a forward pass. The memory of the process then stays at its peak until it
    ends. Elsewhere than with glibc nothing happens, and neither where the environment already sets its allocator.
    Only the owner of a process may decide this: the command calls it, and no function of the library does.
    """
    if any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ):
        return
    if sys.platform != "linux" or not hasattr(library := ctypes.CDLL(None), "gnu_get_libc_version"):
        return
    for parameter, value in (_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX):
        library.mallopt(parameter, value)
