from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import bright_pixel_network, write_model
from tests.unit.pipeline.inference.networks import (
    CPU,
    Coins,
    constant,
    member,
    predictor,
    probabilities,
    with_head,
)
from torch import Tensor
from torch.nn import functional

from pneumoseg.pipeline.core.devices import Precision
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.inference.model import ModelOptions, load_model
from pneumoseg.pipeline.inference.passes import RunningStatistics, augmented, parse_tta


@pytest.fixture
def image() -> Tensor:
    return torch.rand(2, 1, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def small() -> Tensor:
    return torch.rand(2, 1, 32, 48, generator=torch.Generator().manual_seed(0))


# --- test-time augmentation


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
    torch.testing.assert_close(found[-1], network.outputs(image).maps[-1])


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


# --- Monte-Carlo dropout samples


def fields(image: Tensor, *networks: object, passes: int = 3, **options: object) -> tuple[Tensor, ...]:
    """The first four fields of the prediction: means and standard deviations."""
    found = predictor(*networks, dropout_passes=passes, **options).predict_batch(image)  # type: ignore[arg-type]
    assert found.pixel_std is not None
    assert found.image_std is not None
    return found.probabilities, found.image_probability, found.pixel_std, found.image_std


@torch.no_grad()
@pytest.mark.parametrize("image_head", [False, True])
def test_means_and_standard_deviations_are_those_of_all_samples_at_once(
    small: Tensor, image_head: bool
) -> None:
    network = member(image_head=image_head)
    found = fields(small, network, passes=6)
    network.train()
    maps, heads = [], []
    for alone in (small[:1], small[1:]):  # each small has the same random numbers
        torch.manual_seed(0)
        outputs = [network.forward_for_training(alone) for _ in range(6)]
        maps.append(torch.stack([torch.sigmoid(each.logits) for each in outputs]))
        heads.append(
            [float(torch.sigmoid(each.image_logits)) for each in outputs if each.image_logits is not None]
        )
    samples = torch.cat(maps, dim=1).numpy()
    of_images, probability = (
        each.reshape(*each.shape[:-3], -1).max(axis=-1) for each in (samples, samples.mean(0))
    )
    if image_head:
        of_heads = np.array(heads).T
        of_images, probability = (of_images + of_heads) / 2, (probability + of_heads.mean(axis=0)) / 2
    np.testing.assert_allclose(found[0], samples.mean(axis=0), rtol=0, atol=1e-6)
    np.testing.assert_allclose(found[1], probability, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found[2], samples.std(axis=0, ddof=1), rtol=0, atol=1e-6)
    np.testing.assert_allclose(found[3], of_images.std(axis=0, ddof=1), rtol=0, atol=1e-6)
    assert found[2].max() > 0.001


def test_a_fair_coin_has_the_mean_and_the_standard_deviation_of_a_fair_coin() -> None:
    mean, _, std, _ = fields(torch.ones(1, 1, 16, 16), Coins(), passes=400)
    high = 1 / (1 + np.exp(-2))
    assert mean.mean().item() == pytest.approx(high / 2, abs=0.01)
    assert std.mean().item() == pytest.approx(high / 2, abs=0.01)


def test_the_image_is_as_uncertain_as_its_highest_pixels() -> None:
    """Some of 256 coins show heads in every sample, so that the largest probability hardly varies."""
    *_, pixel_std, image_std = fields(torch.ones(1, 1, 16, 16), Coins(), passes=50)
    assert image_std.item() < 0.01 < pixel_std.mean().item()


def test_the_samples_are_repeatable_and_leave_the_generator_as_it_was(small: Tensor) -> None:
    network = member()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = fields(small, network)
    torch.testing.assert_close(torch.rand(3), expected)
    assert all(map(torch.equal, fields(small, network), first))


def test_a_result_does_not_depend_on_the_batch_nor_on_the_place_in_it(small: Tensor) -> None:
    model = member()
    whole, turned, alone = (fields(each, model) for each in (small, small.flip(0), small[1:]))
    for here, there, only in zip(whole, turned, alone, strict=True):
        assert torch.equal(there.flip(0), here)
        assert torch.equal(only, here[1:])


@torch.no_grad()
def test_attention_is_that_without_dropout(small: Tensor) -> None:
    network = member()
    found = predictor(network, dropout_passes=2).predict_batch(small, attention=True).attention
    assert found is not None
    torch.testing.assert_close(found[-1], network.outputs(small).maps[-1])


@torch.no_grad()
def test_only_dropout_is_on_and_off_again_afterwards(small: Tensor) -> None:
    network = member(normalization="batch")
    before = network(small)
    fields(small, network)
    assert not any(part.training for part in network.modules())
    torch.testing.assert_close(network(small), before, rtol=0, atol=0)


def test_ensembles_and_augmentations_are_sampled_as_a_whole(small: Tensor) -> None:
    _, _, pixel_std, image_std = fields(small, with_head(1.0, 1), with_head(2.0, 2), tta=("flip",))
    assert pixel_std.max() > 0.001
    assert image_std.max() > 0.0001
    _, _, pixel_std, image_std = fields(small, constant(1.0), constant(2.0), tta=("flip",))
    assert pixel_std.max() == image_std.max() == 0  # members that differ are no uncertainty


@pytest.mark.parametrize(("dropout", "passes"), [(0.2, 1), (0.0, 5)])
def test_fewer_than_two_samples_or_no_dropout_are_refused(dropout: float, passes: int) -> None:
    with pytest.raises(ValueError, match="at least 2 samples and 1 layer are needed"):
        predictor(member(dropout=dropout), dropout_passes=passes)


def test_running_statistics_are_those_of_numpy() -> None:
    values = torch.rand(7, 3, generator=torch.Generator().manual_seed(0)) + 1000
    found = RunningStatistics()
    for row in values.double():
        found.add(row)
    np.testing.assert_allclose(found.mean, values.double().numpy().mean(axis=0))
    np.testing.assert_allclose(found.std, values.double().numpy().std(axis=0, ddof=1))
