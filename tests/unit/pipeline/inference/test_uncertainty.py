import numpy as np
import pytest
import torch
from tests.conftest import TINY
from torch import Tensor, nn

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.inference.ensemble import Ensemble
from pneumoseg.pipeline.inference.model_folder import make_network
from pneumoseg.pipeline.inference.uncertainty import MonteCarloDropout


def member(seed: int = 1) -> AttentionUNet:
    torch.manual_seed(seed)
    network = make_network(TINY).eval()
    with torch.no_grad():
        network.head.weight.mul_(5)  # probabilities that differ
    return network


@pytest.fixture
def image() -> Tensor:
    return torch.rand(2, 1, 32, 48, generator=torch.Generator().manual_seed(0))


class Coins(nn.Module):
    """Logits of 2 or -infinity, by a coin for each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, image: Tensor) -> Tensor:
        kept: Tensor = self.dropout(torch.ones_like(image)) > 0
        return torch.where(kept, 2.0, -torch.inf)


@torch.no_grad()
def test_mean_and_deviation_are_those_of_all_passes_at_once(image: Tensor) -> None:
    network = member()
    found = MonteCarloDropout(network, passes=6)(image)
    network.train()
    each = []
    for alone in (image[:1], image[1:]):  # the draws of an image are those of any other
        torch.manual_seed(0)
        each.append(torch.stack([torch.sigmoid(network(alone)) for _ in range(6)]))
    passes = torch.cat(each, dim=1).numpy()
    network.eval()
    np.testing.assert_allclose(torch.sigmoid(found[:, :1]), passes.mean(axis=0), rtol=0, atol=1e-6)
    np.testing.assert_allclose(found[:, 1:2], passes.std(axis=0, ddof=1), rtol=0, atol=1e-6)
    images = passes.reshape(6, 2, -1).max(axis=-1).std(axis=0, ddof=1)
    np.testing.assert_allclose(found[:, 2, 5, 7], images, rtol=0, atol=1e-6)
    assert found[:, 1].max() > 0.001


@torch.no_grad()
def test_the_image_is_as_unsure_as_the_pixel_that_decides() -> None:
    """A quarter has to agree: the fifth of sixteen, which some passes leave at 0, and the first hardly ever."""
    image = torch.ones(1, 1, 4, 4)
    fifth = MonteCarloDropout(Coins().eval(), passes=200, min_area_fraction=0.25)(image)[0, 2, 0, 0]
    first = MonteCarloDropout(Coins().eval(), passes=200)(image)[0, 2, 0, 0]
    assert first < 0.05 < fifth


@torch.no_grad()
def test_a_fair_coin_has_the_mean_and_the_deviation_of_a_fair_coin() -> None:
    found = MonteCarloDropout(Coins().eval(), passes=400)(torch.ones(1, 1, 16, 16))
    high = 1 / (1 + np.exp(-2))
    assert torch.sigmoid(found[0, 0]).mean().item() == pytest.approx(high / 2, abs=0.01)
    assert found[0, 1].mean().item() == pytest.approx(high / 2, abs=0.01)


@torch.no_grad()
def test_the_same_again_and_nothing_else_is_drawn_differently(image: Tensor) -> None:
    network = MonteCarloDropout(member(), passes=3)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = network(image)
    torch.testing.assert_close(torch.rand(3), expected)
    torch.testing.assert_close(network(image), first, rtol=0, atol=0)


@torch.no_grad()
def test_what_is_said_of_an_image_does_not_depend_on_its_place_in_the_batch(image: Tensor) -> None:
    network = MonteCarloDropout(member(), passes=3)
    torch.testing.assert_close(network(image.flip(0)), network(image).flip(0), rtol=0, atol=0)
    torch.testing.assert_close(network(image[1:]), network(image)[1:], rtol=0, atol=0)


@torch.no_grad()
def test_attention_is_that_without_dropout(image: Tensor) -> None:
    network = member()
    torch.testing.assert_close(
        MonteCarloDropout(network, passes=2).attention(image), network.attention(image)
    )


@torch.no_grad()
def test_only_dropout_is_on_and_off_again_afterwards(image: Tensor) -> None:
    network = member()
    before = network(image)
    MonteCarloDropout(network, passes=2)(image)
    assert not any(part.training for part in network.modules())
    torch.testing.assert_close(network(image), before)


@torch.no_grad()
def test_an_ensemble_is_unsure_too(image: Tensor) -> None:
    assert MonteCarloDropout(Ensemble([member(1), member(2)]), passes=2)(image).shape == (2, 3, 32, 48)


@pytest.mark.parametrize(("dropout", "passes"), [(0.2, 1), (0.0, 5)])
def test_without_dropout_or_a_second_pass_nothing_can_be_said(dropout: float, passes: int) -> None:
    network = AttentionUNet(features=(4, 8, 8, 8, 8), dropout=dropout)
    with pytest.raises(ValueError, match="2 and 1 are the least"):
        MonteCarloDropout(network, passes=passes)
