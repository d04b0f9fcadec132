"""The command works where only one folder can be written, as in a container with a read-only root file system."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import Collection

pytestmark = pytest.mark.slow

# a mount namespace of its own: everything is read-only but the folder given first
READ_ONLY = """
mount --make-rprivate / && mount --bind "$1" "$1" && mount -o remount,bind,ro / || exit 99
cd "$1" && shift && exec "$@"
"""


def run_read_only(writable: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run `pneumoseg` with a read-only root, without a home folder and a user name in the environment."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    temporary = writable / "tmp"
    temporary.mkdir(exist_ok=True)
    told = subprocess.run(
        [
            *("unshare", "--mount", "--", "sh", "-c", READ_ONLY, "sh", writable),
            *(sys.executable, "-m", "pneumoseg.pipeline", *map(str, words)),
        ],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "TMPDIR": str(temporary),
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if told.returncode == 99 or "unshare failed" in told.stderr:
        pytest.skip("this user may not make a mount namespace")
    return told


def test_doctor_finds_nothing_wrong(tmp_path: Path) -> None:
    told = run_read_only(tmp_path, "doctor")
    assert told.returncode == 0, told.stdout + told.stderr
    assert "error" not in told.stderr


def test_predict_writes_its_results_and_nothing_else(
    collection: Collection, model_folder: Path, tmp_path: Path
) -> None:
    told = run_read_only(
        tmp_path, "predict", model_folder, collection.images, "-o", "results", "-d", "cpu", "--any-view"
    )
    assert told.returncode in {0, 3}, told.stdout + told.stderr  # 3: the made-up images look unlike a chest
    assert (tmp_path / "results" / "predictions.csv").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"results", "tmp"}
