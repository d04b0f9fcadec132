import importlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from tests.conftest import write_radiograph

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.reading.facts import read_facts
from pneumoseg.pipeline.reading.readers import Readers
from pneumoseg.transforms.reader.radiograph import AcceptanceFilters, Radiograph, read_radiograph
from pneumoseg.transforms.reader.reasons import RadiographError, Reason

pytestmark = pytest.mark.slow  # most start processes of their own

HERE = Path(__file__).parent
GOOD = [Path(f"good{number}") for number in range(20)]
linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="limits of memory and descriptors of processes are Linux's"
)


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of hostile readers, where workers find it too."""
    monkeypatch.syspath_prepend(str(HERE))
    return importlib.import_module("hostile_readers")


def answers(read: Callable[..., Any], *names: str | Path, **options: Any) -> list[Any]:
    """What is read of each name; a reason in place of its error."""
    with Readers(read, **options) as readers:
        results = list(readers.read(map(Path, names)))
    return [result.reason if isinstance(result, RadiographError) else result for result in results]


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_results_come_in_the_order_asked_for(hostile: ModuleType, workers: int) -> None:
    names = [f"wait{number}" if number % 7 == 0 else f"good{number}" for number in range(16)]
    assert answers(hostile.read, *names, workers=workers) == names


@pytest.mark.parametrize("workers", [0, 1])
def test_a_refusal_is_an_answer_like_others(hostile: ModuleType, workers: int) -> None:
    assert answers(hostile.read, "a", "refuse", "b", workers=workers) == ["a", Reason.NO_PIXELS, "b"]


@pytest.mark.parametrize("end", ["abort", "crash", "leave", "fail"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_ends_its_worker_has_its_reason_and_the_rest_goes_on(
    hostile: ModuleType, end: str, workers: int
) -> None:
    found = answers(hostile.read, *GOOD[:10], end, *GOOD[10:], workers=workers)
    assert found == [*map(str, GOOD[:10]), Reason.DECODER_DIED, *map(str, GOOD[10:])]


@linux_only
def test_a_file_that_eats_memory_ends_its_worker_and_not_the_machine(hostile: ModuleType) -> None:
    assert answers(hostile.read, "a", "eat", "b", memory_bytes=2**28) == ["a", Reason.DECODER_DIED, "b"]


def test_a_file_that_takes_too_long_has_its_reason_and_the_rest_goes_on(hostile: ModuleType) -> None:
    found = answers(hostile.read, "hang", *GOOD, "hang", workers=2, seconds=1)
    assert found == [Reason.TIMED_OUT, *map(str, GOOD), Reason.TIMED_OUT]


def test_all_files_may_be_bad(hostile: ModuleType) -> None:
    names = ["abort", "hang", "leave", "refuse"]
    expected = [Reason.DECODER_DIED, Reason.TIMED_OUT, Reason.DECODER_DIED, Reason.NO_PIXELS]
    assert answers(hostile.read, *names, seconds=0.5) == expected


def test_a_file_is_not_blamed_for_the_damage_that_one_before_it_did(hostile: ModuleType) -> None:
    assert answers(hostile.read, "poison", "a", "b") == ["poison", "a", "b"]


@linux_only
def test_a_worker_whose_decoder_leaks_is_replaced_before_memory_runs_out(hostile: ModuleType) -> None:
    names = [f"leak{number}" for number in range(6)]
    assert answers(hostile.read, *names, memory_bytes=2**29) == names  # six times 128 MiB would not fit


def test_what_a_library_prints_does_not_get_into_an_answer(
    hostile: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    assert answers(hostile.read, "talk", "a") == ["talk", "a"]
    assert capfd.readouterr() == ("", "")


def test_a_worker_loads_neither_torch_nor_monai(hostile: ModuleType, tmp_path: Path) -> None:
    path = write_radiograph(tmp_path / "a.dcm", np.zeros((16, 16), np.uint8))
    (modules,) = answers(hostile.loaded, path)
    assert "pneumoseg.transforms.reader.radiograph" in modules
    assert not {"torch", "monai", "ignite", "matplotlib", "scipy"} & modules


def test_a_worker_does_not_import_what_lies_in_the_current_folder(
    hostile: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pickle.py").write_text("raise SystemExit('taken from the folder of radiographs')")
    monkeypatch.chdir(tmp_path)
    assert answers(hostile.read, "a") == ["a"]


def test_files_are_taken_no_further_ahead_than_the_window(hostile: ModuleType) -> None:
    taken = []

    def paths() -> Iterator[Path]:
        for path in GOOD:
            taken.append(path)
            yield path

    with Readers(hostile.read, workers=2, window=5) as readers:
        results = readers.read(paths())
        next(results)
        time.sleep(0.2)
        assert len(taken) <= 6
        assert len(list(results)) == len(GOOD) - 1


def test_reading_may_be_left_early_and_begun_anew(hostile: ModuleType) -> None:
    with Readers(hostile.read, workers=2) as readers:
        for result in readers.read(GOOD):
            assert result == "good0"
            break
        assert list(readers.read([Path("b"), Path("c")])) == ["b", "c"]


def test_nothing_to_read_is_no_harm(hostile: ModuleType) -> None:
    assert answers(hostile.read) == []


def test_workers_end_with_the_context(hostile: ModuleType) -> None:
    with Readers(hostile.process, workers=2) as readers:
        processes = set(readers.read(GOOD))
    assert os.getpid() not in processes
    assert not any(is_running(process) for process in processes)  # type: ignore[arg-type]


def test_workers_end_when_an_error_leaves_the_context(hostile: ModuleType) -> None:
    def paths() -> Iterator[Path]:
        yield from GOOD
        raise ZeroDivisionError

    found: list[Any] = []
    with pytest.raises(ZeroDivisionError), Readers(hostile.process) as readers:
        found.extend(readers.read(paths()))
    assert found
    assert not is_running(found[0])


def test_a_worker_that_cannot_start_is_an_error_and_no_endless_loop(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    module = ModuleType("only_in_the_parent")
    exec("def read(path, *, acceptance): ...", vars(module))
    monkeypatch.setitem(sys.modules, "only_in_the_parent", module)
    with pytest.raises(JobError, match="could not be started"):
        answers(module.read, "a")
    assert "only_in_the_parent" in capfd.readouterr().err  # why, as far as it is known


def test_one_worker_serves_several_calls(hostile: ModuleType) -> None:
    with Readers(hostile.process) as readers:
        assert len({process for _ in range(3) for process in readers.read(GOOD[:2])}) == 1


def test_a_worker_that_is_killed_between_two_calls_is_replaced_and_no_file_is_blamed(
    hostile: ModuleType,
) -> None:
    with Readers(hostile.read) as readers:
        readers._workers[0]._process.kill()  # before its first file
        readers._workers[0]._process.wait()
        assert list(readers.read(["a"])) == ["a"]


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def has_ended(process: int) -> bool:
    """Wait for the end of a process that is no child of this one; a zombie that nobody has reaped has ended."""
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    try:
        return select.select([descriptor], [], [], 60) != ([], [], [])
    finally:
        os.close(descriptor)


PARENT = """
import signal, sys; sys.path.insert(0, {here!r})
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a script is started without it
from pathlib import Path
import hostile_readers
from pneumoseg.pipeline.reading.readers import Readers
with Readers(hostile_readers.process, workers=2) as idle, Readers(hostile_readers.read, seconds={seconds}) as busy:
    workers = set(idle.read([Path("a")] * 20))
    print(*workers, busy._workers[0]._process.pid, flush=True)
    list(busy.read([Path("hang")]))
