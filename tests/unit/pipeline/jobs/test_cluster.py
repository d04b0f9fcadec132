import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from tests.conftest import bright_pixel_network, draw_case, job_options, write_model, write_radiograph
from tests.unit.pipeline.jobs.predictions import predict

from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.jobs.cluster import _reason
from pneumoseg.pipeline.jobs.predict import predict_folder
from pneumoseg.pipeline.jobs.watch import watch_folder
from pneumoseg.pipeline.results.planning import Part
from pneumoseg.pipeline.results.settings import KINDS

pytestmark = pytest.mark.usefixtures("plain_charts")


def test_without_ray_one_line_says_what_to_install_and_nothing_is_written(
    model_folder: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"ray is not installed; pip install 'pneumoseg\[ray\]'"):
        predict(model_folder, images, tmp_path, engine="ray")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"engine": "dask"}, "--engine dask: local or ray would fit"),
        ({"engine": "ray", "part": Part(0, 2)}, "leave --num-parts and --part-id out"),
    ],
)
def test_engines_that_do_not_fit_are_usage_errors(
    model_folder: Path, images: Path, tmp_path: Path, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        predict(model_folder, images, tmp_path, **options)
    assert not (tmp_path / "out").exists()


def test_a_folder_is_watched_in_one_process(model_folder: Path, images: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave --engine out"):
        watch_folder(model_folder, images, tmp_path / "out", engine="ray")


def test_the_error_of_a_job_is_found_in_what_the_cluster_wraps_it_in() -> None:
    class WrappedError(Exception):
        cause = JobError("a worker has other settings")

    assert str(_reason(WrappedError("traceback"))) == "a worker has other settings"
    assert "the cluster gave up: ValueError" in str(_reason(ValueError("odd")))


@pytest.fixture
def two_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A local cluster of two processors, whose processes can be told by their environment."""
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")
    monkeypatch.setenv("TEST_OF_A_CLUSTER", str(tmp_path))
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def _actors(folder: Path) -> list[int]:
    """Processes of this test's cluster that hold a model."""
    mark, found = f"TEST_OF_A_CLUSTER={folder}".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            is_actor = b"_Actor" in (process / "cmdline").read_bytes()
            if is_actor and mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.usefixtures("two_workers")
@pytest.mark.filterwarnings("ignore")  # Ray warns of itself
def test_killing_one_of_two_workers_midway_changes_nothing_in_the_result(tmp_path: Path) -> None:
    model, images, out = (tmp_path / name for name in ("model", "images", "out"))
    write_model(model, bright_pixel_network())
    for number in range(80):
        pixels, _ = draw_case(number, positive=number % 2 == 0)
        write_radiograph(images / f"{number:02}.dcm", pixels, SOPInstanceUID=f"1.2.{number % 78}")
    (images / "broken.dcm").write_bytes(b"broken")
    killed: list[int] = []
    is_done = Event()

    def kill_one() -> None:
        while not killed and not is_done.wait(0.01):
            receipts, actors = list(out.glob("receipts/*.json")), _actors(tmp_path)
            if receipts and len(actors) == 2:
                os.kill(actors[0], signal.SIGKILL)
                killed.append(len(receipts))

    killer = Thread(target=kill_one)
    killer.start()
    options: dict[str, Any] = {"kinds": sorted({*KINDS} - {"uncertainty"}), "batch_size": 1}
    try:
        report = predict_folder(model, images, out, engine="ray", **job_options(**options))
    finally:
        is_done.set()
        killer.join()
    assert killed
    assert killed[0] < 81
    assert (report.segmented, report.refused, report.kept) == (78, 3, 0)

    alone = tmp_path / "alone"
    shutil.copytree(out, alone)  # for the times of the analyses, which another run keeps
    predict_folder(model, images, alone, overwrite=True, **job_options(**options))
    assert _contents(out) == _contents(alone)

    again = predict_folder(model, images, out, engine="ray", **job_options(**options))
    assert again.kept == 78
    assert _contents(out) == _contents(alone)


def _contents(folder: Path) -> dict[str, bytes]:
    """All files but the log of the runs."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "run.log"
    }
