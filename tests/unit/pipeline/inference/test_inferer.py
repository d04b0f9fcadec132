import pytest
import torch
from torch import Tensor, nn

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.devices import Precision
from pneumoseg.pipeline.inference.inferer import PaddedInferer
from pneumoseg.pipeline.inference.model_folder import place

CPU = torch.device("cpu")
FLOAT32 = Precision(CPU, torch.float32)


class SeenSize(nn.Module):
    """Remember what comes in, and give it back."""

    def forward(self, image: Tensor) -> Tensor:
        self.seen = image
        return image


@pytest.fixture(scope="module")
def network() -> AttentionUNet:
    torch.manual_seed(0)
    return AttentionUNet(features=(4, 8, 8, 8, 8)).eval()


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.rand(2, 1, 32, 48, generator=torch.Generator().manual_seed(0))


def test_a_size_that_fits_is_handed_on_as_it_is(network: AttentionUNet, image: Tensor) -> None:
    with torch.no_grad():
        assert torch.equal(PaddedInferer(FLOAT32)(image, network), network(image))


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (15, 17), (16, 31), (33, 16)])
def test_any_size_comes_back_as_it_was(network: AttentionUNet, rows: int, columns: int) -> None:
    assert PaddedInferer(FLOAT32)(torch.rand(1, 1, rows, columns), network).shape == (1, 1, rows, columns)


def test_zeros_are_added_at_the_right_and_below_up_to_a_multiple_of_16() -> None:
    network = SeenSize()
    result = PaddedInferer(FLOAT32)(torch.ones(1, 1, 20, 16), network)
    assert network.seen.shape == (1, 1, 32, 16)
    assert network.seen[0, 0, :, 0].tolist() == [1.0] * 20 + [0.0] * 12
    assert torch.equal(result, torch.ones(1, 1, 20, 16))


def test_no_gradient_is_kept(network: AttentionUNet, image: Tensor) -> None:
    assert not PaddedInferer(FLOAT32)(image, network).requires_grad


def test_bf16_gives_float32_logits_that_are_close(network: AttentionUNet, image: Tensor) -> None:
    exact = PaddedInferer(FLOAT32)(image, network)
    rough = PaddedInferer(Precision(CPU, torch.bfloat16))(image, network)
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    torch.testing.assert_close(rough, exact, atol=0.05, rtol=0.05)


def test_channels_last_gives_the_same_logits(network: AttentionUNet, image: Tensor) -> None:
    other = AttentionUNet(features=(4, 8, 8, 8, 8)).eval()
    other.load_state_dict(network.state_dict())
    other = place(other, CPU, channels_last=True)
    weight = other.encoder2.state_dict()[next(iter(other.encoder2.state_dict()))]
    assert weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(
        PaddedInferer(FLOAT32)(image, other), PaddedInferer(FLOAT32)(image, network), atol=1e-5, rtol=1e-5
    )
