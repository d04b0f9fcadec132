from pathlib import Path

import pytest
import torch
from tests.conftest import TINY, bright_pixel_network, write_model
from torch import Tensor
from torch.nn import functional

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.devices import Precision
from pneumoseg.pipeline.errors import UsageError
from pneumoseg.pipeline.inference.ensemble import Ensemble
from pneumoseg.pipeline.inference.inferer import PaddedInferer
from pneumoseg.pipeline.inference.model_folder import load_model, make_network
from pneumoseg.pipeline.inference.views import Views, parse_views, with_views

CPU = torch.device("cpu")


def member(seed: int = 1) -> AttentionUNet:
    torch.manual_seed(seed)
    network = make_network(TINY).eval()
    with torch.no_grad():
        network.head.weight.mul_(5)  # probabilities that differ
    return network


@pytest.fixture
def image() -> Tensor:
    return torch.rand(2, 1, 64, 96, generator=torch.Generator().manual_seed(0))


def resized(tensor: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(tensor, size, mode="bilinear", align_corners=False, antialias=True)


@torch.no_grad()
def test_a_flip_is_the_mean_of_both_sides(image: Tensor) -> None:
    network = member()
    plain, mirrored = torch.sigmoid(network(image)), torch.sigmoid(network(image.flip(-1))).flip(-1)
    assert (plain - mirrored).abs().max() > 0.01
    found = torch.sigmoid(Views(network, flip=True)(image))
    torch.testing.assert_close(found, (plain + mirrored) / 2, rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_mirrored_image_has_the_mirrored_answer(image: Tensor) -> None:
    network = Views(member(), flip=True, scales=(0.75,))
    torch.testing.assert_close(network(image.flip(-1)), network(image).flip(-1), rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_scale_is_seen_at_its_size_and_brought_back(image: Tensor) -> None:
    network = member()
    small = resized(
        torch.sigmoid(network(resized(image, (48, 64)))), (64, 96)
    )  # not 72, which is no multiple of 16
    found = torch.sigmoid(Views(network, scales=(0.75,))(image))
    torch.testing.assert_close(found, (torch.sigmoid(network(image)) + small) / 2, rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_network_that_says_the_same_everywhere_says_it_in_every_view(image: Tensor) -> None:
    network = make_network(TINY).eval()
    network.head.load_state_dict(
        {"weight": torch.zeros_like(network.head.weight), "bias": torch.tensor([0.75])}
    )
    found = Views(network, flip=True, scales=(0.5, 1.25))(image)
    torch.testing.assert_close(found, torch.full_like(found, 0.75), rtol=0, atol=1e-5)


@torch.no_grad()
def test_views_and_members_can_be_averaged_in_any_order(image: Tensor) -> None:
    one, other = member(1), member(2)
    inside = Ensemble([Views(one, flip=True), Views(other, flip=True)])(image)
    torch.testing.assert_close(inside, Views(Ensemble([one, other]), flip=True)(image), rtol=0, atol=1e-5)


@torch.no_grad()
def test_attention_is_that_of_the_image_as_it_is(image: Tensor) -> None:
    network = member()
    torch.testing.assert_close(Views(network, flip=True).attention(image), network.attention(image))


def test_probabilities_are_averaged_in_float32_also_under_bf16(image: Tensor) -> None:
    infer = PaddedInferer(Precision(CPU, torch.bfloat16))
    assert infer(image, Views(member(), flip=True, scales=(0.75,))).dtype == torch.float32


@torch.no_grad()
def test_a_model_folder_is_loaded_with_views(tmp_path: Path, image: Tensor) -> None:
    folder = write_model(tmp_path, bright_pixel_network())
    plain = load_model(folder, CPU)
    model = load_model(folder, CPU, views=("flip", "scale"))
    expected = Views(plain.network, flip=True, scales=(0.75, 1.25))(image)
    torch.testing.assert_close(model.network(image), expected)
    assert not model.network.training
    assert (plain.views, model.views) == ((), ("flip", "scale"))
    assert len(model.networks) == 1


@pytest.mark.parametrize(
    ("text", "views"),
    [
        (None, None),
        ("none", ()),
        ("flip", ("flip",)),
        ("scale", ("scale",)),
        ("flip, scale", ("flip", "scale")),
    ],
)
def test_views_are_words_with_commas(text: str | None, views: tuple[str, ...] | None) -> None:
    assert parse_views(text) == views


@pytest.mark.parametrize("text", ["", "rotate", "flip,", "flip;scale"])
def test_another_word_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="flip, scale, both with a comma, or none would fit"):
        parse_views(text)


def test_without_views_a_network_stays_what_it_is() -> None:
    network = member()
    assert with_views(network, ()) is network
