import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from skimage.exposure import equalize_adapthist
from torch import Tensor

from pneumoseg.transforms.augmentation import (
    CLAHE,
    DEFAULT_AUGMENTATIONS,
    Augmentation,
    Blur,
    Brightness,
    CoarseDropout,
    Contrast,
    Elastic,
    Flip,
    Gamma,
    Grid,
    Noise,
    ShiftScaleRotate,
)
from pneumoseg.transforms.chains import training_chain

ALL = (
    Flip,
    ShiftScaleRotate,
    Grid,
    Elastic,
    Gamma,
    Contrast,
    Brightness,
    Noise,
    Blur,
    CoarseDropout,
    CLAHE,
)
MOVING = (Flip, ShiftScaleRotate, Grid, Elastic)
SIZE = 64


def chest() -> Tensor:
    """Something without symmetry, in [0, 1]."""
    rows, columns = torch.meshgrid(torch.linspace(0, 1, SIZE), torch.linspace(0, 1, SIZE), indexing="ij")
    return (0.2 + 0.3 * columns + 0.3 * torch.sin(9 * rows).abs() * columns)[None]


def region() -> Tensor:
    label = torch.zeros(1, SIZE, SIZE)
    label[0, 10:30, 8:20] = 1
    return label


def case() -> dict[str, Any]:
    return {"image": chest(), "label": region(), "shape": (SIZE, SIZE)}


def drawn(augmentation: Augmentation, seed: int, image: Tensor | None = None) -> dict[str, Tensor]:
    """Image and label, of which a geometric augmentation changes both."""
    random = np.random.default_rng(seed)
    image = chest() if image is None else image
    pair = torch.stack([image[0], region()[0]])[None]
    if random.random() < augmentation.prob:
        strength = torch.from_numpy(augmentation.sample(random, SIZE).ravel()).float()[None]
        channels = 2 if augmentation.moves_pixels else 1
        pair = torch.cat([augmentation.apply(pair[:, :channels], strength), pair[:, channels:]], dim=1)
    return {"image": pair[0, :1], "label": pair[0, 1:]}


def test_each_changes_the_image_when_it_is_certain() -> None:
    for kind in ALL:
        assert any(not torch.equal(drawn(kind(prob=1), seed)["image"], chest()) for seed in range(3))


def test_none_changes_the_image_when_it_is_impossible() -> None:
    for kind in ALL:
        assert all(torch.equal(drawn(kind(prob=0), seed)["image"], chest()) for seed in range(3))


def test_only_geometry_moves_the_label() -> None:
    for kind in ALL:
        moved = any(not torch.equal(drawn(kind(prob=1), seed)["label"], region()) for seed in range(3))
        assert moved == (kind in MOVING)


def test_each_comes_back_from_its_values() -> None:
    for kind in ALL:
        adapter: TypeAdapter[Augmentation] = TypeAdapter(Augmentation)
        one = kind(prob=0.25)
        assert adapter.validate_python(adapter.dump_python(one, mode="json")) == one


def test_a_seed_gives_one_image() -> None:
    for kind in ALL:
        chain = training_chain(image_size=SIZE, augmentations=[kind(prob=1)])
        images = []
        for seed in (1, 2, 1):
            chain.set_random_state(seed=seed)
            images.append(np.asarray(chain(case())["image"]))
        np.testing.assert_array_equal(images[0], images[2])


def test_no_augmentation_leaves_the_label_and_standardizes_the_image() -> None:
    sample = training_chain(image_size=SIZE, augmentations=())(case())
    np.testing.assert_array_equal(sample["label"], region())
    expected = (chest() - chest().mean()) / chest().std(correction=0)
    np.testing.assert_allclose(sample["image"], expected, atol=1e-5)


# --- what the network sees of an augmentation of greys: the statistics are those of the image before it


def seen(augmentation: Augmentation, seed: int) -> Tensor:
    chain = training_chain(image_size=SIZE, augmentations=[augmentation])
    chain.set_random_state(seed=seed)
    image: Tensor = chain(case())["image"]
    return image


