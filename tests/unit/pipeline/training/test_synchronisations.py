"""The host never waits for a GPU within a training step or validation; counted on the meta device, without values."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.conftest import make_case
from torch import Tensor
from torch.optim import optimizer
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from pneumoseg.models import AttentionUNet, TrainingForward
from pneumoseg.pipeline.core.config import OptimizationConfig
from pneumoseg.pipeline.core.devices import Precision
from pneumoseg.pipeline.core.loss_terms import BCETerm, DiceTerm, FocalTerm, LossTerm, LovaszTerm, TverskyTerm
from pneumoseg.pipeline.inference.predictor import Predictor
from pneumoseg.pipeline.scoring.metrics import ChallengeMetric, MeasureCurves
from pneumoseg.pipeline.training.averaging import EpochAverage, RunningAverage
from pneumoseg.pipeline.training.engines import make_evaluator
from pneumoseg.pipeline.training.losses import TrainingLoss
from pneumoseg.pipeline.training.optimizer import make_optimizer
from pneumoseg.pipeline.training.step import TrainingStep
from pneumoseg.pipeline.training.validation_loss import ValidationLoss
from pneumoseg.transforms.masks import OperatingPoint

GPU, CPU = torch.device("meta"), torch.device("cpu")
NUMBERS = {"aten::_local_scalar_dense", "aten::equal", "aten::is_nonzero"}
READS = {*NUMBERS, "aten::nonzero", "aten::masked_select"}
COPIES = {"aten::copy_", "aten::_to_copy"}
TERMS: tuple[LossTerm, ...] = (
    BCETerm(positive_weight=3.0),
    DiceTerm(),
    FocalTerm(),
    TverskyTerm(),
    LovaszTerm(),
)


class CountSynchronisations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes each operation that waits for the device: a value read by the host, or a blocking copy."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name
        if name in READS and args[0].is_meta:
            self.found.append(name)
            return 1.0 if name in NUMBERS else torch.zeros(0, 1, dtype=torch.int64)
        if name.startswith("aten::_fused_"):  # has no implementation for the meta device
            return None
        if name not in COPIES:
            return func(*args, **kwargs)
        source, target = (
            (args[1], args[0].device) if name == "aten::copy_" else (args[0], kwargs.get("device"))
        )
        crosses = target is not None and source.device != target
        if crosses and not (kwargs.get("non_blocking") or args[2:]):
            self.found.append(f"{name} from {source.device} to {target}")
        if source.is_meta and target == CPU:
            return args[0] if name == "aten::copy_" else torch.ones(source.shape)
        return func(*args, **kwargs)


class CountNewTensors(TorchFunctionMode):  # type: ignore[no-untyped-call,unused-ignore]
    """Notes each tensor that is made on the device from numbers of the host; a dispatch mode does not see the copy."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        makes = func in {torch.tensor, torch.as_tensor, Tensor.new_tensor} and result is not args[0]
        if makes and result.is_meta:
            self.found.append(func.__name__)
        return result


@contextmanager
def synchronisations() -> Iterator[list[str]]:
    with CountSynchronisations() as counter, CountNewTensors(counter.found):
        yield counter.found


@pytest.fixture(autouse=True)
def fused_on_meta(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer, "_get_fused_kernels_supported_devices", lambda: ["meta"])


def batch() -> dict[str, Tensor]:
    return {
        "image": torch.rand(4, 1, 32, 32),
        "label": torch.rand(4, 1, 32, 32),
        "positive": torch.ones(4),
        "index": torch.arange(4),
    }


def prepare(data: dict[str, Tensor], device: torch.device, non_blocking: bool) -> tuple[Tensor, Tensor]:
    image, label = (data[key].to(device, non_blocking=non_blocking) for key in ("image", "label"))
    return image, label


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
@pytest.mark.parametrize("on_bad_step", ["stop", "skip"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_host_waits_for_nothing_between_the_batch_and_the_moved_averages(
    kind: Any, on_bad_step: Any, accumulate: int
) -> None:
    normalization: Any = "batch" if accumulate == 1 else "group"
    network = AttentionUNet(
        features=(4, 8, 8, 8, 8), normalization=normalization, deep_supervision=True, image_head=True
    ).to(GPU)
    config = OptimizationConfig(optimizer=kind)
    step = TrainingStep(
        Precision(CPU, torch.float32),  # autocast knows no meta device
        torch.amp.GradScaler("cpu", enabled=False),
        clip_norm=1.0,
        on_bad_step=on_bad_step,
        seed=0,
        names=["a", "b", "c", "d"],
    )
    step.accumulate = accumulate
    engine = SimpleNamespace(
        network=TrainingForward(network),
        optimizer=make_optimizer(config, network),
        loss_function=TrainingLoss(TERMS, deep_weight=0.5, image_weight=0.1),
        non_blocking=True,
        prepare_batch=prepare,
        state=SimpleNamespace(device=GPU, iteration=1),
    )
    running = RunningAverage(network, 0.9)
    epochs = EpochAverage(running.module, share_epochs=1, last_epoch=1)
    with synchronisations() as found:
        step(engine, batch())
        running.update()
        epochs.add()
    assert found == []
    assert step._pending is not None


def validate(monkeypatch: pytest.MonkeyPatch, *, batches: int) -> list[str]:
    """Validate a network on a GPU, without its end: its outputs, curves and loss."""
    # autocast knows no meta device
    monkeypatch.setattr(Precision, "autocast", lambda _: torch.autocast("cpu", enabled=False))
    network = AttentionUNet(features=(4, 8, 8, 8, 8), image_head=True).to(GPU).eval()
    loss = TrainingLoss(TERMS, deep_weight=0.5, image_weight=0.1)
    metric = ChallengeMetric(OperatingPoint())
    cases = [make_case(index, shape=(32, 32)) for index in range(4)]
    content = torch.ones(4, 1, 32, 32, dtype=torch.bool)
    evaluator = make_evaluator(
        Predictor([network], precision=Precision(GPU, torch.float32)),
        [{**batch(), "content": content} for _ in range(batches)],
        postprocessing=MeasureCurves(cases),
        key_metric=("dice", metric["dice"]),
        metrics={"loss": ValidationLoss(loss, image_head=True)},
    )
    with synchronisations() as found:
        evaluator.run()
    return found


def test_validation_waits_for_a_gpu_at_its_end_only(monkeypatch: pytest.MonkeyPatch) -> None:
    one, three = (validate(monkeypatch, batches=batches) for batches in (1, 3))
    assert sorted(one) == sorted(three)
    assert len(one) == 4  # levels, image probabilities, whether all is finite, and the loss


@pytest.mark.parametrize(
    "wait",
    [
        lambda value: value.item(),
        lambda value: bool(value > 0),
        lambda value: value.cpu(),
        lambda value: value.tolist(),
        lambda value: value.nonzero(),
        lambda value: value.copy_(torch.tensor(3.0)),
        lambda value: torch.tensor(3.0).to(value.device),
        lambda value: value.new_tensor(3.0),
        lambda value: torch.tensor(3.0, device=value.device),
    ],
    ids=["item", "bool", "cpu", "tolist", "nonzero", "copy_", "to", "new_tensor", "tensor"],
)
def test_the_count_sees_each_way_of_waiting(wait: Any) -> None:
    value = torch.ones((), device=GPU)
    with synchronisations() as found:
        wait(value)
    assert found
