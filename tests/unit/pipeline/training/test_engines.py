from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.transforms import Transform
from monai.utils import CommonKeys as Keys
from torch import Tensor, nn

from pneumoseg.pipeline.devices import Precision
from pneumoseg.pipeline.errors import JobError
from pneumoseg.pipeline.scoring.decision import CaseCurves
from pneumoseg.pipeline.scoring.metrics import CURVES, ChallengeMetric
from pneumoseg.pipeline.training.engines import On, make_evaluator, make_trainer
from pneumoseg.transforms.masks import OperatingPoint

CPU = torch.device("cpu")
FLOAT32 = Precision(CPU, torch.float32)


class OneWeight(nn.Module):
    """Logits are the image times a weight that begins at 1."""

    def __init__(self, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.dropout = nn.Dropout(dropout)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.dropout(image) * self.weight
        return logits


def batch(value: float = 1.0, index: tuple[int, ...] = (4, 9)) -> dict[str, Any]:
    shape = (len(index), 1, 4, 4)
    return {"image": torch.full(shape, value), "label": torch.zeros(shape), "index": torch.tensor(index)}


def train(network: nn.Module, batches: list[dict[str, Any]], **changes: Any) -> Any:
    """Train for one epoch with plain gradient descent at rate 1 on the mean logit."""
    precision = changes.pop("precision", FLOAT32)
    parts: dict[str, Any] = {
        "loss_function": lambda logits, label: (logits - label).mean(),
        "optimizer": torch.optim.SGD(network.parameters(), lr=1.0),
        "precision": precision,
        "scaler": precision.make_scaler(),
        "clip_norm": None,
        "seed": 0,
        "epochs": 1,
        "steps": len(batches),
        "handlers": [],
    }
    trainer = make_trainer(network, batches, **{**parts, **changes})
    trainer.run()
    return trainer


def test_a_step_moves_the_weight_down_the_gradient() -> None:
    network = OneWeight()
    trainer = train(network, [batch(0.25)])
    assert float(network.weight.detach()) == 0.75  # 1 minus the mean pixel
    assert float(trainer.state.output[Keys.LOSS]) == 0.25


def test_gradients_of_one_step_do_not_reach_into_the_next() -> None:
    network = OneWeight()
    train(network, [batch(0.25), batch(0.5)])
    assert float(network.weight.detach()) == 0.25


def test_gradients_are_scaled_down_to_the_norm() -> None:
    network = OneWeight()
    train(network, [batch(8.0)], clip_norm=0.5)
    assert float(network.weight.detach()) == pytest.approx(0.5, abs=1e-5)


def test_a_small_gradient_is_not_scaled_up() -> None:
    network = OneWeight()
    train(network, [batch(0.25)], clip_norm=0.5)
    assert float(network.weight.detach()) == 0.75


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_run_and_names_the_cases(bad: float) -> None:
    network = OneWeight()
    with pytest.raises(JobError, match=r"at step 2 .*\[7, 3\]") as caught:
        train(network, [batch(0.25), batch(bad, index=(7, 3))])
    assert len(str(caught.value).splitlines()) == 1
    assert float(network.weight.detach()) == 0.75  # still that of the first step


def test_an_error_is_left_to_who_called_to_be_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(JobError):
        train(OneWeight(), [batch(float("nan"))])
    assert caplog.messages == []


@pytest.mark.parametrize("clip_norm", [1.0, None])
def test_a_gradient_that_is_no_number_ends_the_run_before_it_reaches_the_weights(
    clip_norm: float | None,
) -> None:
    network = OneWeight()

    def root(logits: Tensor, _: Tensor) -> Tensor:
        return torch.sqrt(logits.sum() * 0)  # 0, with an infinite slope

    with pytest.raises(JobError, match=r"gradient is nan at step 1 \(cases \[4, 9\]"):
        train(network, [batch(1.0)], loss_function=root, clip_norm=clip_norm)
    assert torch.isfinite(network.weight).all()


def test_dropout_is_a_function_of_seed_and_step() -> None:
    def uneven(logits: Tensor, _: Tensor) -> Tensor:
        return (logits.flatten() * torch.linspace(0, 1, logits.numel())).mean()

    def weight(seed: int, disturb: int) -> float:
        network = OneWeight(dropout=0.5)
        torch.manual_seed(disturb)
        train(network, [batch(0.25), batch(0.5)], seed=seed, loss_function=uneven)
        return float(network.weight.detach())

    assert weight(1, disturb=0) == weight(1, disturb=5)
    assert weight(1, disturb=0) != weight(2, disturb=0)


def test_the_highest_seed_works() -> None:
    train(OneWeight(), [batch()], seed=2**32 - 1)


def test_the_loss_is_computed_in_float32_also_under_bf16() -> None:
    seen = []

    def loss(logits: Tensor, label: Tensor) -> Tensor:
        seen.append(logits.dtype)
        return (logits - label).mean()

    network = nn.Conv2d(1, 1, 1)
    train(network, [batch()], loss_function=loss, precision=Precision(CPU, torch.bfloat16))
    assert seen == [torch.float32]
    assert network.weight.dtype == torch.float32


def test_the_network_is_trained_in_training_mode() -> None:
    network = OneWeight().eval()
    train(network, [batch()])
    assert network.training


def test_handlers_are_called_in_their_order() -> None:
    called: list[str] = []
    train(
        OneWeight(),
        [batch(), batch()],
        handlers=[
            On(Events.ITERATION_COMPLETED, lambda: called.append("a")),
            On(Events.ITERATION_COMPLETED, lambda: called.append("b")),
            On(Events.EPOCH_COMPLETED, lambda: called.append("end")),
        ],
    )
    assert called == ["a", "b", "a", "b", "end"]


class ByThreshold(Transform):
    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        curves = CaseCurves.measure(
            torch.sigmoid(data["pred"][0]), data["label"][0], index=int(data["index"])
        )
        return {**data, CURVES: curves}


def evaluate(*logits: float) -> tuple[Any, ChallengeMetric]:
    """Evaluate once for each of *logits*: all negative images, given this logit everywhere."""
    metric = ChallengeMetric(OperatingPoint())
    network = OneWeight(dropout=0.9)
    evaluator = make_evaluator(
        network,
        [batch(1.0, index=(3, 1)), batch(1.0, index=(2,))],
        precision=FLOAT32,
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
    assert [case.index for case in metric.curves] == [3, 1, 2]
    assert evaluator.state.metrics["dice"] == evaluator.state.metrics["challenge"]["dice"] == 1.0


def test_the_best_epoch_is_the_one_with_the_highest_score() -> None:
    evaluator, _ = evaluate(3.0, -3.0, 3.0)
    assert (evaluator.state.best_metric, evaluator.state.best_metric_epoch) == (1.0, 2)


def test_among_equal_epochs_the_latest_is_the_best() -> None:
    evaluator, _ = evaluate(-3.0, -3.0, 3.0)
    assert evaluator.state.best_metric_epoch == 2
