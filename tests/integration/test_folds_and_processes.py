"""A network for each fold, and a run whose work several processes share."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.conftest import Collection
from tests.integration.settings import CONFIG, SETTINGS, STILL

from pneumoseg.pipeline.core.devices import resolve_device
from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.dataset.manifest import write_manifest
from pneumoseg.pipeline.inference.model import load_model
from pneumoseg.pipeline.jobs.cross_validate import cross_validate
from pneumoseg.pipeline.jobs.evaluate import evaluate_model
from pneumoseg.pipeline.jobs.train import train_model
from pneumoseg.pipeline.model.description import read_description
from pneumoseg.pipeline.scoring.out_of_fold import OUT_OF_FOLD, load_out_of_fold

pytestmark = pytest.mark.slow
# batch normalization and its running average have buffers, which each process updates from its own images
BATCH_NORM: dict[str, Any] = {
    "network": {**SETTINGS["network"], "normalization": "batch"},
    "optimization": {**SETTINGS["optimization"], "ema": 0.5},
}
ENCODER: dict[str, Any] = {
    "network": {"encoder": "efficientnet-lite0", "features": [8, 8, 8, 8, 8], "normalization": "group"},
    "optimization": {"epochs": 2, "encoder_rate": 0.5, "freeze_epochs": 1},
}


@pytest.fixture(scope="module")
def crossed(collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a cross-validation."""
    folder = tmp_path_factory.mktemp("crossed") / "run"
    cross_validate(collection.manifest_path, folder, config=CONFIG, device="cpu", report=False)
    return folder


def test_cross_validation_makes_a_model_with_a_network_for_each_fold(crossed: Path) -> None:
    description = read_description(crossed / "model")
    assert [member.held_out_fold for member in description.members] == [0, 1, 2]
    assert len(load_model(crossed / "model", resolve_device("cpu")).networks) == 3


def test_every_case_is_predicted_by_the_network_that_never_saw_it(
    collection: Collection, crossed: Path
) -> None:
    whole = load_out_of_fold(crossed / OUT_OF_FOLD)
    assert [curves.index for curves in whole] == list(range(12))
    for fold in range(3):
        mine = [index for index, case in enumerate(collection.manifest.training) if case.fold == fold]
        assert [curves.index for curves in load_out_of_fold(crossed / f"fold{fold}" / OUT_OF_FOLD)] == mine


def test_evaluation_of_all_folds_gives_the_scores_of_the_cross_validation(
    collection: Collection, crossed: Path, tmp_path: Path
) -> None:
    report = evaluate_model(
        crossed / "model", collection.manifest_path, tmp_path / "out", runtime=Runtime(device="cpu")
    )
    expected = read_description(crossed / "model").validation
    assert (report.scores.score.images, report.trained_on) == (12, 0)
    # bf16 here, where there is such
    assert report.scores.score.dice == pytest.approx(expected["dice"], abs=0.01)


def test_cross_validation_goes_on_where_it_stopped(
    collection: Collection, crossed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (crossed / "model" / "model.json").read_bytes()
    (crossed / "fold1" / "model" / "model.json").unlink()
    cross_validate(collection.manifest_path, crossed, config=CONFIG, device="cpu", resume=True, report=False)
    told = capsys.readouterr().out
    assert "fold 0 is done already" in told
    assert "fold 1 is done already" not in told
    assert (crossed / "model" / "model.json").read_bytes() == before


@pytest.fixture(scope="module")
def uneven(collection: Collection) -> Path:
    """A manifest whose first fold has three cases, which two processes cannot share evenly."""
    whole = collection.manifest
    left_out = next(case for case in whole.training if case.fold == 0)
    cases = tuple(case for case in whole.training if case is not left_out)
    path = collection.folder / "uneven.json"
    write_manifest(path, whole.model_copy(update={"training": cases, "size": len(cases)}))
    return path


def torchrun(*words: str | Path) -> None:
    """Run a module or a script in two processes."""
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )


def train_words(settings: dict[str, Any], manifest: Path, run: Path) -> list[str]:
    """The words that train with some settings."""
    config = run.with_suffix(".yaml")
    config.write_text(json.dumps(settings))  # JSON is YAML
    return ["train", str(manifest), "-o", str(run), "-d", "cpu", "--no-report", "--config", str(config)]


def free_port() -> int:
    """Find a port that nobody listens to."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def together(collection: Collection, uneven: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of three runs of two processes each, which are started once."""
    folder = tmp_path_factory.mktemp("together")
    jobs = {
        "uneven": (SETTINGS, uneven),
        "batch": ({**SETTINGS, **BATCH_NORM}, collection.manifest_path),
        "encoder": ({**SETTINGS, **ENCODER}, collection.manifest_path),
    }
    for name, (settings, manifest) in jobs.items():
        job = {"words": train_words(settings, manifest, folder / name), "port": free_port()}
        (folder / f"{name}.json").write_text(json.dumps(job))
    script = Path(__file__).with_name("two_processes.py")
    torchrun(script, *(folder / f"{name}.json" for name in jobs))
    return folder


def test_two_processes_share_the_folds(collection: Collection, crossed: Path, tmp_path: Path) -> None:
    words = train_words(SETTINGS, collection.manifest_path, tmp_path / "run")
    torchrun("-m", "pneumoseg.pipeline", *words, "--fold", "all")
    for fold in range(3):
        one, other = (
            load_file(folder / "model" / "weights" / f"fold{fold}.safetensors")
            for folder in (crossed, tmp_path / "run")
        )
        # each process has fewer threads, which add up in another order
        assert all(torch.allclose(one[name], other[name], atol=0.02) for name in one)


def test_two_processes_train_as_one_does(uneven: Path, together: Path, tmp_path: Path) -> None:
    alone = train_model(uneven, tmp_path / "run", config=CONFIG, device="cpu", report=False).model
    one = load_file(alone / "weights" / "fold0.safetensors")
    two = load_file(together / "uneven" / "model" / "weights" / "fold0.safetensors")
    # Dice is over the images of a process, so that the gradients are near to each other and not the same
    assert all(torch.allclose(one[name], two[name], atol=0.02) for name in one)


def test_validation_of_two_processes_is_that_of_one(uneven: Path, together: Path, tmp_path: Path) -> None:
    scores = read_description(together / "uneven" / "model").validation
    alone = train_model(
        uneven,
        tmp_path / "run",
        config=STILL,
        device="cpu",
        initial=together / "uneven" / "model",
        report=False,
    )
    assert scores["images"] == 3
    assert read_description(alone.model).validation == pytest.approx(scores, abs=1e-6)


@pytest.mark.parametrize("job", ["batch", "encoder"])
def test_both_processes_end_with_the_same_weights_and_numbers(together: Path, job: str) -> None:
    one, other = (json.loads((together / f"{job}-rank{rank}.json").read_text()) for rank in range(2))
    assert one == other
