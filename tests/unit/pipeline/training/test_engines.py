from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from ignite.engine import Engine, Events
from monai.transforms import Transform
from monai.utils import CommonKeys as Keys
from torch import Tensor, nn

from pneumoseg.models import AttentionUNet, NetworkOutputs
from pneumoseg.pipeline.core.devices import Precision
from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.inference.predictor import Predictor
from pneumoseg.pipeline.scoring.case_curves import count_levels
from pneumoseg.pipeline.scoring.metrics import CURVES, ChallengeMetric, PendingCurves
from pneumoseg.pipeline.training.engines import make_evaluator, make_trainer, use_predictor
from pneumoseg.pipeline.training.step import TrainingStep
from pneumoseg.transforms.masks import OperatingPoint
from pneumoseg.transforms.network_input import Placement

CPU = torch.device("cpu")
FLOAT32 = Precision(CPU, torch.float32)


class OneWeight(nn.Module):
    """Logits are the image times a weight that begins at 1."""

    stride = 1

    def __init__(self, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.dropout = nn.Dropout(dropout)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.dropout(image) * self.weight
        return logits

    def outputs(self, image: Tensor) -> NetworkOutputs:
        return NetworkOutputs(self(image), None, [])


def batch(value: float = 1.0, index: tuple[int, ...] = (4, 9)) -> dict[str, Any]:
    shape = (len(index), 1, 4, 4)
    return {
        "image": torch.full(shape, value),
        "label": torch.zeros(shape),
        "positive": torch.zeros(len(index)),
        "index": torch.tensor(index),
    }


def train(network: nn.Module, batches: list[dict[str, Any]], **changes: Any) -> Any:
    """Train for one epoch with plain gradient descent at rate 1 on the mean logit."""
    step = TrainingStep(
        FLOAT32,
        FLOAT32.make_scaler(),
        clip_norm=None,
        on_bad_step="stop",
        seed=0,
        names=[f"case{number}" for number in range(10)],
    )
    parts: dict[str, Any] = {
        "loss_function": lambda logits, label, _: (logits - label).mean(),
        "optimizer": torch.optim.SGD(network.parameters(), lr=1.0, fused=True),
        "device": CPU,
        "step": step,
        "epochs": 1,
        "steps": len(batches),
        "train_handlers": [],
    }
    trainer = make_trainer(network, batches, **{**parts, **changes})
    trainer.run()
    return trainer


def test_each_batch_is_a_step() -> None:
    network = OneWeight()
    trainer = train(network, [batch(0.25), batch(0.5)])
    assert network.weight.item() == 0.25  # 1 minus the mean pixels
    assert trainer.state.output[Keys.LOSS] == 0.375  # 0.75 times the mean pixel


def test_one_iterator_gives_the_batches_of_all_epochs() -> None:
    network = OneWeight()
    trainer = train(network, [batch(0.25), batch(0.5), batch(0.125), batch(0.0625)], epochs=2, steps=2)
    assert (trainer.state.epoch, trainer.state.iteration) == (2, 4)
    assert network.weight.item() == 0.0625


def test_a_bad_step_ends_the_run_and_is_told_with_its_number() -> None:
    network = OneWeight()
    with pytest.raises(JobError, match=r"at step 2; .*: case7, case3"):
        train(network, [batch(0.25), batch(float("nan"), index=(7, 3))])
    assert network.weight.item() == 0.75  # still that of the first step


def test_an_error_is_left_to_who_called_to_be_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(JobError):
        train(OneWeight(), [batch(float("nan"))])
    assert caplog.messages == []


class Calling:
    """A handler that calls a function at an event."""

    def __init__(self, event: Events, function: Callable[[], object]) -> None:
        self.event = event
        self.function = function

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(self.event, self.function)


def test_handlers_are_called_in_their_order() -> None:
    called: list[str] = []
    train(
        OneWeight(),
        [batch(), batch()],
        train_handlers=[
            Calling(Events.ITERATION_COMPLETED, lambda: called.append("a")),
            Calling(Events.ITERATION_COMPLETED, lambda: called.append("b")),
            Calling(Events.EPOCH_COMPLETED, lambda: called.append("end")),
        ],
    )
    assert called == ["a", "b", "a", "b", "end"]


class ByThreshold(Transform):
    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        prediction = data["pred"]
        curves = PendingCurves(
            index=int(data["index"]),
            levels=count_levels(prediction["probabilities"][0], data["label"][0]),
            image_probability=prediction["image_probability"],
            finite=prediction["finite"],
        )
        return {**data, CURVES: curves}


def predictor(network: nn.Module) -> Predictor:
    return Predictor([cast("AttentionUNet", network)], precision=FLOAT32)


def evaluate(*logits: float) -> tuple[Any, ChallengeMetric]:
    """Evaluate once for each of *logits*: all negative images, given this logit everywhere."""
    metric = ChallengeMetric(OperatingPoint())
    network = OneWeight(dropout=0.9)
    evaluator = make_evaluator(
        predictor(network),
        [batch(1.0, index=(3, 1)), batch(1.0, index=(2,))],
        postprocessing=ByThreshold(),
        key_metric=("dice", metric["dice"]),
        metrics={"challenge": metric},
    )
    for epoch, value in enumerate(logits, start=1):
        network.weight.data.fill_(value)
        evaluator.run(epoch)
    return evaluator, metric


def test_an_evaluator_measures_each_image_once_in_order_and_without_dropout() -> None:
    evaluator, metric = evaluate(-3.0)
    assert [case.index for case in metric.items] == [3, 1, 2]
    assert evaluator.state.metrics["dice"] == evaluator.state.metrics["challenge"]["dice"] == 1.0


def test_the_best_epoch_is_the_one_with_the_highest_score() -> None:
    evaluator, _ = evaluate(3.0, -3.0, 3.0)
    assert (evaluator.state.best_metric, evaluator.state.best_metric_epoch) == (1.0, 2)


def test_among_equal_epochs_the_latest_is_the_best() -> None:
    evaluator, _ = evaluate(-3.0, -3.0, 3.0)
    assert evaluator.state.best_metric_epoch == 2


def test_a_predictor_can_be_replaced_by_another() -> None:
    evaluator, _ = evaluate(-3.0)
    other = OneWeight()
    other.weight.data.fill_(3.0)
    use_predictor(evaluator, predictor(other))
    evaluator.run(2)
    assert evaluator.state.metrics["dice"] == 0.0


def test_pixels_that_are_padding_by_the_batch_do_not_count_for_the_image_probability() -> None:
    """Half of 4,096 pixels are padding of logit 9: the largest permille of the others are 2."""
    image = torch.full((1, 1, 64, 64), 9.0)
    image[0, 0, 16:48] = torch.linspace(-1, 1, 32 * 64).reshape(32, 64)
    metric = ChallengeMetric(OperatingPoint())
    make_evaluator(
        predictor(OneWeight()),
        [
            {
                "image": image,
                "label": torch.zeros_like(image),
                "index": torch.tensor([0]),
                "content": Placement.of((32, 64), 64).mask(64)[None],
            }
        ],
        postprocessing=ByThreshold(),
        key_metric=("dice", metric["dice"]),
    ).run()
    expected = torch.sigmoid(image[0, 0, 47, -2:]).mean().item()
    assert metric.items[0].image_probability == pytest.approx(expected, abs=1e-6)
