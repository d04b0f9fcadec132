"""What happens to a training run that is killed, interrupted, started twice, or run by several processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.conftest import Collection

from pneumoseg.pipeline.core.config import TrainConfig
from pneumoseg.pipeline.core.devices import resolve_device
from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.files import locked
from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.dataset.cache import cache_folder, open_cache
from pneumoseg.pipeline.dataset.manifest import write_manifest
from pneumoseg.pipeline.inference.model import load_model
from pneumoseg.pipeline.jobs.cross_validate import cross_validate
from pneumoseg.pipeline.jobs.evaluate import evaluate_model
from pneumoseg.pipeline.jobs.train import train_model
from pneumoseg.pipeline.model.description import read_description
from pneumoseg.pipeline.scoring.out_of_fold import OUT_OF_FOLD, load_out_of_fold
from pneumoseg.pipeline.training.checkpoint import load_state

KILLS = 30
SETTINGS: dict[str, Any] = {
    "network": {"features": [4, 8, 8, 8, 8], "dropout": 0.0},
    "data": {"image_size": 32, "batch_size": 4},
    "optimization": {"epochs": 2, "patience": None},
    "precision": "float32",
}
CONFIG = TrainConfig.model_validate(SETTINGS)
STILL = TrainConfig.model_validate(  # stays where it begins
    {**SETTINGS, "optimization": {"epochs": 1, "learning_rate": 1e-30, "weight_decay": 0}}
)
FOREVER = ["--set", "optimization.epochs=100000", "--set", "optimization.patience=null"]
OPTIONS = [
    word
    for section, values in SETTINGS.items()
    for key, value in (values.items() if isinstance(values, dict) else [("", values)])
    for word in ("--set", f"{section}.{key}".rstrip(".") + "=" + json.dumps(value))
]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module", autouse=True)
def decoded(collection: Collection) -> None:
    """The cache, so that no run has to make it."""
    path = collection.manifest_path
    open_cache(collection.manifest, path, image_size=32, folder=cache_folder(path))


def pneumoseg(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "pneumoseg.pipeline", *map(str, words)]


def start_endless_run(collection: Collection, run: Path) -> subprocess.Popen[str]:
    """Start a run, and wait until it has done an epoch."""
    process = subprocess.Popen(
        pneumoseg("train", collection.manifest_path, "-o", run, "-d", "cpu", *OPTIONS, *FOREVER),
        env=ONE_THREAD,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (run / "metrics.csv").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.poll() is None
    return process


def test_thirty_kills_leave_thirty_states_that_load(collection: Collection, tmp_path: Path) -> None:
    nursery = Path(__file__).with_name("nursery.py")
    done = subprocess.run(
        [sys.executable, str(nursery), str(collection.manifest_path), str(tmp_path / "run"), str(KILLS)],
        env=ONE_THREAD,
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    told = json.loads(done.stdout)
    assert told["failures"] == []
    assert len(told["steps"]) == KILLS
    assert told["steps"] == sorted(told["steps"])
    assert told["steps"][-1] > told["steps"][0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_gives_its_exit_code(
    collection: Collection, tmp_path: Path, number: signal.Signals
) -> None:
    process = start_endless_run(collection, tmp_path / "run")
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "interrupted; saved after step" in " ".join(errors.split())


def test_a_second_signal_ends_the_run_at_once(collection: Collection, tmp_path: Path) -> None:
    process = start_endless_run(collection, tmp_path / "run")
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.01)
    process.communicate(timeout=60)
    assert process.returncode in (
        -signal.SIGTERM,
        128 + signal.SIGTERM,
    )  # the first one may have been quicker
    assert load_state(tmp_path / "run" / "checkpoints")["iteration"] >= 0


def test_a_run_folder_in_use_is_refused(collection: Collection, tmp_path: Path) -> None:
    train_model(collection.manifest_path, tmp_path / "run", config=CONFIG, device="cpu")
    with (
        locked(tmp_path / "run"),
        pytest.raises(JobError, match="is in use by another process"),
    ):
        train_model(collection.manifest_path, tmp_path / "run", config=CONFIG, device="cpu", overwrite=True)


def test_a_damaged_state_is_named_and_the_one_before_it_used(
    collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    train_model(collection.manifest_path, run, config=CONFIG, device="cpu")
    expected = load_file(run / "model" / "weights" / "fold0.safetensors")
    newest = max((run / "checkpoints").glob("state-*.pt"))
    newest.write_bytes(newest.read_bytes()[:-100])
    train_model(collection.manifest_path, run, config=CONFIG, device="cpu", resume=True)
    assert newest.name in "".join(capsys.readouterr().err.split())
    found = load_file(run / "model" / "weights" / "fold0.safetensors")
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_deterministic_run_is_the_same_to_the_bit_when_it_is_repeated(
    collection: Collection, tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"deterministic": True})
    one, other = (
        load_file(
            train_model(collection.manifest_path, tmp_path / name, config=config, device="cpu").model
            / "weights"
            / "fold0.safetensors"
        )
        for name in ("one", "other")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_training_can_begin_with_the_weights_of_a_model(collection: Collection, tmp_path: Path) -> None:
    first = train_model(collection.manifest_path, tmp_path / "first", config=CONFIG, device="cpu").model
    second = train_model(
        collection.manifest_path, tmp_path / "second", config=STILL, device="cpu", initial=first
    ).model
    one, other = (load_file(model / "weights" / "fold0.safetensors") for model in (first, second))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def crossed(collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a cross-validation."""
    folder = tmp_path_factory.mktemp("crossed") / "run"
    cross_validate(collection.manifest_path, folder, config=CONFIG, device="cpu")
    return folder


