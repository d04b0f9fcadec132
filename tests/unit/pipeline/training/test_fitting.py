import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.conftest import make_case
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from pneumoseg.pipeline.config import DataConfig, NetworkConfig, OptimizationConfig, TrainConfig
from pneumoseg.pipeline.dataset.manifest import Case
from pneumoseg.pipeline.devices import Precision
from pneumoseg.pipeline.errors import JobError
from pneumoseg.pipeline.training.checkpoint import State, load_state
from pneumoseg.pipeline.training.history import History, Row
from pneumoseg.pipeline.training.training_run import FINAL_RATE, TrainingRun
from pneumoseg.transforms.rle import encode_rle

SIDE, CASES = 32, 12
VALIDATION = [0, 1, 6, 7]
TRAINING = [index for index in range(CASES) if index not in VALIDATION]
FLOAT32 = Precision(torch.device("cpu"), torch.float32)


class KilledError(Exception):
    """Stands for a machine that is switched off."""


class Rows(History):
    """Keep rows and draw nothing, which takes longer than the training here."""

    def add(self, row: Row) -> None:
        self.rows.append(row)


class KilledAfter(Rows):
    """Die in the epoch after the one that was saved last."""

    epochs = 1

    def add(self, row: Row) -> None:
        if row["epoch"] > self.epochs:
            raise KilledError
        super().add(row)


@pytest.fixture(scope="module")
def cases() -> tuple[Case, ...]:
    return tuple(
        make_case(
            number, shape=(SIDE, SIDE), label=(encode_rle(mask),) if mask.any() else (), area_px=mask.sum()
        )
        for number, mask in enumerate(masks())
    )


def masks() -> list[NDArray[np.uint8]]:
    drawn = []
    for number in range(CASES):
        mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
        if number < 6:
            mask[4 : 12 + number, 6:20] = 1
        drawn.append(mask)
    return drawn


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    grey = np.random.default_rng(0).integers(0, 100, (CASES, SIDE, SIDE), dtype=np.uint8)
    return np.stack([[image + 100 * mask, 255 * mask] for image, mask in zip(grey, masks(), strict=True)])


def configure(**optimization: Any) -> TrainConfig:
    return TrainConfig(
        network=NetworkConfig(features=(4, 8, 8, 8, 8)),
        data=DataConfig(image_size=SIDE, batch_size=4),
        optimization=OptimizationConfig(**{"epochs": 4, "learning_rate": 5e-3, **optimization}),
        seed=7,
    )


def make_run(cases: tuple[Case, ...], pixels: NDArray[np.uint8], config: TrainConfig) -> TrainingRun:
    torch.set_num_threads(1)
    return TrainingRun(
        cases,
        pixels,
        training=TRAINING,
        validation=VALIDATION,
        config=config,
        precision=FLOAT32,
        workers=0,
    )


def fit(
    run: TrainingRun, folder: Path, *, kind: type[History] = Rows, state: State | None = None
) -> dict[str, Tensor]:
    """Train, and give the weights of the last epoch."""
    rows = list(state["history"]) if state else None
    with SummaryWriter(str(folder / "tensorboard")) as writer:
        run.fit(kind(folder, writer, rows), folder / "checkpoints", origin={"config": "x"}, state=state)
    return {name: value.clone() for name, value in run.network.state_dict().items()}


def last(folder: Path) -> State:
    return load_state(folder / "checkpoints" / "last.pt")


def numbers(state: State) -> list[Row]:
    """The rows of the history, without the times."""
    return [
        {k: v for k, v in row.items() if k not in ("seconds", "images_per_s")} for row in state["history"]
    ]


@pytest.fixture(scope="module")
def whole(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a run of four epochs that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    fit(make_run(cases, pixels, configure()), folder, kind=History)
    return folder


def resume_after(epochs: int, cases: tuple[Case, ...], pixels: NDArray[np.uint8], folder: Path) -> State:
    kind = type("Killed", (KilledAfter,), {"epochs": epochs})
    with pytest.raises(KilledError):
        fit(make_run(cases, pixels, configure()), folder, kind=kind)
    torch.manual_seed(12345)  # another process has other random numbers
    fit(make_run(cases, pixels, configure()), folder, state=last(folder))
    return last(folder)


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_run_that_goes_on_is_to_the_bit_the_run_that_nothing_stopped(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], whole: Path, tmp_path: Path, epochs: int
) -> None:
    resumed, expected = resume_after(epochs, cases, pixels, tmp_path), last(whole)
    for name, value in expected["network"].items():
        assert torch.equal(resumed["network"][name], value), name
    for number, moments in expected["optimizer"]["state"].items():
        for name, value in moments.items():
            assert torch.equal(resumed["optimizer"]["state"][number][name], value), name
    for key in ("iteration", "best", "schedule", "early_stop"):
        assert resumed[key] == expected[key], key
    assert numbers(resumed) == numbers(expected)


