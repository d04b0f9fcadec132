import math
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from ignite.exceptions import NotComputableError
from torch import Tensor

from pneumoseg.pipeline.core.loss_terms import BCETerm, DiceTerm
from pneumoseg.pipeline.scoring.case_curves import STEPS
from pneumoseg.pipeline.scoring.metrics import CURVES, PendingCurves
from pneumoseg.pipeline.training.losses import TrainingLoss
from pneumoseg.pipeline.training.validation_loss import EPS, ValidationLoss


def item(
    pixels: float, label: Tensor, image_probability: float = 0.5, *, label_area: int = 1
) -> dict[str, Any]:
    """An image of one probability; its original mask may hold pixels although the smaller label has lost them."""
    probabilities = torch.full((1, 4, 4), pixels)
    levels = torch.zeros(2, STEPS + 1, dtype=torch.int32)
    levels[1, 0] = label_area
    probability = torch.tensor([image_probability])
    curves = PendingCurves(index=0, levels=levels, image_probability=probability, finite=torch.tensor([True]))
    return {
        "pred": {"probabilities": probabilities, "image_probability": probability},
        "label": label,
        CURVES: curves,
    }


HALF = torch.cat([torch.ones(1, 2, 4), torch.zeros(1, 2, 4)], dim=1)
NONE = torch.zeros(1, 4, 4)


def loss_of(batches: list[list[dict[str, Any]]], *terms: Any, image_head: bool = False) -> float:
    metric = ValidationLoss(TrainingLoss(terms, deep_weight=0.5, image_weight=0.25), image_head=image_head)
    engine = Engine(lambda _, batch: batch)
    metric.attach(engine, "loss")
    return float(engine.run(batches).metrics["loss"])


def test_cross_entropy_and_image_head_are_those_worked_by_hand() -> None:
    items = [item(0.25, HALF, 0.8), item(0.1, NONE, 0.3, label_area=0), item(0.5, NONE, 0.9)]
    pixels = [-(math.log(0.25) + math.log(0.75)) / 2, -math.log(0.9), -math.log(0.5)]
    images = [-math.log(0.8), -math.log(0.7), -math.log(0.9)]  # the last is positive by its original mask
    expected = sum(pixels) / 3
    assert loss_of([items], BCETerm()) == pytest.approx(expected, rel=1e-5)
    assert loss_of([items], BCETerm(weight=2.0)) == pytest.approx(2 * expected, rel=1e-5)
    with_head = loss_of([items], BCETerm(), image_head=True)
    assert with_head == pytest.approx(expected + 0.25 * sum(images) / 3, rel=1e-5)


def test_dice_is_that_of_a_batch_as_one_image() -> None:
    # the second image has no label, and no Dice of its own
    overlap, sums = (
        0.25 * 8,
        0.25 * 16 + 0.5 * 16 + 8,
    )
    expected = 1 - 2 * overlap / sums
    assert loss_of([[item(0.25, HALF), item(0.5, NONE)]], DiceTerm()) == pytest.approx(expected, rel=1e-4)


def test_batches_count_by_their_images() -> None:
    items = [item(0.1 * number, HALF if number % 2 else NONE) for number in range(1, 8)]
    together = loss_of([items], BCETerm())
    assert loss_of([items[:3], items[3:4], items[4:]], BCETerm()) == pytest.approx(together)


def test_a_sure_error_has_a_finite_loss() -> None:
    assert loss_of([[item(1.0, NONE)]], BCETerm()) == pytest.approx(-math.log(EPS), rel=0.02)


def test_without_images_there_is_no_loss() -> None:
    metric = ValidationLoss(TrainingLoss([BCETerm()], deep_weight=0, image_weight=0), image_head=False)
    with pytest.raises(NotComputableError):
        metric.compute()


def test_a_second_run_forgets_the_first() -> None:
    metric = ValidationLoss(TrainingLoss([BCETerm()], deep_weight=0, image_weight=0), image_head=False)
    engine = Engine(lambda _, batch: batch)
    metric.attach(engine, "loss")
    engine.run([[item(0.9, NONE)]])
    assert engine.run([[item(0.5, NONE)]]).metrics["loss"] == pytest.approx(math.log(2))