def test_cross_validation_makes_a_model_with_a_network_for_each_fold(crossed: Path) -> None:
    description = read_description(crossed / "model")
    assert [member.held_out_fold for member in description.members] == [0, 1, 2]
    assert len(load_model(crossed / "model", resolve_device("cpu")).networks) == 3


def test_every_case_is_predicted_by_the_network_that_never_saw_it(
    collection: Collection, crossed: Path
) -> None:
    whole = load_out_of_fold(crossed / OUT_OF_FOLD)
    assert [curves.index for curves in whole.curves] == list(range(12))
    for fold in range(3):
        mine = [index for index, case in enumerate(collection.manifest.training) if case.fold == fold]
        assert [
            curves.index for curves in load_out_of_fold(crossed / f"fold{fold}" / OUT_OF_FOLD).curves
        ] == mine


def test_evaluation_of_all_folds_gives_the_scores_of_the_cross_validation(
    collection: Collection, crossed: Path, tmp_path: Path
) -> None:
    report = evaluate_model(
        crossed / "model", collection.manifest_path, tmp_path / "out", runtime=Runtime(device="cpu")
    )
    expected = read_description(crossed / "model").validation
    assert (report.scores.score.images, report.trained_on) == (12, 0)
    assert report.scores.score.dice == pytest.approx(
        expected["dice"], abs=0.01
    )  # bf16 here, where there is such


def test_cross_validation_goes_on_where_it_stopped(
    collection: Collection, crossed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (crossed / "model" / "model.json").read_bytes()
    (crossed / "fold1" / "model" / "model.json").unlink()
    cross_validate(collection.manifest_path, crossed, config=CONFIG, device="cpu", resume=True)
    told = capsys.readouterr().out
    assert "fold 0 is done already" in told
    assert "fold 1 is done already" not in told
    assert (crossed / "model" / "model.json").read_bytes() == before


def torchrun(words: list[str | Path], *, processes: int = 2) -> None:
    subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes),
            "-m", "pneumoseg.pipeline", *map(str, words),
        ],
        env=ONE_THREAD,
        check=True,
        capture_output=True,
        timeout=280,
    )  # fmt: skip


