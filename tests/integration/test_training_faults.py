"""What happens to a training run that is killed, interrupted, started twice, or repeated."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.conftest import Collection
from tests.integration.command import run_command, signalled
from tests.integration.settings import CONFIG, SETTINGS, STILL

from pneumoseg.pipeline.core.claims import locked
from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.dataset.cache import cache_folder, open_cache
from pneumoseg.pipeline.jobs.train import train_model
from pneumoseg.pipeline.training.checkpoint import load_state

pytestmark = pytest.mark.slow
ENDLESS = {**SETTINGS, "optimization": {"epochs": 100000, "patience": None}}


@pytest.fixture(scope="module", autouse=True)
def decoded(collection: Collection) -> None:
    """The cache, so that no run has to make it."""
    path = collection.manifest_path
    open_cache(collection.manifest, path, image_size=32, folder=cache_folder(path))


def train_words(collection: Collection, run: Path) -> list[str]:
    """The words of a training that does not end by itself."""
    (run.parent / "endless.json").write_text(json.dumps(ENDLESS))  # JSON is YAML
    manifest, config = str(collection.manifest_path), str(run.parent / "endless.json")
    return ["train", manifest, "-o", str(run), "-d", "cpu", "--no-report", "--config", config]


@pytest.mark.parametrize(
    ("job", "kills", "kinds"),
    [
        ("train", 11, {"open", "os.rename", "os.remove", "write"}),
        ("train-encoder", 4, {"os.remove", "write"}),
    ],
)
def test_a_kill_at_any_access_to_a_checkpoint_leaves_one_that_loads(
    collection: Collection, tmp_path: Path, job: str, kills: int, kinds: set[str]
) -> None:
    nursery = Path(__file__).with_name("nursery.py")
    done = subprocess.run(
        [sys.executable, str(nursery), job, str(collection.manifest_path), str(tmp_path / "run")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    assert told["failures"] == []
    assert told["kills"] == told["starts"] == kills
    assert set(told["kinds"]) == kinds
    assert told["counts"] == sorted(told["counts"])
    assert told["counts"][-1] > told["counts"][0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_gives_its_exit_code(
    collection: Collection, tmp_path: Path, number: signal.Signals
) -> None:
    run = tmp_path / "run"
    with signalled(number, (run / "metrics.csv").exists):
        result = run_command(*train_words(collection, run))
    assert result.returncode == 128 + number
    assert "interrupted; saved after step" in " ".join(result.stderr.split())


def test_a_second_signal_ends_the_process_at_once(collection: Collection, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "pneumoseg.pipeline", *train_words(collection, run)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (run / "metrics.csv").exists() and process.poll() is None:
        time.sleep(0.02)
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.01)
    # the first one may have been quicker
    assert process.wait() in (-signal.SIGTERM, 128 + signal.SIGTERM)
    assert load_state(run / "checkpoints")["iteration"] >= 0


def test_a_run_folder_in_use_is_refused(collection: Collection, tmp_path: Path) -> None:
    train_model(collection.manifest_path, tmp_path / "run", config=CONFIG, device="cpu", report=False)
    with (
        locked(tmp_path / "run"),
        pytest.raises(JobError, match="is in use by another process"),
    ):
        train_model(
            collection.manifest_path,
            tmp_path / "run",
            config=CONFIG,
            device="cpu",
            report=False,
            overwrite=True,
        )


def test_a_damaged_state_is_named_and_the_one_before_it_used(
    collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    train_model(collection.manifest_path, run, config=CONFIG, device="cpu", report=False)
    expected = load_file(run / "model" / "weights" / "fold0.safetensors")
    newest = max((run / "checkpoints").glob("state-*.pt"))
    newest.write_bytes(newest.read_bytes()[:-100])
    train_model(collection.manifest_path, run, config=CONFIG, device="cpu", report=False, resume=True)
    assert newest.name in "".join(capsys.readouterr().err.split())
    found = load_file(run / "model" / "weights" / "fold0.safetensors")
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_deterministic_run_is_the_same_to_the_bit_when_it_is_repeated(
    collection: Collection, tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"deterministic": True})
    one, other = (
        load_file(
            train_model(
                collection.manifest_path, tmp_path / name, config=config, device="cpu", report=False
            ).model
            / "weights"
            / "fold0.safetensors"
        )
        for name in ("one", "other")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_training_can_begin_with_the_weights_of_a_model(collection: Collection, tmp_path: Path) -> None:
    first = train_model(
        collection.manifest_path, tmp_path / "first", config=CONFIG, device="cpu", report=False
    ).model
    second = train_model(
        collection.manifest_path, tmp_path / "second", config=STILL, device="cpu", report=False, initial=first
    ).model
    one, other = (load_file(model / "weights" / "fold0.safetensors") for model in (first, second))
    assert all(torch.equal(one[name], other[name]) for name in one)
