from pathlib import Path

import pytest
import torch
from tests.conftest import bright_pixel_network, write_model
from tests.unit.pipeline.inference.networks import CPU, constant, member, predictor, probabilities
from torch import Tensor
from torch.nn import functional

from pneumoseg.pipeline.core.devices import Precision
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.inference.model import ModelOptions, load_model
from pneumoseg.pipeline.inference.tta import augmented, parse_tta


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
    found = probabilities(image, network, tta=("flip",))
    torch.testing.assert_close(found, (plain + mirrored) / 2, rtol=0, atol=1e-6)


def test_a_mirrored_image_has_the_mirrored_prediction(image: Tensor) -> None:
    model = predictor(member(image_head=True), tta=("flip", "scale"))
    plain, mirrored = model.predict_batch(image), model.predict_batch(image.flip(-1))
    torch.testing.assert_close(mirrored.probabilities, plain.probabilities.flip(-1), rtol=0, atol=1e-5)
    torch.testing.assert_close(mirrored.image_probability, plain.image_probability, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_scale_is_predicted_at_its_size_and_brought_back(image: Tensor) -> None:
    network = member()
    sizes = [(48, 64), (80, 128)]  # 0.75 and 1.25 of 64 x 96; 72 and 120 are no multiples of 16
    others = [resized(torch.sigmoid(network(resized(image, size))), (64, 96)) for size in sizes]
    expected = torch.stack([torch.sigmoid(network(image)), *others]).mean(0)
    torch.testing.assert_close(probabilities(image, network, tta=("scale",)), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("side", "stride", "sizes"), [(64, 16, {48, 64, 80}), (160, 32, {128, 160, 192})])
def test_scaled_sizes_are_multiples_of_the_stride(side: int, stride: int, sizes: set[int]) -> None:
    copies = augmented(torch.zeros(1, 1, side, side), ("scale",), stride=stride)
    assert {copy.images.shape[-1] for copy in copies} == sizes


def test_the_untransformed_batch_comes_first_and_every_combination_once(image: Tensor) -> None:
    copies = list(augmented(image, ("flip", "scale"), stride=16))
    assert torch.equal(copies[0].images, image)
    assert len(copies) == 6


def test_a_network_that_predicts_the_same_everywhere_does_so_in_every_augmentation(image: Tensor) -> None:
    found = probabilities(image, constant(0.75), tta=("flip", "scale"))
    torch.testing.assert_close(torch.logit(found), torch.full_like(found, 0.75), rtol=0, atol=1e-5)


def test_augmentations_and_members_are_averaged_in_any_order(image: Tensor) -> None:
    one, other = member(1), member(2)
    each = [probabilities(image, network, tta=("flip",)) for network in (one, other)]
    together = probabilities(image, one, other, tta=("flip",))
    torch.testing.assert_close(together, torch.stack(each).mean(0), rtol=0, atol=1e-6)


@torch.no_grad()
def test_attention_is_that_of_the_untransformed_image(image: Tensor) -> None:
    network = member()
    found = predictor(network, tta=("flip", "scale")).predict_batch(image, attention=True).attention
    assert found is not None
    torch.testing.assert_close(found[-1], network.attention(image)[-1])


def test_probabilities_are_averaged_in_float32_also_under_bf16(image: Tensor) -> None:
    bf16 = Precision(CPU, torch.bfloat16)
    assert probabilities(image, member(), tta=("flip", "scale"), precision=bf16).dtype == torch.float32


def test_a_model_folder_is_loaded_with_augmentations(tmp_path: Path, image: Tensor) -> None:
    folder = write_model(tmp_path, bright_pixel_network())
    plain, model = load_model(folder, CPU), load_model(folder, CPU, ModelOptions(tta=("flip", "scale")))
    expected = probabilities(image, *plain.networks, tta=("flip", "scale"))
    torch.testing.assert_close(model.predictor.predict_batch(image).probabilities, expected)
    assert (plain.tta, model.tta) == ((), ("flip", "scale"))


@pytest.mark.parametrize(
    ("text", "tta"),
    [
        (None, None),
        ("none", ()),
        ("flip", ("flip",)),
        ("scale", ("scale",)),
        ("flip, scale", ("flip", "scale")),
    ],
)
def test_augmentations_are_words_with_commas(text: str | None, tta: tuple[str, ...] | None) -> None:
    assert parse_tta(text) == tta


@pytest.mark.parametrize("text", ["", "rotate", "flip,", "flip;scale"])
def test_another_word_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="flip, scale, both with a comma, or none would fit"):
        parse_tta(text)