def test_the_same_run_twice_is_the_same_to_the_bit(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    one, other = (
        fit(make_run(cases, pixels, configure(epochs=1)), tmp_path / name) for name in ("one", "other")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_going_on_with_a_run_that_is_done_changes_nothing(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], whole: Path, tmp_path: Path
) -> None:
    state = last(whole)
    run = make_run(cases, pixels, configure())
    weights = fit(run, tmp_path, state=state)
    assert all(torch.equal(weights[name], value) for name, value in last(whole)["network"].items())
    assert run.validator.state.best_metric_epoch == state["best"][1]


def test_every_epoch_is_a_row_with_all_numbers(whole: Path) -> None:
    with (whole / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert all(float(row["loss"]) > 0 and float(row["images_per_s"]) > 0 for row in rows)
    assert {row["predict_nothing"] for row in rows} == {"0.5"}


def test_the_loss_falls(cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    fit(make_run(cases, pixels, configure(epochs=12, patience=None)), tmp_path)
    rows = last(tmp_path)["history"]
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]


def test_the_best_checkpoint_is_that_of_the_best_epoch(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], whole: Path
) -> None:
    score, epoch = last(whole)["best"]
    rows = last(whole)["history"]
    assert score == max(row["dice"] for row in rows)
    assert epoch == max(row["epoch"] for row in rows if row["dice"] == score)
    run = make_run(cases, pixels, configure())
    run.network.load_state_dict(load_state(whole / "checkpoints" / "best.pt")["network"])
    run.validator.run()
    assert run.validator.state.metrics["dice"] == score


def test_only_the_cases_held_out_are_validated(cases: tuple[Case, ...], pixels: NDArray[np.uint8]) -> None:
    run = make_run(cases, pixels, configure())
    run.validator.run()
    assert [case.index for case in run.metric.curves] == VALIDATION


def test_only_the_training_cases_are_drawn(cases: tuple[Case, ...], pixels: NDArray[np.uint8]) -> None:
    drawn = {
        index
        for batch in make_run(cases, pixels, configure()).make_batches()
        for index in batch["index"].tolist()
    }
    assert drawn == set(TRAINING)


def test_the_learning_rate_rises_to_its_value_and_falls_along_a_cosine(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8]
) -> None:
    run = make_run(cases, pixels, configure(epochs=10, warmup_epochs=2.0))  # 2 steps an epoch: 4 and 16
    rates = [run._rate(step) for step in range(20)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    halfway = FINAL_RATE + (1 - FINAL_RATE) / 2
    assert rates[12] == pytest.approx(halfway)
    assert rates[4:] == sorted(rates[4:], reverse=True)
    last_angle = math.pi * 15 / 16
    assert rates[-1] == pytest.approx(FINAL_RATE + (1 - FINAL_RATE) * (1 + math.cos(last_angle)) / 2)


def test_without_a_warm_up_the_first_step_has_the_whole_rate(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8]
) -> None:
    run = make_run(cases, pixels, configure(warmup_epochs=0))
    assert run.optimizer.param_groups[0]["lr"] == 5e-3


def test_a_run_that_gets_no_better_stops_early(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    run = make_run(cases, pixels, configure(epochs=9, learning_rate=1e-12, patience=2))
    fit(run, tmp_path)
    assert [row["epoch"] for row in last(tmp_path)["history"]] == [1, 2, 3]


def test_patience_is_not_new_for_a_run_that_goes_on(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    config = configure(epochs=9, learning_rate=1e-12, patience=2)
    kind = type("Killed", (KilledAfter,), {"epochs": 2})
    with pytest.raises(KilledError):
        fit(make_run(cases, pixels, config), tmp_path, kind=kind)
    fit(make_run(cases, pixels, config), tmp_path, state=last(tmp_path))
    assert [row["epoch"] for row in last(tmp_path)["history"]] == [1, 2, 3]


def test_a_loss_that_is_no_number_is_one_line_that_names_the_cases(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    run = make_run(cases, pixels, configure(clip_norm=None, warmup_epochs=0))
    with torch.no_grad():
        next(run.network.parameters()).fill_(math.nan)
    with pytest.raises(JobError, match=r"is nan at step 1 \(cases \[") as caught:
        fit(run, tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "checkpoints").exists()


def test_bf16_trains_close_to_float32(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    exact, rough = make_run(cases, pixels, configure(epochs=1)), make_run(cases, pixels, configure(epochs=1))
    rough.precision = Precision(torch.device("cpu"), torch.bfloat16)
    fit(exact, tmp_path / "exact")
    fit(rough, tmp_path / "rough")
    losses = [last(tmp_path / name)["history"][0]["loss"] for name in ("exact", "rough")]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_channels_last_trains_as_the_other_format_does(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    # without dropout, which draws its numbers in the order of memory
    network = NetworkConfig(features=(4, 8, 8, 8, 8), dropout=0)
    for format_ in (True, False):
        config = configure(epochs=2).model_copy(update={"network": network, "channels_last": format_})
        fit(make_run(cases, pixels, config), tmp_path / str(format_))
    one, other = ([row["loss"] for row in last(tmp_path / name)["history"]] for name in ("True", "False"))
    assert one == pytest.approx(other, rel=1e-4)