"""


@linux_only
@pytest.mark.parametrize(("how", "seconds"), [(signal.SIGINT, 100), (signal.SIGKILL, 1)])
def test_no_worker_outlives_its_parent(hostile: ModuleType, how: signal.Signals, seconds: int) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(here=str(HERE), seconds=seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    )
    assert parent.stdout is not None
    workers = [int(word) for word in parent.stdout.readline().split()]
    time.sleep(0.5)
    os.killpg(parent.pid, how) if how is signal.SIGINT else parent.send_signal(how)  # as Ctrl-C does
    assert parent.wait(timeout=60) == -how
    parent.stdout.close()
    assert all(map(has_ended, workers))


def test_a_radiograph_crosses_as_it_is(tmp_path: Path) -> None:
    path = write_radiograph(
        tmp_path / "a.dcm",
        np.arange(16 * 24, dtype=np.uint8).reshape(16, 24),
        WindowCenter=100,
        WindowWidth=50,
        BurnedInAnnotation="YES",
    )
    here = read_radiograph(path)
    with Readers(read_radiograph) as readers:
        (there,) = readers.read([path])
    assert isinstance(there, Radiograph)
    np.testing.assert_array_equal(there.stored, here.stored)
    np.testing.assert_array_equal(there.image, here.image)
    assert there.stored.dtype == here.stored.dtype
    for name in ("spacing_mm", "sop_instance_uid", "view", "sex", "age_years", "warnings", "pixel_sha256"):
        assert getattr(there, name) == getattr(here, name)


def test_the_acceptance_filters_cross_too(tmp_path: Path) -> None:
    path = write_radiograph(tmp_path / "a.dcm", np.zeros((16, 16), np.uint8), ViewPosition="LL")
    assert answers(read_facts, path) == [Reason.WRONG_VIEW]
    (facts,) = answers(read_facts, path, acceptance=AcceptanceFilters(any_view=True))
    assert facts.view == "LL"


def test_a_name_that_is_not_unicode_crosses_as_it_is(hostile: ModuleType) -> None:
    name = os.fsdecode(b"caf\xe9 \n.dcm")
    assert answers(hostile.read, name) == [name]