def test_a_brightness_shift_of_a_tenth_moves_what_the_network_sees_by_a_tenth_over_the_deviation() -> None:
    plain = training_chain(image_size=SIZE, augmentations=())(case())["image"]
    moved = [seen(Brightness(prob=1, offset=0.1), seed) - plain for seed in range(40)]
    assert max(float(each.std()) for each in moved) < 1e-5  # all pixels alike
    largest = max(abs(float(each.mean())) for each in moved)
    assert largest == pytest.approx(0.1 / float(chest().std(correction=0)), rel=0.1)


def test_a_contrast_factor_scales_the_standard_deviation_that_the_network_sees() -> None:
    stds = [float(seen(Contrast(prob=1, factor=0.2), seed).std(correction=0)) for seed in range(30)]
    assert 0.8 <= min(stds) < 0.85
    assert 1.15 < max(stds) <= 1.2001


def test_a_gamma_curve_changes_the_mean_that_the_network_sees() -> None:
    assert max(abs(float(seen(Gamma(prob=1), seed).mean())) for seed in range(10)) > 0.2


def test_an_image_is_standardised_without_its_padding_in_training_too() -> None:
    sample = {**case(), "shape": (SIZE, 48)}
    sample["image"][:, :, :8] = sample["image"][:, :, 56:] = 0
    inside = training_chain(image_size=SIZE, augmentations=())(sample)["image"][..., 8:56]
    assert float(inside.mean()) == pytest.approx(0, abs=1e-5)
    assert float(inside.std(correction=0)) == pytest.approx(1, abs=1e-5)


# --- strength zero, and twice the same


@pytest.mark.parametrize(
    "augmentation",
    [
        ShiftScaleRotate(prob=1, shift=0, scale=0, degrees=0),
        Grid(prob=1, limit=0),
        Elastic(prob=1, shift=0),
    ],
    ids=lambda each: each.name,
)
def test_geometry_of_strength_zero_is_the_identity(augmentation: Augmentation) -> None:
    for key, before in (("image", chest()), ("label", region())):
        torch.testing.assert_close(drawn(augmentation, 1)[key], before, atol=2e-5, rtol=0)


def test_a_flip_of_a_flip_is_the_image() -> None:
    once = drawn(Flip(prob=1), 0)["image"]
    assert torch.equal(once.flip(2), chest())


def test_a_shift_is_a_share_of_the_side() -> None:
    ways = []
    for seed in range(60):
        label = drawn(ShiftScaleRotate(prob=1, shift=0.1, scale=0, degrees=0), seed)["label"][0]
        ways.append(float((label.sum(0) * torch.arange(SIZE)).sum() / label.sum()) - 13.5)
    assert 0.8 * 0.1 * SIZE < max(ways) <= 0.1 * SIZE + 0.1


def test_a_turn_keeps_to_its_degrees() -> None:
    label = torch.zeros(1, SIZE, SIZE)
    label[0, 31:33, 4:60] = 1  # a bar across the middle
    steepest = 0.0
    for seed in range(60):
        turned = drawn(ShiftScaleRotate(prob=1, shift=0, scale=0, degrees=10), seed, label)["image"][
            0
        ].numpy()
        rows, columns = np.nonzero(turned > 0.5)
        steepest = max(steepest, abs(math.degrees(math.atan(np.polyfit(columns, rows, 1)[0]))))
    assert 8 < steepest <= 10.5


def test_clahe_is_that_of_scikit_image() -> None:
    image = CLAHE().apply(chest()[None], torch.tensor([[0.03]]))
    expected = equalize_adapthist(chest()[0].numpy(), clip_limit=0.03)
    np.testing.assert_allclose(image[0, 0], expected, atol=1e-6)


def test_the_defaults_are_augmentations_that_the_winners_list() -> None:
    names = {augmentation.name for augmentation in DEFAULT_AUGMENTATIONS}
    assert {"flip", "shift-scale-rotate", "grid", "gamma", "contrast", "brightness"} <= names


@pytest.mark.parametrize(
    "values",
    [{"name": "mixup"}, {"name": "flip", "prob": 1.5}, {"name": "flip", "angle": 3}, {"prob": 0.5}],
    ids=["unknown", "no probability", "not its word", "no name"],
)
def test_what_is_no_augmentation_is_refused(values: dict[str, object]) -> None:
    adapter: TypeAdapter[Augmentation] = TypeAdapter(Augmentation)
    with pytest.raises(ValidationError):
        adapter.validate_python(values)
