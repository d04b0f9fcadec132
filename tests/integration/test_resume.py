"""A run is resumed from its folder alone, with the same settings, and may be made longer."""

import csv
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TINY, Collection

from pneumoseg.pipeline.cli import app as cli
from pneumoseg.pipeline.core.config import DataConfig, OptimizationConfig, TrainConfig
from pneumoseg.pipeline.core.config_files import load_config
from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.core.files import sha256_of
from pneumoseg.pipeline.jobs.cross_validate import cross_validate
from pneumoseg.pipeline.jobs.train import train_model

pytestmark = pytest.mark.slow

CONFIG = TrainConfig(
    network=TINY,
    data=DataConfig(image_size=32, batch_size=4),
    optimization=OptimizationConfig(epochs=2, learning_rate=0.01, patience=None),
    precision="float32",
)


def longer(epochs: int) -> TrainConfig:
    """The configuration with more epochs."""
    optimization = CONFIG.optimization.model_copy(update={"epochs": epochs})
    return CONFIG.model_copy(update={"optimization": optimization})


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def ended(collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of fold 1 that has ended."""
    run = tmp_path_factory.mktemp("ended") / "run"
    train_model(collection.manifest_path, run, fold=1, config=CONFIG, device="cpu", report=False)
    return run


@pytest.fixture
def run(ended: Path, tmp_path: Path) -> Path:
    """A copy of that folder."""
    return Path(shutil.copytree(ended, tmp_path / "run"))


def pneumoseg(*words: object) -> int:
    """Run the command in this process; gives its exit code."""
    return int(cli.app([str(word) for word in words], standalone_mode=False) or 0)


def test_the_folder_is_all_that_is_needed_to_resume(run: Path) -> None:
    before = {path: sha256_of(run / path) for path in ("model/model.json", "config.yaml", "run.json")}
    report = train_model(None, run, device="cpu", resume=True, report=False)
    assert report.fold == 1
    assert {path: sha256_of(run / path) for path in before} == before


def test_a_run_that_has_ended_can_be_made_longer_with_the_schedule_of_its_new_length(run: Path) -> None:
    assert pneumoseg("train", "--resume", "-o", run, "--epochs", 4, "-d", "cpu", "--no-report") == 0
    assert [row["epoch"] for row in rows(run)] == ["1", "2", "3", "4"]
    assert load_config(run / "config.yaml") == longer(4)
    # epochs of two steps, the first of them warm-up: after epoch 3, four of the six steps of the cosine are done
    cosine = (1 + math.cos(math.pi * 4 / 6)) / 2
    assert float(rows(run)[2]["learning_rate"]) == pytest.approx(0.01 * (0.01 + 0.99 * cosine), rel=1e-4)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["config"] == longer(4).model_dump(mode="json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"config": CONFIG.model_copy(update={"seed": 5})},
            "seed is 0 in .*run and 5 was requested; .* only optimization.epochs may grow",
        ),
        ({"config": longer(1)}, r"optimization\.epochs is 2 in .*run and 1 was requested"),
        ({"fold": 0}, "--fold is 1 in .*run and 0 was requested"),
    ],
)
def test_a_change_is_refused_before_anything_is_written(
    run: Path, options: dict[str, Any], message: str
) -> None:
    before = sha256_of(run / "config.yaml")
    with pytest.raises(UsageError, match=message):
        train_model(None, run, device="cpu", resume=True, report=False, **options)
    assert sha256_of(run / "config.yaml") == before


def test_a_setting_on_the_command_line_is_compared_with_that_of_the_run(run: Path) -> None:
    message = f"optimization.learning_rate is 0.01 in {run} and 0.02 was requested"
    with pytest.raises(UsageError, match=re.escape(message)):
        pneumoseg("train", "--resume", "-o", run, "--learning-rate", "2e-2", "-d", "cpu")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--resume", "-o", "nowhere"], 1, r"nowhere: holds no run\.json"),
        (["--resume"], 2, "give -o RUN"),
        ([], 2, "give -o RUN"),
        (["-o", "new"], 2, "the manifest is missing"),
        (["manifest.json", "-o", "new", "--fold", "first"], 2, "a number or `all` would fit"),
    ],
)
def test_what_is_missing_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(JobError, match=message) as caught:
        pneumoseg("train", *words)
    assert caught.value.exit_code == code
    assert len(str(caught.value).splitlines()) == 1


def test_a_run_is_either_resumed_or_deleted(run: Path) -> None:
    with pytest.raises(UsageError, match="--resume continues a run and --overwrite deletes it"):
        pneumoseg("train", "--resume", "--overwrite", "-o", run)


def test_a_cross_validation_is_resumed_and_made_longer_from_its_folder(
    collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    short = longer(1)
    cross_validate(collection.manifest_path, run, config=short, device="cpu", report=False)
    capsys.readouterr()

    cross_validate(None, run, device="cpu", resume=True, report=False)
    told = capsys.readouterr().out
    assert [f"fold {fold} is done already" in told for fold in range(3)] == [True] * 3
    with pytest.raises(UsageError, match=r"seed is 0 in .*run and 1 was requested"):
        cross_validate(
            None, run, device="cpu", resume=True, config=short.model_copy(update={"seed": 1}), report=False
        )

    cross_validate(None, run, device="cpu", resume=True, config=longer(2), report=False)
    for fold in range(3):
        assert [row["epoch"] for row in rows(run / f"fold{fold}")] == ["1", "2"]
    assert load_config(run / "config.yaml") == longer(2)
