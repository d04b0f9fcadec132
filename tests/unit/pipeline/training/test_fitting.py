import errno
import math
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from ignite.engine import Events
from numpy.typing import NDArray
from tests.conftest import make_case
from torch import Tensor

from pneumoseg.pipeline.core.config import TrainConfig
from pneumoseg.pipeline.core.devices import Precision
from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.interruption import InterruptedRunError
from pneumoseg.pipeline.dataset.manifest import Case
from pneumoseg.pipeline.training.checkpoint import State, load_file, load_state
from pneumoseg.pipeline.training.fitting import fit
from pneumoseg.pipeline.training.history import History
from pneumoseg.pipeline.training.phases import plan_phases
from pneumoseg.pipeline.training.step import TrainingStep
from pneumoseg.pipeline.training.tracking import Row
from pneumoseg.pipeline.training.training_run import TrainingRun
from pneumoseg.transforms.labels.rle import encode_rle

SIDE, CASES = 32, 12
VALIDATION = [0, 1, 6, 7]
TRAINING = [index for index in range(CASES) if index not in VALIDATION]
FLOAT32 = Precision(torch.device("cpu"), torch.float32)


class PowerCutError(BaseException):
    """Stands for a machine that is switched off: nothing of ours runs after it."""


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


PLAIN: dict[str, Any] = {}
RICH: dict[str, Any] = {  # everything that has a state of its own
    "network": {"normalization": "group", "deep_supervision": True, "image_head": True},
    "data": {
        "stages": [{"image_size": 16, "epochs": 1}],
        "accumulate": 2,
        "crop": 16,
        "final_positive_rate": "prior",
    },
    "optimization": {
        "ema": 0.9,
        "average": "swa",
        "average_share": 1.0,
        "schedule": "plateau",
        "plateau_patience": 1,
    },
}
ENCODER: dict[str, Any] = {  # has batch statistics, a learning rate of its own and a frozen start
    "network": {
        "encoder": "efficientnet-lite0",
        "features": (8, 8, 8, 8, 8),
        "normalization": "group",
        "image_head": True,
        "head_prior": 0.05,
    },
    "optimization": {"ema": 0.9, "encoder_rate": 0.5, "freeze_epochs": 1},
}


def configure(changes: dict[str, Any] | None = None, **optimization: Any) -> TrainConfig:
    settings: dict[str, Any] = {
        "network": {"features": (4, 8, 8, 8, 8)},
        "data": {"image_size": SIDE, "batch_size": 4},
        "optimization": {"epochs": 3, "learning_rate": 5e-3, **optimization},
        "seed": 7,
    }
    for section, values in (changes or {}).items():
        settings[section] = {**settings[section], **values} if isinstance(values, dict) else values
    return TrainConfig.model_validate(settings)


def make_run(
    cases: tuple[Case, ...],
    pixels: NDArray[np.uint8],
    config: TrainConfig,
    *,
    workers: int = 0,
    encoder_weights: dict[str, Tensor] | None = None,
) -> TrainingRun:
    torch.set_num_threads(1)
    return TrainingRun(
        cases,
        {SIDE: pixels, SIDE // 2: pixels[:, :, ::2, ::2]},
        training=TRAINING,
        validation=VALIDATION,
        config=config,
        precision=FLOAT32,
        workers=workers,
        encoder_weights=encoder_weights,
    )


def train(run: TrainingRun, folder: Path, *, state: State | None = None) -> dict[str, Tensor]:
    """Train without drawing anything, and give the weights of the last epoch."""
    fit(
        run,
        History(state["history"] if state else None),
        folder / "checkpoints",
        origin={"config": "x"},
        state=state,
    )
    return {name: value.clone() for name, value in run.network.state_dict().items()}


def last(folder: Path) -> State:
    return load_state(folder / "checkpoints")


def numbers(state: State) -> list[Row]:
    """The rows of the history, without the times."""
    return [
        {k: v for k, v in row.items() if k not in ("seconds", "images_per_s")} for row in state["history"]
    ]


def before_step(run: TrainingRun, number: int, happening: Callable[[], None]) -> None:
    """Let something happen before a step is done."""

    class Step(TrainingStep):
        def __call__(self, engine: Any, batch: Any) -> dict[str, float | int]:
            if engine.state.iteration == number:
                happening()
            return super().__call__(engine, batch)

    run.step.__class__ = Step


def cut_power() -> None:
    raise PowerCutError


def same(one: Any, other: Any) -> bool:
    """Whether two states are the same to the bit."""
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


COMPARED = ("iteration", "network", "optimizer", "schedule", "scaler", "best")


@pytest.fixture(scope="module", params=[PLAIN, RICH], ids=["plain", "rich"])
def setting(
    request: pytest.FixtureRequest,
    cases: tuple[Case, ...],
    pixels: NDArray[np.uint8],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[TrainConfig, State]:
    """A configuration, and the last state of a run that nothing stopped."""
    config = configure({**request.param, "save_minutes": 1e-9})
    folder = tmp_path_factory.mktemp("whole")
    train(make_run(cases, pixels, config), folder)
    return config, last(folder)


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5], ids="before step {}".format)
def test_a_run_whose_power_was_cut_goes_on_to_the_same_bits(
    cases: tuple[Case, ...],
    pixels: NDArray[np.uint8],
    setting: tuple[TrainConfig, State],
    tmp_path: Path,
    step: int,
) -> None:
    config, expected = setting
    run = make_run(cases, pixels, config)
    before_step(run, step, cut_power)
    with pytest.raises(PowerCutError):
        train(run, tmp_path)
    torch.manual_seed(12345)  # another process has other random numbers
    train(make_run(cases, pixels, config), tmp_path, state=last(tmp_path))
    found = last(tmp_path)
    assert [key for key in COMPARED if not same(found[key], expected[key])] == []
    assert numbers(found) == numbers(expected)


