import os
import signal
import subprocess
import sys
import threading

import pytest

from pneumoseg.pipeline.core.interruption import InterruptedRunError, Interruption

SIGNALS = [signal.SIGINT, signal.SIGTERM]

TWICE = """
import os, signal, sys, time
from pneumoseg.pipeline.core.interruption import Interruption
with Interruption() as interruption:
    first, second = (int(number) for number in sys.argv[1:])
    os.kill(os.getpid(), first)
    print("noted", interruption.received, flush=True)
    os.kill(os.getpid(), second)
    time.sleep(10)
    print("still there", flush=True)
"""


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_noted_and_ends_nothing(number: signal.Signals) -> None:
    with Interruption() as interruption:
        assert interruption.received == 0
        os.kill(os.getpid(), number)
        assert interruption.received == number


@pytest.mark.parametrize("first", SIGNALS)
@pytest.mark.parametrize("second", SIGNALS)
def test_a_second_signal_takes_its_usual_course(first: signal.Signals, second: signal.Signals) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", TWICE, str(int(first)), str(int(second))],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert ended.stdout == f"noted {int(first)}\n"
    assert ended.returncode == -second


@pytest.mark.parametrize("number", [None, *SIGNALS])
def test_the_handlers_of_before_come_back(number: signal.Signals | None) -> None:
    before = handlers()
    with Interruption():
        assert all(handler not in before for handler in handlers())
        if number:
            os.kill(os.getpid(), number)
    assert handlers() == before


def test_the_handlers_of_before_come_back_after_an_error() -> None:
    before = handlers()
    with pytest.raises(RuntimeError), Interruption():
        raise RuntimeError
    assert handlers() == before


def test_in_another_thread_signals_are_left_to_others() -> None:
    before, seen = handlers(), []

    def work() -> None:
        with Interruption() as interruption:
            seen.append((handlers(), interruption.received))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, 0)]
    assert handlers() == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_ends_with_the_exit_code_of_the_signal(number: signal.Signals, code: int) -> None:
    error = InterruptedRunError("saved", number)
    assert (error.exit_code, str(error)) == (code, "saved")
