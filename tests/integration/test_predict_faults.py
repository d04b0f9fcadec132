"""What happens to a prediction that is killed, interrupted, or done in parts."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.conftest import Collection

KILLS = 27


def test_results_after_any_number_of_kills_are_those_of_an_uninterrupted_run(
    collection: Collection, model_folder: Path, tmp_path: Path
) -> None:
    nursery = Path(__file__).with_name("predict_nursery.py")
    done = subprocess.run(
        [sys.executable, str(nursery), str(model_folder), str(collection.images), str(tmp_path), str(KILLS)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=280,
    )
    told = json.loads(done.stdout)
    assert told["failures"] == []
    assert told["status"] == 0
    assert told["killed"] == KILLS
    assert told["rounds"] > 0
    assert told["states"] > 5  # it was killed early and late
    assert told["files"] == 12 * 10 + 3  # nine kinds and a receipt for each image, two tables and the report


def pneumoseg(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "pneumoseg.pipeline", *map(str, words)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_between_two_files_and_the_next_one_goes_on(
    collection: Collection, model_folder: Path, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "images").mkdir()
    for copy in range(60):
        for path in collection.images.iterdir():
            shutil.copy(path, tmp_path / "images" / f"{copy}-{path.name}")
    out = tmp_path / "out"
    words = pneumoseg("predict", model_folder, tmp_path / "images", "-o", out, "-d", "cpu", "-t", "png,sr")
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(out.glob("receipts/*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "the same command goes on" in errors
    done = {path.stem for path in out.glob("receipts/*.json")}
    assert 0 < len(done) < 720
    assert (
        {path.stem for path in out.glob("masks/*.png")}
        == done
        == {path.stem for path in out.glob("sr/*.dcm")}
    )
    assert not list(out.rglob(".writing*"))


def test_a_full_disk_is_told_and_nothing_half_written_has_a_final_name(
    collection: Collection, model_folder: Path, tmp_path: Path
) -> None:
    words: list[str | Path] = ["predict", model_folder, collection.images, "-d", "cpu", "-t", "png,seg", "-o"]
    subprocess.run(pneumoseg(*words, tmp_path / "whole"), capture_output=True, check=True)
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").rglob("*.*") if path.is_file()}
    largest = max(path.stat().st_size for path in (tmp_path / "whole" / "masks").iterdir())
    assert largest <= 1024 < min(path.stat().st_size for path in (tmp_path / "whole" / "seg").iterdir())
    # the system ends a write at this size as it does on a full disk; masks fit, segmentations do not
    limited = ["sh", "-c", 'ulimit -f 2; exec "$@"', "sh", *pneumoseg(*words, tmp_path / "out")]
    quiet = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    told = subprocess.run(limited, capture_output=True, text=True, check=False, env=quiet)
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr.count("\n") == 1
    assert "File too large" in told.stderr
    assert str(tmp_path / "out" / "seg") in told.stderr
    half = {path.name: path.read_bytes() for path in (tmp_path / "out" / "masks").iterdir()}
    assert len(half) == 1
    assert half.items() <= whole.items()
    assert not list((tmp_path / "out" / "seg").iterdir())
    assert not list(tmp_path.glob("out/receipts/*"))
    subprocess.run(pneumoseg(*words, tmp_path / "out"), capture_output=True, check=True)
    for path in (tmp_path / "whole").rglob("*.*"):
        if path.is_file() and path.name != "run.log":
            assert (tmp_path / "out" / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes()


def test_parts_are_run_by_the_command_and_the_last_one_writes_the_tables(
    collection: Collection, model_folder: Path, tmp_path: Path
) -> None:
    words = pneumoseg(
        "predict", model_folder, collection.images, "-o", tmp_path / "out", "-d", "cpu", "-t", "csv"
    )
    told = [
        subprocess.run(
            [*words, "--num-parts", "2", "--part-id", part], capture_output=True, text=True, check=True
        ).stdout
        for part in ("1", "0")
    ]
    assert "the part that is done last writes predictions.csv" in told[0]
    assert "6 images segmented" in told[1]
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        assert [row["image"] for row in csv.DictReader(file)] == [f"case{n:02}.dcm" for n in range(12)]
    alone = subprocess.run([*words, "--num-parts", "2"], capture_output=True, text=True, check=False)
    assert (alone.returncode, "--part-id" in alone.stderr) == (2, True)