@pytest.mark.parametrize("workers", [1, 2])
def test_loader_workers_change_no_bit(
    cases: tuple[Case, ...],
    pixels: NDArray[np.uint8],
    tmp_path: Path,
    workers: int,
) -> None:
    config = configure({"save_minutes": 1e-9}, epochs=2)
    expected = train(make_run(cases, pixels, config), tmp_path / "whole")
    run = make_run(cases, pixels, config, workers=workers)
    before_step(run, 2, cut_power)
    with pytest.raises(PowerCutError):
        train(run, tmp_path / "cut")
    resumed = train(
        make_run(cases, pixels, config, workers=workers), tmp_path / "cut", state=last(tmp_path / "cut")
    )
    assert same(resumed, expected)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_after_the_step_and_the_run_goes_on_from_there(
    cases: tuple[Case, ...],
    pixels: NDArray[np.uint8],
    setting: tuple[TrainConfig, State],
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    config, expected = setting
    run = make_run(cases, pixels, config)
    before_step(run, 3, lambda: os.kill(os.getpid(), number))
    with pytest.raises(InterruptedRunError, match="saved after step 3 of") as caught:
        train(run, tmp_path)
    assert caught.value.exit_code == 128 + number
    train(make_run(cases, pixels, config), tmp_path, state=last(tmp_path))
    assert [key for key in COMPARED if not same(last(tmp_path)[key], expected[key])] == []


def test_a_signal_in_a_validation_is_heeded_and_the_validation_made_up_for(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], setting: tuple[TrainConfig, State], tmp_path: Path
) -> None:
    config, expected = setting
    run = make_run(cases, pixels, config)
    run.validator.add_event_handler(
        Events.ITERATION_STARTED(once=1), lambda: os.kill(os.getpid(), signal.SIGTERM)
    )
    with pytest.raises(InterruptedRunError):
        train(run, tmp_path)
    assert last(tmp_path)["history"] == []
    train(make_run(cases, pixels, config), tmp_path, state=last(tmp_path))
    assert numbers(last(tmp_path)) == numbers(expected)


