"""A batch is augmented as its images are one by one, with numbers that depend on nothing but their seeds."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pneumoseg.transforms.augmentation import (
    CLAHE,
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
from pneumoseg.transforms.augmenter import Augmented, Augmenter
from pneumoseg.transforms.chains import training_chain

SIZE, COUNT = 48, 12
ALL: list[Augmentation] = [
    Flip(),
    ShiftScaleRotate(),
    Brightness(),  # between geometric ones
    Grid(),
    Elastic(),
    Gamma(),
    Contrast(),
    Noise(),
    Blur(),
    CoarseDropout(),
    CLAHE(),
]
SHAPES = [(SIZE, SIZE), (40, 20)]


def pixels() -> Tensor:
    cases = torch.randint(0, 256, (COUNT, 2, SIZE, SIZE), generator=torch.Generator().manual_seed(0))
    cases[:, 1] = 0
    cases[::2, 1, 10:20, 5:30] = 255
    return cases.to(torch.uint8)


POSITIVE = torch.tensor([1.0, 0.0] * (COUNT // 2))


def numbers(augmenter: Augmenter) -> Tensor:
    return torch.from_numpy(np.stack([augmenter.sample(at, SHAPES[at % 3 == 0]) for at in range(COUNT)]))


@pytest.mark.parametrize("crop", [None, 32])
def test_a_batch_is_augmented_at_once_as_its_images_are_one_by_one(crop: int | None) -> None:
    augmenter = Augmenter(ALL, image_size=SIZE, crop=crop)
    one_by_one = augmenter(pixels(), numbers(augmenter), POSITIVE)
    at_once = augmenter._augment(pixels(), numbers(augmenter), POSITIVE)  # as on any other device
    for single, whole in zip(one_by_one, at_once, strict=True):
        torch.testing.assert_close(whole, single, atol=2e-5, rtol=0)
    assert one_by_one.image.shape == one_by_one.label.shape == (COUNT, 1, crop or SIZE, crop or SIZE)


def test_an_image_does_not_depend_on_the_others_of_its_batch() -> None:
    augmenter = Augmenter(ALL, image_size=SIZE)
    strengths = numbers(augmenter)
    batch = augmenter(pixels(), strengths, POSITIVE)
    alone = augmenter(pixels()[5:6], strengths[5:6], POSITIVE[5:6])
    assert torch.equal(batch.image[5:6], alone.image)


def test_numbers_are_a_function_of_the_seed_and_of_nothing_before() -> None:
    augmenter = Augmenter(ALL, image_size=SIZE)
    one, other, again = (augmenter.sample(seed, (SIZE, SIZE)) for seed in (1, 2, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_the_pixels_of_the_cache_and_the_label_of_a_negative_stay() -> None:
    augmenter, before = Augmenter(ALL, image_size=SIZE), pixels()
    augmented = augmenter(before, numbers(augmenter), POSITIVE)
    assert torch.equal(before, pixels())
    assert not augmented.label[1::2].any()


@pytest.mark.parametrize("prob", [0.3, 0.8])
def test_the_share_of_images_that_an_augmentation_is_applied_to_is_its_probability(prob: float) -> None:
    augmenter = Augmenter([Flip(prob=prob)], image_size=SIZE)
    image = pixels()[:1]
    flipped = [
        torch.equal(flip(augmenter, image, seed).label, image[:, 1:].flip(3) / 255) for seed in range(200)
    ]
    assert np.mean(flipped) == pytest.approx(prob, abs=0.1)  # three standard errors


def flip(augmenter: Augmenter, image: Tensor, seed: int) -> Augmented:
    strength = torch.from_numpy(augmenter.sample(seed, (SIZE, SIZE)))[None]
    return augmenter(image, strength, torch.ones(1))


def test_geometry_comes_before_the_crop_and_what_does_not_move_pixels_after_it() -> None:
    # a black square is as large in a crop as in an image only if it is placed in the crop
    augmenter = Augmenter(
        [Noise(prob=0), Flip(prob=0), CoarseDropout(prob=1, holes=1, side=1)], image_size=48, crop=16
    )
    white = torch.full((1, 2, 48, 48), 255, dtype=torch.uint8)
    black = [float((flip(augmenter, white, seed).image < 0).sum()) for seed in range(40)]
    assert 64 <= min(black) <= max(black) <= 256  # from 8 x 8 to 16 x 16 of the crop's own pixels


def test_the_chain_for_monai_augments_with_the_same_code() -> None:
    chain = training_chain(image_size=SIZE, augmentations=ALL)
    chain.set_random_state(seed=4)
    image, label = pixels()[0, :1] / 255, pixels()[0, 1:] / 255
    sample = chain({"image": image, "label": label, "shape": (SIZE, SIZE), "positive": torch.tensor(1.0)})
    assert sample["image"].shape == sample["label"].shape == (1, SIZE, SIZE)
    assert torch.equal(image[0], pixels()[0, 0] / 255)  # the input stays
    assert sample["shape"] == (SIZE, SIZE)
