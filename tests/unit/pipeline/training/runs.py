"""Tiny training runs for the tests of the training."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tests.conftest import make_case
from torch import Tensor

from pneumoseg.pipeline.core.config import TrainConfig
from pneumoseg.pipeline.core.devices import Precision
from pneumoseg.pipeline.dataset.manifest import Case
from pneumoseg.pipeline.training.checkpoint import State, load_state
from pneumoseg.pipeline.training.fitting import fit
from pneumoseg.pipeline.training.history import History
from pneumoseg.pipeline.training.initial import StartingWeights
from pneumoseg.pipeline.training.step import TrainingStep
from pneumoseg.pipeline.training.tracking import Row
from pneumoseg.pipeline.training.training_run import TrainingRun
from pneumoseg.transforms.labels.rle import encode_rle

SIDE, CASES = 32, 12
VALIDATION = [0, 1, 6, 7]
TRAINING = [index for index in range(CASES) if index not in VALIDATION]
FLOAT32 = Precision(torch.device("cpu"), torch.float32)

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


class PowerCutError(BaseException):
    """Stands for a machine that is switched off: nothing of ours runs after it."""


def make_masks() -> list[NDArray[np.uint8]]:
    result = []
    for index in range(CASES):
        mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
        if index < 6:
            mask[4 : 12 + index, 6:20] = 1
        result.append(mask)
    return result


def make_cases() -> tuple[Case, ...]:
    return tuple(
        make_case(
            index, shape=(SIDE, SIDE), label=(encode_rle(mask),) if mask.any() else (), area_px=mask.sum()
        )
        for index, mask in enumerate(make_masks())
    )


def make_pixels() -> NDArray[np.uint8]:
    grey = np.random.default_rng(0).integers(0, 100, (CASES, SIDE, SIDE), dtype=np.uint8)
    return np.stack(
        [[image + 100 * mask, 255 * mask] for image, mask in zip(grey, make_masks(), strict=True)]
    )


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
        weights=StartingWeights({}, encoder=encoder_weights),
    )


def train(
    run: TrainingRun, folder: Path, *, state: State | None = None, reports: Sequence[Any] = ()
) -> dict[str, Tensor]:
    """Train without drawing anything, and give the weights of the last epoch."""
    fit(
        run,
        History(),
        folder / "checkpoints",
        origin={"config": "x"},
        state=state,
        reports=reports,
    )
    return {name: value.clone() for name, value in run.network.state_dict().items()}


def last(folder: Path) -> State:
    return load_state(folder / "checkpoints")


def numbers(state: State) -> list[Row]:
    """The rows of the history, without the times."""
    return [
        {k: v for k, v in row.items() if k not in ("seconds", "images_per_s")}
        for row in state["history"]["rows"]
    ]


def before_step(run: TrainingRun, number: int, happening: Callable[[], None]) -> None:
    """Let something happen before a step is done."""

    class Step(TrainingStep):
        def __call__(self, engine: Any, batch: Any) -> dict[str, torch.Tensor | int]:
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


def differing(one: State, other: State) -> list[str]:
    """Name the parts in which two states differ, the meter apart; the rows of their histories without times."""
    assert one.keys() == other.keys()
    parts = [key for key in one if key not in {"meter", "history"} and not same(one[key], other[key])]
    return parts + ["history"] * (numbers(one) != numbers(other))


def spoil_once(run: TrainingRun) -> None:
    """Let the next loss be no number."""

    def answer(_: Any, __: Any, logits: Tensor) -> Tensor:
        handle.remove()
        return logits * math.nan

    handle = run.network.head.register_forward_hook(answer)


def spoil(run: TrainingRun) -> None:
    with torch.no_grad():
        next(run.network.parameters()).fill_(math.nan)


def encoder_state(run: TrainingRun) -> dict[str, Tensor]:
    assert run.network.encoder is not None
    return {name: value.clone() for name, value in run.network.encoder.state_dict().items()}
