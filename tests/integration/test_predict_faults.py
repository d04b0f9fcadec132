"""What happens to a prediction that is killed, interrupted, or done in parts."""

import csv
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.conftest import Collection
from tests.integration.command import run_command, signalled

pytestmark = pytest.mark.slow


def test_results_after_kills_are_those_of_an_uninterrupted_run(
    collection: Collection, model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    for path in sorted(collection.images.iterdir())[:2]:
        shutil.copy(path, tmp_path / "images")
    nursery = Path(__file__).with_name("nursery.py")
    words = ["predict", str(model_folder), str(tmp_path / "images"), str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, str(nursery), *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    assert told["failures"] == []
    assert told["kills"] >= 10
    assert {"open", "os.rename", "write"} <= set(told["kinds"])
    assert len(set(told["counts"])) > 5  # it was killed early and late
    assert told["files"] == 2 * 12 + 3  # eleven kinds and a receipt for each image, two tables and the report


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_between_two_files_and_the_next_one_goes_on(
    collection: Collection, model_folder: Path, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "images").mkdir()
    for copy in range(20):
        for path in collection.images.iterdir():
            os.link(path, tmp_path / "images" / f"{copy}-{path.name}")
    out = tmp_path / "out"
    words = ("predict", model_folder, tmp_path / "images", "-o", out, "-d", "cpu", "-t", "png,sr")
    with signalled(number, lambda: list(out.glob("receipts/*.json"))):
        result = run_command(*words)
    assert result.returncode == 128 + number
    assert "the same command continues" in result.stderr
    done = {path.stem for path in out.glob("receipts/*.json")}
    assert 0 < len(done) < 240
    assert (
        {path.stem for path in out.glob("masks/*.png")}
        == done
        == {path.stem for path in out.glob("sr/*.dcm")}
    )
    assert not list(out.rglob(".writing*"))


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """End each write at some size as the system does it on a full disk; Python has SIGXFSZ ignored."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_told_and_nothing_half_written_has_a_final_name(
    collection: Collection, model_folder: Path, tmp_path: Path
) -> None:
    words = ("predict", model_folder, collection.images, "-d", "cpu", "-t", "png,seg", "-o")
    assert (
        run_command(*words, tmp_path / "whole").returncode == 3
    )  # to be reviewed: the pictures are no chests
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").rglob("*.*") if path.is_file()}
    largest = max(path.stat().st_size for path in (tmp_path / "whole" / "masks").iterdir())
    assert largest <= 1024 < min(path.stat().st_size for path in (tmp_path / "whole" / "seg").iterdir())
    with files_of_at_most(1024):  # masks fit, segmentations do not
        told = run_command(*words, tmp_path / "out")
    assert (told.returncode, told.stdout.count("\n")) == (1, 1)  # the runtime that was chosen, and no summary
    assert told.stderr.count("\n") == 1
    assert "File too large" in told.stderr
    assert str(tmp_path / "out" / "seg") in told.stderr
    half = {path.name: path.read_bytes() for path in (tmp_path / "out" / "masks").iterdir()}
    assert len(half) == 1
    assert half.items() <= whole.items()
    assert not list((tmp_path / "out" / "seg").iterdir())
    assert not list(tmp_path.glob("out/receipts/*"))
    assert run_command(*words, tmp_path / "out").returncode == 3
    dated = {
        "run.log",
        *(path.name for kind in ("seg", "receipts") for path in (tmp_path / "whole" / kind).iterdir()),
    }
    for path in (tmp_path / "whole").rglob("*.*"):
        if path.is_file() and path.name not in dated:
            assert (tmp_path / "out" / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes()


def test_parts_are_run_by_the_command_and_the_last_one_writes_the_tables(
    collection: Collection, model_folder: Path, tmp_path: Path
) -> None:
    words = ("predict", model_folder, collection.images, "-o", tmp_path / "out", "-d", "cpu", "-t", "csv")
    told = [run_command(*words, "--num-parts", 2, "--part-id", part) for part in (1, 0)]
    assert [part.returncode for part in told] == [3, 3]  # to be reviewed: the pictures are no chests
    assert "the part that finishes last writes predictions.csv" in told[0].stdout
    assert "6 images segmented" in told[1].stdout
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        assert [row["image"] for row in csv.DictReader(file)] == [f"case{n:02}.dcm" for n in range(12)]
    alone = run_command(*words, "--num-parts", 2)
    assert (alone.returncode, "--part-id" in alone.stderr) == (2, True)
