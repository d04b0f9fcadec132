import errno
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.unit.pipeline.training.runs import (
    ENCODER,
    PLAIN,
    before_step,
    configure,
    encoder_state,
    last,
    make_run,
    same,
    spoil,
    spoil_once,
    train,
)

from pneumoseg.pipeline.core.config import TrainConfig
from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.dataset.manifest import Case
from pneumoseg.pipeline.training.checkpoint import State, load_file
from pneumoseg.pipeline.training.fitting import fit
from pneumoseg.pipeline.training.history import History
from pneumoseg.pipeline.training.phases import plan_phases
from pneumoseg.pipeline.training.training_run import TrainingRun


def test_every_epoch_is_a_row_with_all_numbers(setting: tuple[TrainConfig, State]) -> None:
    config, state = setting
    rows = state["history"]["rows"]
    assert [row["epoch"] for row in rows] == list(range(1, len(plan_phases(config)) + 3))
    assert all(row["loss"] > 0 and row["images_per_s"] > 0 for row in rows)
    assert {row["predict_nothing"] for row in rows} == {0.5}


def test_the_validation_loss_stands_beside_that_of_the_training(setting: tuple[TrainConfig, State]) -> None:
    _, state = setting
    assert all(
        math.isfinite(row["validation_loss"]) and row["validation_loss"] > 0
        for row in state["history"]["rows"]
    )


def test_low_resolutions_come_first(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    config = configure({"data": {"stages": [{"image_size": 16, "epochs": 2}]}}, epochs=1)
    train(make_run(cases, pixels, config), tmp_path)
    assert [row["image_size"] for row in last(tmp_path)["history"]["rows"]] == [16, 16, 32]


def test_the_weights_that_are_kept_are_those_of_the_best_epoch(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    run = make_run(cases, pixels, configure())
    best = fit(run, History(), tmp_path / "checkpoints", origin={}).entries[0]
    rows = last(tmp_path)["history"]["rows"]
    ranks = [(row["dice"], row["auc"], row["dice_positive_fixed"], row["epoch"]) for row in rows]
    assert (*best.rank, best.epoch) == max(ranks)
    weights = load_file(tmp_path / "checkpoints" / best.file)["network"]
    assert make_run(cases, pixels, configure()).validate(weights) == best.rank.dice


def test_only_epochs_at_the_final_resolution_can_be_the_best(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    config = configure({"data": {"stages": [{"image_size": 16, "epochs": 2}]}}, epochs=1, learning_rate=1e-12)
    best = fit(make_run(cases, pixels, config), History(), tmp_path / "checkpoints", origin={})
    assert [entry.epoch for entry in best.entries] == [3]


def test_a_run_that_gets_no_better_stops_early(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    train(make_run(cases, pixels, configure(epochs=9, learning_rate=1e-12, patience=2)), tmp_path)
    assert [row["epoch"] for row in last(tmp_path)["history"]["rows"]] == [1, 2, 3]


def train_with(
    run: TrainingRun, folder: Path, monkeypatch: pytest.MonkeyPatch, scores: list[tuple[float, float]]
) -> None:
    """Train with validations that have these Dices and AUCs, then the last ones."""
    history, measured = History(), run.metric.compute

    def compute() -> dict[str, float | None]:
        dice, auc = scores[min(len(history.rows), len(scores) - 1)]
        return {**measured(), "dice": dice, "auc": auc, "dice_positive_fixed": 0.0, "predict_nothing": 0.5}

    monkeypatch.setattr(run.metric, "compute", compute)
    fit(run, history, folder / "checkpoints", origin={})


def test_of_epochs_that_tie_at_predicting_nothing_the_one_with_the_highest_auc_is_kept(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(cases, pixels, configure(epochs=3, patience=None))
    train_with(run, tmp_path, monkeypatch, [(0.5, 0.4), (0.5, 0.9), (0.5, 0.6)])
    assert last(tmp_path)["best"]["entries"][0][:2] == [0.5, 0.9]
    assert last(tmp_path)["best"]["entries"][0][3] == 2


@pytest.mark.parametrize("changes", [PLAIN, {"network": ENCODER["network"]}], ids=["plain", "encoder"])
@pytest.mark.slow
def test_a_skipped_step_is_left_out_of_the_loss_and_counted_on(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path, changes: dict[str, Any]
) -> None:
    run = make_run(cases, pixels, configure(changes, on_bad_step="skip"))
    before_step(run, 1, lambda: spoil_once(run))
    train(run, tmp_path)
    state = last(tmp_path)
    assert state["step"]["skipped"] == 1
    assert all(math.isfinite(row["loss"]) for row in state["history"]["rows"])
    resumed = make_run(cases, pixels, configure(changes, on_bad_step="skip"))
    train(resumed, tmp_path, state=state)
    assert resumed.step.skipped == 1


def test_non_finite_weights_are_never_saved(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    run = make_run(cases, pixels, configure())
    before_step(run, 2, lambda: spoil(run))
    with pytest.raises(JobError):
        train(run, tmp_path)
    for path in (tmp_path / "checkpoints").glob("*.pt"):
        assert all(value.isfinite().all() for value in load_file(path)["network"].values())


def test_a_full_disk_is_a_warning_and_ends_no_run(
    cases: tuple[Case, ...],
    pixels: NDArray[np.uint8],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = make_run(cases, pixels, configure())

    def fill_disk() -> None:
        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)

    before_step(run, 3, fill_disk)
    train(run, tmp_path)
    assert run.plan.steps * 3 == 6
    assert "could not be saved (No space left on device)" in " ".join(capsys.readouterr().err.split())
    assert last(tmp_path)["iteration"] == 2


@pytest.mark.parametrize(("freeze_epochs", "changed"), [(1, False), (0, True)])
@pytest.mark.slow
def test_an_encoder_changes_after_its_frozen_epochs(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path, freeze_epochs: int, changed: bool
) -> None:
    changes = {**ENCODER, "optimization": {"freeze_epochs": freeze_epochs, "freeze_norm": True}}
    run = make_run(cases, pixels, configure(changes, epochs=1))
    encoder, head = encoder_state(run), run.network.head.weight.detach().clone()
    train(run, tmp_path)
    assert same(encoder_state(run), encoder) is not changed
    assert not torch.equal(run.network.head.weight, head)


@pytest.mark.parametrize(("step", "frozen"), [(2, True), (3, False)])  # an epoch has two steps
@pytest.mark.slow
def test_an_encoder_is_frozen_to_the_last_step_of_its_frozen_epochs(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path, step: int, frozen: bool
) -> None:
    run = make_run(cases, pixels, configure(ENCODER, epochs=2))
    seen: list[int] = []
    before_step(run, step, lambda: seen.append(len(run.step.frozen)))
    train(run, tmp_path)
    assert seen == [len(run.encoder_parameters) if frozen else 0]
