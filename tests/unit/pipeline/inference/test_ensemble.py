import pytest
import torch
from tests.conftest import TINY
from torch import Tensor

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.devices import Precision
from pneumoseg.pipeline.inference.ensemble import Ensemble
from pneumoseg.pipeline.inference.inferer import PaddedInferer
from pneumoseg.pipeline.inference.model_folder import make_network


def member(seed: int) -> AttentionUNet:
    torch.manual_seed(seed)
    network = make_network(TINY).eval()
    with torch.no_grad():
        network.head.weight.mul_(5)  # probabilities that differ
    return network


def constant(value: float) -> AttentionUNet:
    """A network whose logits are the same everywhere."""
    network = make_network(TINY).eval()
    weight = torch.zeros_like(network.head.weight)
    network.head.load_state_dict({"weight": weight, "bias": torch.tensor([value])})
    return network


@pytest.fixture
def image() -> Tensor:
    return torch.rand(2, 1, 32, 48, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_the_probability_is_the_mean_of_the_members(image: Tensor) -> None:
    members = [member(seed) for seed in range(3)]
    expected = torch.stack([torch.sigmoid(each(image)) for each in members]).mean(0)
    assert expected.std() > 0.01
    torch.testing.assert_close(torch.sigmoid(Ensemble(members)(image)), expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_it_is_the_mean_of_probabilities_and_not_of_logits(image: Tensor) -> None:
    # the logits -2 and 6 have the probabilities 0.119203 and 0.997527
    logits = Ensemble([constant(-2.0), constant(6.0)])(image)
    assert torch.sigmoid(logits).mean().item() == pytest.approx((0.119203 + 0.997527) / 2, abs=1e-6)


@torch.no_grad()
def test_one_member_answers_as_itself(image: Tensor) -> None:
    alone = member(1)
    torch.testing.assert_close(
        torch.sigmoid(Ensemble([alone])(image)), torch.sigmoid(alone(image)), rtol=0, atol=1e-6
    )


@torch.no_grad()
@pytest.mark.parametrize("logit", [-1000.0, 1000.0])
def test_members_that_are_sure_give_a_logit_that_is_a_number(image: Tensor, logit: float) -> None:
    logits = Ensemble([constant(logit), constant(logit)])(image)
    assert torch.isfinite(logits).all()
    assert torch.sigmoid(logits).mean().item() == pytest.approx(float(logit > 0), abs=1e-6)


@torch.no_grad()
def test_the_order_of_the_members_does_not_matter(image: Tensor) -> None:
    torch.testing.assert_close(
        Ensemble([member(1), member(2)])(image), Ensemble([member(2), member(1)])(image), rtol=0, atol=0
    )


@torch.no_grad()
def test_the_attention_is_the_mean_of_the_members_gate_by_gate(image: Tensor) -> None:
    members = [member(1), member(2)]
    first, second = (each.attention(image) for each in members)
    expected = [(one + other) / 2 for one, other in zip(first, second, strict=True)]
    torch.testing.assert_close(Ensemble(members).attention(image), expected)


def test_probabilities_are_averaged_in_float32_also_under_bf16(image: Tensor) -> None:
    ensemble = Ensemble([member(1), member(2)])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        outside = [each(image) for each in ensemble.members]
        logits = ensemble(image)
    assert outside[0].dtype == torch.bfloat16
    assert logits.dtype == torch.float32
    expected = torch.stack([torch.sigmoid(each.float()) for each in outside]).mean(0)
    torch.testing.assert_close(torch.sigmoid(logits), expected, rtol=0, atol=1e-6)


def test_an_ensemble_takes_images_of_any_size_through_the_inferer() -> None:
    infer = PaddedInferer(Precision(torch.device("cpu"), torch.float32))
    assert infer(torch.rand(1, 1, 21, 35), Ensemble([member(1), member(2)])).shape == (1, 1, 21, 35)
