import ctypes
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from pneumoseg.pipeline.core.memory import keep_freed_memory

FAULTS = """
import resource, sys, threading
from pneumoseg.pipeline.core.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
found = []
def work():
    for _ in range(11):
        block = bytearray(100 * 2**20)
        del block
        found.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(found[-1] - found[0])
"""


def page_faults(choice: str, **environment: str) -> int:
    """Count the page faults of ten blocks of 100 MiB in a thread, after a first one."""
    run = subprocess.run(
        [sys.executable, "-c", FAULTS, choice],
        env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(run.stdout)


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="needs glibc"
)
def test_a_large_block_in_a_thread_comes_from_memory_that_was_freed() -> None:
    assert page_faults("keep") < 100 < page_faults("leave")


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="needs glibc"
)
def test_an_allocator_that_the_environment_sets_is_left_alone() -> None:
    assert page_faults("keep", MALLOC_TRIM_THRESHOLD_="131072") > 100


def test_a_library_without_these_settings_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())  # mallopt would raise
    keep_freed_memory()