def test_there_is_something_to_go_on_from_before_the_first_step(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    run = make_run(cases, pixels, configure())
    before_step(run, 1, cut_power)
    with pytest.raises(PowerCutError):
        train(run, tmp_path)
    assert last(tmp_path)["iteration"] == 0


def test_the_same_run_twice_is_the_same_to_the_bit(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    one, other = (
        train(make_run(cases, pixels, configure(epochs=1)), tmp_path / name) for name in ("one", "other")
    )
    assert same(one, other)


def test_going_on_with_a_run_that_is_done_changes_nothing(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], setting: tuple[TrainConfig, State], tmp_path: Path
) -> None:
    config, state = setting
    assert same(train(make_run(cases, pixels, config), tmp_path, state=state), state["network"])


def test_a_run_that_has_ended_goes_on_when_it_is_made_longer(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    config = configure(epochs=2, average="swa", average_share=0.5)
    train(make_run(cases, pixels, config), tmp_path)
    longer = make_run(cases, pixels, configure(epochs=4, average="swa", average_share=0.5))
    train(longer, tmp_path, state=last(tmp_path))
    assert [row["epoch"] for row in last(tmp_path)["history"]] == [1, 2, 3, 4]
    assert longer.epoch_average is not None
    assert longer.epoch_average.epochs == 2  # the last two of four, and not the second


def test_a_run_that_stopped_early_goes_on_when_it_is_made_longer(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"learning_rate": 1e-12, "patience": 2}
    train(make_run(cases, pixels, configure(epochs=9, **settings)), tmp_path)
    before = len(last(tmp_path)["history"])
    assert before < 9
    train(make_run(cases, pixels, configure(epochs=20, **settings)), tmp_path, state=last(tmp_path))
    assert len(last(tmp_path)["history"]) == before + 3  # as patient as at first, and no longer


def test_a_run_without_a_gradient_scaler_can_be_resumed_where_there_is_one(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    train(make_run(cases, pixels, configure(epochs=1)), tmp_path)
    run = make_run(cases, pixels, configure(epochs=1))
    run.scaler = torch.amp.GradScaler("cpu", enabled=True)  # another machine computes in fp16
    train(run, tmp_path, state=last(tmp_path))
    assert run.scaler.get_scale() > 0


def test_every_epoch_is_a_row_with_all_numbers(setting: tuple[TrainConfig, State]) -> None:
    config, state = setting
    rows = state["history"]
    assert [row["epoch"] for row in rows] == list(range(1, len(plan_phases(config)) + 3))
    assert all(row["loss"] > 0 and row["images_per_s"] > 0 for row in rows)
    assert {row["predict_nothing"] for row in rows} == {0.5}


def test_the_loss_falls(cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    train(make_run(cases, pixels, configure(epochs=12, patience=None)), tmp_path)
    rows = last(tmp_path)["history"]
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]


def test_the_weights_that_are_kept_are_those_of_the_best_epoch(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    run = make_run(cases, pixels, configure())
    best = fit(run, History(), tmp_path / "checkpoints", origin={}).entries[0]
    rows = last(tmp_path)["history"]
    ranks = [(row["dice"], row["auc"], row["dice_positive_fixed"], row["epoch"]) for row in rows]
    assert (*best.rank, best.epoch) == max(ranks)
    weights = load_file(tmp_path / "checkpoints" / best.file)["network"]
    assert make_run(cases, pixels, configure()).validate(weights) == best.rank.dice


def test_low_resolutions_come_first(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    config = configure({"data": {"stages": [{"image_size": 16, "epochs": 2}]}}, epochs=1)
    train(make_run(cases, pixels, config), tmp_path)
    assert [row["image_size"] for row in last(tmp_path)["history"]] == [16, 16, 32]


def test_training_sees_crops_and_validation_whole_images(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8]
) -> None:
    config = configure({"data": {"crop": 16, "stages": [{"image_size": 16, "epochs": 1}]}}, epochs=1)
    run = make_run(cases, pixels, config)
    for batch in run.make_batches(run.plan.steps):  # those of the final phase
        assert batch["image"].shape[-2:] == batch["label"].shape[-2:] == (16, 16)
        shown = (batch["label"] > 0.5 / 255).flatten(1).any(dim=1)
        assert batch["positive"].tolist() == shown.float().tolist()
    assert next(iter(run.validation_loaders[-1]))["image"].shape[-2:] == (SIDE, SIDE)


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
    assert [row["epoch"] for row in last(tmp_path)["history"]] == [1, 2, 3]


def test_a_run_that_stopped_early_stays_so_when_it_goes_on(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    config = configure(epochs=9, learning_rate=1e-12, patience=2)
    train(make_run(cases, pixels, config), tmp_path)
    train(make_run(cases, pixels, config), tmp_path, state=last(tmp_path))
    assert len(last(tmp_path)["history"]) == 3


def test_patience_is_not_new_for_a_run_that_goes_on(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    config = configure(epochs=9, learning_rate=1e-12, patience=2)
    run = make_run(cases, pixels, config)
    before_step(run, 5, cut_power)  # after two epochs of two steps
    with pytest.raises(PowerCutError):
        train(run, tmp_path)
    train(make_run(cases, pixels, config), tmp_path, state=last(tmp_path))
    assert [row["epoch"] for row in last(tmp_path)["history"]] == [1, 2, 3]


def test_the_validation_loss_stands_beside_that_of_the_training(setting: tuple[TrainConfig, State]) -> None:
    _, state = setting
    assert all(
        math.isfinite(row["validation_loss"]) and row["validation_loss"] > 0 for row in state["history"]
    )


def stopped_at(
    run: TrainingRun, folder: Path, monkeypatch: pytest.MonkeyPatch, scores: list[tuple[float, float]]
) -> int:
    """The number of epochs that a run makes whose validations have these Dices and AUCs, then the last ones."""
    history, measured = History(), run.metric.compute

    def compute() -> dict[str, float | None]:
        dice, auc = scores[min(len(history.rows), len(scores) - 1)]
        return {**measured(), "dice": dice, "auc": auc, "dice_positive_fixed": 0.0, "predict_nothing": 0.5}

    monkeypatch.setattr(run.metric, "compute", compute)
    fit(run, history, folder / "checkpoints", origin={})
    return len(history.rows)


@pytest.mark.parametrize(
    "scores",
    [
        [(0.6, 0.5), (0.6, 0.5), (0.6, 0.5)],  # nothing gets better after the first epoch
        [
            (0.6, 0.5),
            (0.6, 0.6),
            (0.6, 0.7),
            (0.6, 0.7),
            (0.6, 0.7),
        ],  # a higher AUC is better where Dice ties
        [(0.5, 0.5)] * 8,  # patience does not begin at predicting nothing
        [(0.5, 0.5), (0.5, 0.5), (0.6, 0.4), (0.59, 0.9), (0.59, 0.9)],
    ],
)
def test_patience_counts_epochs_that_rank_no_higher(
    cases: tuple[Case, ...],
    pixels: NDArray[np.uint8],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scores: list[tuple[float, float]],
) -> None:
    """The run stops at the end of each list, which is 8 epochs long at most."""
    run = make_run(cases, pixels, configure(epochs=8, patience=2))
    assert stopped_at(run, tmp_path, monkeypatch, scores) == len(scores)


def test_of_epochs_that_tie_at_predicting_nothing_the_one_that_tells_images_apart_is_kept(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(cases, pixels, configure(epochs=3, patience=None))
    stopped_at(run, tmp_path, monkeypatch, [(0.5, 0.4), (0.5, 0.9), (0.5, 0.6)])
    assert last(tmp_path)["best"][0][:2] == [0.5, 0.9]
    assert last(tmp_path)["best"][0][3] == 2


def test_a_loss_that_is_no_number_is_one_line_that_names_the_cases(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    run = make_run(cases, pixels, configure())
    before_step(run, 2, lambda: spoil(run))
    with pytest.raises(JobError, match=r"the loss is nan at step 2; .*: case") as caught:
        train(run, tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_weights_that_are_no_numbers_are_never_saved(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    run = make_run(cases, pixels, configure())
    before_step(run, 2, lambda: spoil(run))
    with pytest.raises(JobError):
        train(run, tmp_path)
    for path in (tmp_path / "checkpoints").glob("*.pt"):
        assert all(value.isfinite().all() for value in load_file(path)["network"].values())


@pytest.mark.parametrize("changes", [PLAIN, {"network": ENCODER["network"]}], ids=["plain", "encoder"])
def test_a_skipped_step_is_left_out_of_the_loss_and_counted_on(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path, changes: dict[str, Any]
) -> None:
    run = make_run(cases, pixels, configure(changes, on_bad_step="skip"))
    before_step(run, 1, lambda: spoil_once(run))
    train(run, tmp_path)
    state = last(tmp_path)
    assert state["skipped"] == 1
    assert all(math.isfinite(row["loss"]) for row in state["history"])
    resumed = make_run(cases, pixels, configure(changes, on_bad_step="skip"))
    train(resumed, tmp_path, state=state)
    assert resumed.step.skipped == 1


def spoil_once(run: TrainingRun) -> None:
    """Let the next loss be no number."""

    def answer(_: Any, __: Any, logits: Tensor) -> Tensor:
        handle.remove()
        return logits * math.nan

    handle = run.network.head.register_forward_hook(answer)


def spoil(run: TrainingRun) -> None:
    with torch.no_grad():
        next(run.network.parameters()).fill_(math.nan)


# --- a pretrained encoder


def test_a_run_with_an_encoder_goes_on_to_the_same_bits(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    config = configure({**ENCODER, "save_minutes": 1e-9})
    train(make_run(cases, pixels, config), tmp_path / "whole")
    expected = last(tmp_path / "whole")
    for step in (2, 4):  # in the frozen epoch, and after it
        folder = tmp_path / str(step)
        run = make_run(cases, pixels, config)
        before_step(run, step, cut_power)
        with pytest.raises(PowerCutError):
            train(run, folder)
        torch.manual_seed(12345)  # another process has other random numbers
        train(make_run(cases, pixels, config), folder, state=last(folder))
        found = last(folder)
        compared = (*COMPARED, "running_average")
        assert [key for key in compared if not same(found[key], expected[key])] == []
        assert numbers(found) == numbers(expected)


def encoder_state(run: TrainingRun) -> dict[str, Tensor]:
    assert run.network.encoder is not None
    return {name: value.clone() for name, value in run.network.encoder.state_dict().items()}


@pytest.mark.parametrize(("freeze_epochs", "changed"), [(1, False), (0, True)])
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
def test_an_encoder_is_frozen_to_the_last_step_of_its_frozen_epochs(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path, step: int, frozen: bool
) -> None:
    run = make_run(cases, pixels, configure(ENCODER, epochs=2))
    seen: list[int] = []
    before_step(run, step, lambda: seen.append(len(run.step.frozen)))
    train(run, tmp_path)
    assert seen == [len(run.encoder_parameters) if frozen else 0]


def test_frozen_statistics_of_an_encoder_outlive_a_training(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    for frozen in (True, False):
        changes = {**ENCODER, "optimization": {"freeze_norm": frozen}}
        run = make_run(cases, pixels, configure(changes, epochs=1))
        before = encoder_state(run)
        train(run, tmp_path / str(frozen))
        after = encoder_state(run)
        names = [name for name in before if "running" in name]
        assert all(torch.equal(after[name], before[name]) for name in names) is frozen


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_the_encoder_learns_at_its_share_of_the_rate(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], optimizer: str, schedule: str
) -> None:
    run = make_run(
        cases,
        pixels,
        configure({"network": ENCODER["network"]}, encoder_rate=0.25, optimizer=optimizer, schedule=schedule),
    )
    main, encoder = run.optimizer.param_groups  # the first one's rate is logged
    assert {id(each) for each in encoder["params"]} == {id(each) for each in run.encoder_parameters}
    assert len(main["params"]) + len(encoder["params"]) == len(list(run.network.parameters()))
    assert main["weight_decay"] == encoder["weight_decay"] > 0
    for _ in range(3):
        assert encoder["lr"] == pytest.approx(0.25 * main["lr"])
        run.schedule.after_step()


def test_a_run_begins_with_the_encoder_that_it_is_given(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8]
) -> None:
    given = {
        name: value + 1 for name, value in encoder_state(make_run(cases, pixels, configure(ENCODER))).items()
    }
    run = make_run(cases, pixels, configure(ENCODER), encoder_weights=given)
    assert same(encoder_state(run), given)
    whole = make_run(cases, pixels, configure(ENCODER)).network.state_dict()
    assert same(dict(run.network.head.state_dict()), {k: whole[f"head.{k}"] for k in ("weight", "bias")})


def test_a_full_disk_is_told_and_ends_no_run(
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


def test_a_loader_process_that_dies_is_told_and_the_run_saved(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    run = make_run(cases, pixels, configure({"save_minutes": 1e-9}, epochs=50, patience=None), workers=1)

    def kill_workers() -> None:
        for process in multiprocessing.active_children():
            if "Process" in type(process).__name__:
                os.kill(cast("int", process.pid), signal.SIGKILL)

    before_step(run, 3, kill_workers)
    with pytest.raises(JobError, match="a loader process ended"):
        train(run, tmp_path)
    assert last(tmp_path)["iteration"] >= 3


def test_too_little_memory_is_told_with_what_to_change(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    run = make_run(cases, pixels, configure())

    def run_out() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    before_step(run, 2, run_out)
    with pytest.raises(JobError, match=r"too little memory .* data\.accumulate"):
        train(run, tmp_path)
    assert last(tmp_path)["iteration"] == 1


def test_bf16_trains_close_to_float32(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    exact = make_run(cases, pixels, configure(epochs=1))
    rough = make_run(cases, pixels, configure(epochs=1))
    rough.step.precision = Precision(torch.device("cpu"), torch.bfloat16)
    train(exact, tmp_path / "exact")
    train(rough, tmp_path / "rough")
    losses = [last(tmp_path / name)["history"][0]["loss"] for name in ("exact", "rough")]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_channels_last_trains_as_the_other_format_does(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    # without dropout, which draws its numbers in the order of memory
    for format_ in (True, False):
        config = configure({"network": {"dropout": 0}, "channels_last": format_}, epochs=2)
        train(make_run(cases, pixels, config), tmp_path / str(format_))
    one, other = ([row["loss"] for row in last(tmp_path / name)["history"]] for name in ("True", "False"))
    assert one == pytest.approx(other, rel=1e-4)
