import math
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from monai.utils import CommonKeys as Keys
from torch import Tensor, nn
from torch.nn import functional

from pneumoseg.models import AttentionUNet, TrainingForward, TrainingOutputs
from pneumoseg.pipeline.core.config import OptimizationConfig
from pneumoseg.pipeline.core.devices import Precision
from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.interruption import Interruption
from pneumoseg.pipeline.core.loss_terms import BCETerm, DiceTerm, LovaszTerm
from pneumoseg.pipeline.training.losses import TrainingLoss
from pneumoseg.pipeline.training.optimizer import make_optimizer
from pneumoseg.pipeline.training.step import STOP, TrainingStep

CPU = torch.device("cpu")
FLOAT32 = Precision(CPU, torch.float32)
NAMES = [f"case{number:02}" for number in range(12)]
BCE = TrainingLoss([BCETerm()], deep_weight=0.5, image_weight=0.1)


class OneWeight(nn.Module):
    """Logits are the image times a weight that begins at 1."""

    def __init__(self, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.dropout = nn.Dropout(dropout)

    def forward(self, image: Tensor) -> TrainingOutputs:
        return TrainingOutputs(self.dropout(image) * self.weight, [], None)


def mean_logit(outputs: TrainingOutputs, label: Tensor, positive: Tensor) -> Tensor:
    return (outputs.logits - label).mean()


def batch(value: float = 1.0, index: tuple[int, ...] = (4, 9)) -> dict[str, Any]:
    shape = (len(index), 1, 4, 4)
    return {
        "image": torch.full(shape, value),
        "label": torch.zeros(shape),
        "positive": torch.zeros(len(index)),
        "index": torch.tensor(index),
    }


def random_batch(size: int = 8, pixels: int = 32) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(size, 1, pixels, pixels, generator=generator)
    label = (image > 1).float()
    label[: size // 2] = 0  # as most radiographs, so that micro-batches without a positive occur
    positive = label.amax(dim=(1, 2, 3))
    return {"image": image, "label": label, "positive": positive, "index": torch.arange(size)}


def make_step(precision: Precision = FLOAT32, **values: Any) -> TrainingStep:
    options: dict[str, Any] = {"clip_norm": None, "on_bad_step": "stop", "seed": 0, "names": NAMES, **values}
    return TrainingStep(precision, precision.make_scaler(), **options)


def make_engine(network: nn.Module, loss: Any = mean_logit, *, iteration: int = 1) -> Any:
    """As much of an engine as a step looks at; the rate is 1."""
    return SimpleNamespace(
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=1.0, fused=True),
        loss_function=loss,
        non_blocking=False,
        prepare_batch=lambda data, device, non_blocking: (data["image"], data["label"]),
        state=SimpleNamespace(device=CPU, iteration=iteration),
    )


def settled(step: TrainingStep, engine: Any, data: dict[str, Any]) -> None:
    """Do a step and read its numbers."""
    step(engine, data)
    step.settle()


def unet(**options: Any) -> AttentionUNet:
    torch.manual_seed(0)
    return AttentionUNet(features=(4, 8, 8, 8, 8), **{"dropout": 0.0, **options})


def gradients(accumulate: int, loss: TrainingLoss = BCE, **options: Any) -> dict[str, Tensor]:
    network = TrainingForward(unet(**options))
    step = make_step()
    step.accumulate = accumulate
    step(make_engine(network, loss), random_batch())
    return {name: value.grad for name, value in network.named_parameters() if value.grad is not None}


# --- a step


def test_a_step_moves_the_weight_down_the_gradient_and_gives_the_loss() -> None:
    network = OneWeight()
    told = make_step()(make_engine(network), batch(0.25))
    assert network.weight.item() == 0.75  # 1 minus the mean pixel
    assert told == {Keys.LOSS: 0.25, STOP: 0}


def test_gradients_of_one_step_do_not_reach_into_the_next() -> None:
    network = OneWeight()
    engine, step = make_engine(network), make_step()
    step(engine, batch(0.25))
    step(engine, batch(0.5))
    assert network.weight.item() == 0.25


def test_the_network_learns_in_training_mode() -> None:
    network = OneWeight().eval()
    make_step()(make_engine(network), batch())
    assert network.training


def test_a_learner_says_all_that_a_loss_may_look_at() -> None:
    network = unet(deep_supervision=True, image_head=True).eval()
    image = random_batch(2)["image"]
    torch.testing.assert_close(TrainingForward(network)(image), network.forward_for_training(image))


def test_a_signal_is_told_with_the_step_in_which_it_came() -> None:
    interruption = Interruption()
    interruption.received = 15
    assert make_step(interruption=interruption)(make_engine(OneWeight()), batch())[STOP] == 15


# --- gradient accumulation


REGION = TrainingLoss([BCETerm(), DiceTerm(), LovaszTerm()], deep_weight=0.5, image_weight=0.1)


@pytest.mark.parametrize("normalization", ["none", "instance", "group"])
@pytest.mark.parametrize("accumulate", [2, 8])
def test_accumulation_changes_the_gradient_by_less_than_a_ten_thousandth(
    accumulate: int, normalization: str
) -> None:
    options = {"normalization": normalization, "deep_supervision": True, "image_head": True}
    whole, parts = (
        torch.cat([value.flatten() for value in gradients(each, REGION, **options).values()])
        for each in (1, accumulate)
    )
    assert float((parts - whole).norm() / whole.norm()) < 1e-4


def test_dice_is_of_the_whole_batch_and_not_of_its_micro_batches() -> None:
    data = random_batch(8, 4)  # the first two of four micro-batches are empty: their own Dice has no slope
    step = make_step()
    step.accumulate = 4
    loss = TrainingLoss([DiceTerm()], deep_weight=0, image_weight=0)
    output = step(make_engine(OneWeight(), loss), data)
    probabilities, label = torch.sigmoid(data["image"]), data["label"]
    expected = 1 - 2 * (probabilities * label).sum() / (probabilities.sum() + label.sum())
    assert output[Keys.LOSS] == pytest.approx(expected.item(), abs=1e-5)


def test_micro_batches_of_different_sizes_count_by_their_images() -> None:
    data = random_batch(5, 4)
    step = make_step()
    step.accumulate = 2  # 3 and 2 images
    output = step(make_engine(OneWeight(), BCE), data)
    expected = functional.binary_cross_entropy_with_logits(data["image"], data["label"])
    assert output[Keys.LOSS] == pytest.approx(expected.item(), abs=1e-6)


def test_no_more_than_a_micro_batch_goes_through_the_network_at_a_time() -> None:
    network = OneWeight()
    seen: list[tuple[int, bool]] = []
    network.register_forward_hook(
        lambda _module, inputs, _output: seen.append((len(inputs[0]), torch.is_grad_enabled()))
    )
    step = make_step()
    step.accumulate = 4
    step(make_engine(network), random_batch(8, 4))
    assert seen == [(2, False)] * 4 + [(2, True)] * 4


def test_both_passes_of_accumulation_have_the_same_dropout() -> None:
    network = OneWeight(dropout=0.5)
    outputs: list[Tensor] = []
    network.register_forward_hook(lambda _module, _inputs, output: outputs.append(output.logits.detach()))
    step = make_step()
    step.accumulate = 2
    step(make_engine(network), random_batch(4, 8))
    assert [torch.equal(outputs[each], outputs[each + 2]) for each in range(2)] == [True, True]
    assert not torch.equal(outputs[0] == 0, outputs[1] == 0)


# --- frozen parameters


def test_frozen_parameters_stay_and_do_not_count_in_the_norm() -> None:
    network = TrainingForward(unet())
    frozen = list(network.network.encoder1.parameters())
    before = [value.clone() for value in frozen]
    step = make_step(clip_norm=1e-3)
    step.frozen = frozen
    step(make_engine(network, BCE), random_batch())
    assert all(torch.equal(now, then) for now, then in zip(frozen, before, strict=True))
    squares = [value.grad.square().sum() for value in network.parameters() if value.grad is not None]
    assert math.sqrt(sum(float(square) for square in squares)) == pytest.approx(1e-3, rel=1e-3)


# --- clipping


def test_gradients_are_scaled_down_to_the_norm() -> None:
    network = OneWeight()
    make_step(clip_norm=0.5)(make_engine(network), batch(8.0))
    assert network.weight.item() == pytest.approx(0.5, abs=1e-5)


def test_the_norm_is_that_of_all_gradients_together_and_of_all_parts() -> None:
    network = TrainingForward(unet())
    step = make_step(clip_norm=1e-3)
    step.accumulate = 2
    step(make_engine(network, BCE), random_batch())
    squares = [value.grad.square().sum() for value in network.parameters() if value.grad is not None]
    assert math.sqrt(sum(float(square) for square in squares)) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("clip_norm", [0.5, None])
def test_a_small_gradient_is_not_scaled_up(clip_norm: float | None) -> None:
    network = OneWeight()
    make_step(clip_norm=clip_norm)(make_engine(network), batch(0.25))
    assert network.weight.item() == 0.75


# --- what is no number


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_the_run_and_names_the_cases_of_the_batch(bad: float) -> None:
    network = OneWeight()
    with pytest.raises(JobError, match=r"the loss is (nan|inf) at step 7; .*: case07, case03$") as caught:
        settled(make_step(), make_engine(network, iteration=7), batch(bad, index=(7, 3)))
    assert len(str(caught.value).splitlines()) == 1
    assert network.weight.item() == 1


def root(outputs: TrainingOutputs, _label: Tensor, _positive: Tensor) -> Tensor:
    return torch.sqrt(outputs.logits.sum() * 0)  # 0, with an infinite slope


@pytest.mark.parametrize("clip_norm", [1.0, None])
def test_a_gradient_that_is_no_number_ends_the_run_before_it_reaches_the_weights(
    clip_norm: float | None,
) -> None:
    network = OneWeight()
    with pytest.raises(JobError, match=r"the gradient's norm is nan at step 1.*: case04, case09$"):
        settled(make_step(clip_norm=clip_norm), make_engine(network, root), batch(1.0))
    assert network.weight.item() == 1


def with_a_bad_image() -> dict[str, Any]:
    data = random_batch(4)
    data["image"][2, 0, 5, 5] = math.nan
    return data


@pytest.mark.parametrize("normalization", ["none", "batch", "instance", "group"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_that_is_left_out_leaves_all_of_the_network_to_the_bit(
    normalization: str, accumulate: int
) -> None:
    network = TrainingForward(unet(normalization=normalization))
    step = make_step(on_bad_step="skip")
    step.accumulate = accumulate
    engine = make_engine(network, BCE)
    step(engine, random_batch(4))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    step(engine, with_a_bad_image())
    after = network.state_dict()
    assert [name for name, value in before.items() if not torch.equal(after[name], value)] == []


def test_a_step_that_an_error_ends_leaves_the_statistics_of_a_normalization_as_they_were() -> None:
    def fail(outputs: TrainingOutputs, _label: Tensor, _positive: Tensor) -> Tensor:
        raise torch.OutOfMemoryError

    network = TrainingForward(unet(normalization="batch"))
    make_step()(make_engine(network, BCE), random_batch(4))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(torch.OutOfMemoryError):
        make_step()(make_engine(network, fail, iteration=2), random_batch(4))
    after = network.state_dict()
    assert [name for name, value in before.items() if not torch.equal(after[name], value)] == []


def test_steps_that_are_left_out_are_counted_and_the_run_goes_on() -> None:
    network = OneWeight()
    step, engine = make_step(on_bad_step="skip"), make_engine(network)
    for value in (math.nan, 0.25, math.inf, 0.5):
        settled(step, engine, batch(value))
    assert step.skipped == 2
    assert network.weight.item() == 0.25


def test_a_gradient_that_is_no_number_is_left_out_as_well() -> None:
    network = OneWeight()
    step = make_step(on_bad_step="skip")
    settled(step, make_engine(network, root), batch())
    assert (step.skipped, network.weight.item()) == (1, 1)


# --- chance and precision


def test_dropout_is_a_function_of_seed_and_step() -> None:
    def weight(seed: int, iteration: int, disturb: int = 0) -> float:
        network = OneWeight(dropout=0.5)
        torch.manual_seed(disturb)
        data = random_batch(2, 8)
        make_step(seed=seed)(make_engine(network, iteration=iteration), data)
        return network.weight.item()

    assert weight(1, 1) == weight(1, 1, disturb=5)
    assert len({weight(1, 1), weight(2, 1), weight(1, 2)}) == 3


def test_the_highest_seed_works() -> None:
    make_step(seed=2**32 - 1)(make_engine(OneWeight()), batch())


def test_the_network_computes_in_the_precision_and_weights_stay_float32() -> None:
    network = TrainingForward(unet())
    seen: list[torch.dtype] = []

    def loss(outputs: TrainingOutputs, label: Tensor, positive: Tensor) -> Tensor:
        seen.append(outputs.logits.dtype)
        return BCE(outputs, label, positive)

    make_step(Precision(CPU, torch.bfloat16))(make_engine(network, loss), random_batch(2))
    assert seen == [torch.bfloat16]
    assert {value.dtype for value in network.parameters()} == {torch.float32}
    assert {value.grad.dtype for value in network.parameters() if value.grad is not None} == {torch.float32}


def steep(outputs: TrainingOutputs, _label: Tensor, _positive: Tensor) -> Tensor:
    # times the scaler's first scale of 65,536, this overflows; times 32,768 not
    return outputs.logits.mean() * 1e34


def test_steps_that_the_scaler_skips_while_it_looks_for_its_scale_are_counted_and_change_nothing() -> None:
    network = OneWeight()
    step = make_step(clip_norm=1.0)
    step.scaler = torch.amp.GradScaler("cpu")
    counts = []
    for _ in range(2):
        settled(step, make_engine(network, steep), batch())
        counts.append((step.scaler_skipped, step.skipped, step.scaler.get_scale(), network.weight.item()))
    assert counts == [(1, 0, 32768, 1), (1, 0, 32768, 0)]


def test_with_a_scaler_a_loss_that_is_not_finite_still_ends_the_run() -> None:
    step = make_step()
    step.scaler = torch.amp.GradScaler("cpu")
    with pytest.raises(JobError, match="the loss is nan at step 1"):
        settled(step, make_engine(OneWeight()), batch(math.nan))


# --- one step late


def test_a_bad_step_is_told_with_its_own_number_and_cases_by_the_next_step_which_changes_nothing() -> None:
    network = OneWeight()
    step = make_step()
    step(make_engine(network, iteration=3), batch(math.nan, index=(1, 2)))
    with pytest.raises(JobError, match=r"the loss is nan at step 3; .*: case01, case02$"):
        step(make_engine(network, iteration=4), batch(0.25, index=(5, 6)))
    assert network.weight.item() == 1


def test_a_bad_step_that_a_checkpoint_reads_ends_the_run_in_the_next_step() -> None:
    step, engine = make_step(), make_engine(OneWeight())
    step(engine, batch(math.nan))
    step.read()  # processes save at times of their own, and all of them end after the same step
    with pytest.raises(JobError, match="the loss is nan at step 1"):
        step(engine, batch())


def test_each_loss_is_told_once_and_in_order() -> None:
    losses: list[float] = []
    step, engine = make_step(on_bad_step="skip", clip_norm=1e-9), make_engine(OneWeight())
    step.on_loss = losses.append
    for value in (0.25, math.nan, 0.5):
        step(engine, batch(value))
    assert losses == [0.25]
    step.settle()
    step.settle()
    assert losses == [0.25, pytest.approx(0.5)]


def test_an_optimizer_that_cannot_leave_a_step_out_is_refused() -> None:
    engine = make_engine(OneWeight())
    engine.optimizer = torch.optim.SGD(engine.network.parameters(), lr=1.0)
    with pytest.raises(ValueError, match="fused=True would fit"):
        make_step()(engine, batch())


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_after_a_step_that_is_left_out_the_next_is_as_if_it_had_not_been(
    kind: Literal["adamw", "sgd"],
) -> None:
    config = OptimizationConfig(optimizer=kind, learning_rate=0.1)

    def weights(*values: float) -> Tensor:
        network = unet()
        engine = make_engine(TrainingForward(network), BCE)
        engine.optimizer = make_optimizer(config, network)
        step = make_step(on_bad_step="skip")
        for value in values:
            step(engine, random_batch(2) if value else with_a_bad_image())
        return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])

    assert torch.equal(weights(0, 1, 0, 1), weights(1, 1))