@pytest.fixture(scope="module")
def uneven(collection: Collection) -> Path:
    """A manifest whose first fold has three cases, which two processes cannot share evenly."""
    whole = collection.manifest
    left_out = next(case for case in whole.training if case.fold == 0)
    cases = tuple(case for case in whole.training if case is not left_out)
    path = collection.folder / "uneven.json"
    write_manifest(path, whole.model_copy(update={"training": cases, "size": len(cases)}))
    return path


@pytest.fixture(scope="module")
def together(uneven: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two processes."""
    run = tmp_path_factory.mktemp("together") / "run"
    torchrun(["train", uneven, "-o", run, "-d", "cpu", *OPTIONS])
    return run


def test_two_processes_share_the_folds(collection: Collection, crossed: Path, tmp_path: Path) -> None:
    torchrun(
        ["train", collection.manifest_path, "-o", tmp_path / "run", "-d", "cpu", "--fold", "all", *OPTIONS]
    )
    for fold in range(3):
        one, other = (
            load_file(folder / "model" / "weights" / f"fold{fold}.safetensors")
            for folder in (crossed, tmp_path / "run")
        )
        # each process has fewer threads, which add up in another order
        assert all(torch.allclose(one[name], other[name], atol=0.02) for name in one)


def test_two_processes_train_as_one_does(uneven: Path, together: Path, tmp_path: Path) -> None:
    alone = train_model(uneven, tmp_path / "run", config=CONFIG, device="cpu").model
    one = load_file(alone / "weights" / "fold0.safetensors")
    two = load_file(together / "model" / "weights" / "fold0.safetensors")
    # Dice is over the images of a process, so that the gradients are near to each other and not the same
    assert all(torch.allclose(one[name], two[name], atol=0.02) for name in one)


def test_validation_of_two_processes_is_that_of_one(uneven: Path, together: Path, tmp_path: Path) -> None:
    scores = read_description(together / "model").validation
    alone = train_model(uneven, tmp_path / "run", config=STILL, device="cpu", initial=together / "model")
    assert scores["images"] == 3
    assert read_description(alone.model).validation == pytest.approx(scores, abs=1e-6)


# batch normalization and its running average have buffers, which each process updates from its own images
BATCH_NORM = {
    "network": {**SETTINGS["network"], "normalization": "batch"},
    "optimization": {**SETTINGS["optimization"], "ema": 0.5},
}
ENCODER = {
    "network": {"encoder": "efficientnet-lite0", "features": [8, 8, 8, 8, 8], "normalization": "group"},
    "optimization": {"epochs": 2, "encoder_rate": 0.5, "freeze_epochs": 1},
}


@pytest.mark.parametrize("changes", [BATCH_NORM, ENCODER], ids=["batch norm", "encoder"])
def test_both_processes_end_with_the_same_weights_and_numbers(
    collection: Collection, tmp_path: Path, changes: dict[str, Any]
) -> None:
    script = tmp_path / "both.py"
    script.write_text(
        f"""
import json, sys
from pathlib import Path
import ignite.distributed as idist
from pneumoseg.pipeline.jobs import train
from pneumoseg.pipeline.core.config import TrainConfig

usual = train.fit
def fit(run, history, *words, **options):
    best = usual(run, history, *words, **options)
    networks = run.network, run.evaluated
    weights = [float(value.double().sum()) for each in networks for value in each.state_dict().values()]
    told = [weights, run.validator.state.metrics["challenge"]]
    Path({str(tmp_path)!r}, f"rank{{idist.get_rank()}}.json").write_text(json.dumps(told))
    return best
train.fit = fit
config = TrainConfig.model_validate({ {**SETTINGS, **changes}!r})
manifest, output = Path({str(collection.manifest_path)!r}), Path({str(tmp_path / "run")!r})
train.train_model(manifest, output, config=config, device="cpu", report=False)
"""
    )
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)],
        env=ONE_THREAD,
        check=True,
        capture_output=True,
        timeout=280,
    )
    one, other = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2))
    assert one == other
