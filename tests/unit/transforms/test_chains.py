from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import Compose
from PIL import Image
from tests.conftest import write_radiograph
from torch import Tensor

from pneumoseg.transforms.augmentation import (
    Augmentation,
    ShiftScaleRotate,
)
from pneumoseg.transforms.chains import cache_chain, evaluation_chain, inference_chain, training_chain
from pneumoseg.transforms.labels.rle import RLEError, encode_rle
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.reasons import RadiographError
from pneumoseg.transforms.reader.record import Orientation

SIZE = 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
    return write_radiograph(tmp_path / "a.dcm", pixels)


def test_inference_shows_the_network_an_image_of_mean_0_and_deviation_1(path: Path) -> None:
    image = inference_chain(image_size=32)({"image": path})["image"]
    assert (image.shape, image.dtype) == ((1, 32, 32), torch.float32)
    assert float(image.mean()) == pytest.approx(0, abs=1e-5)
    assert float(image.std(correction=0)) == pytest.approx(1, abs=1e-5)


def test_inference_standardises_an_image_without_its_padding(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE // 2), dtype=np.uint8)
    path = write_radiograph(tmp_path / "tall.dcm", pixels)
    sample = inference_chain(image_size=32)({"image": path})
    inside = sample["image"][0, :, 8:24]
    assert float(inside.mean()) == pytest.approx(0, abs=1e-5)
    assert float(inside.std(correction=0)) == pytest.approx(1, abs=1e-5)
    assert sample["content"].sum() == 32 * 16


def test_inference_keeps_what_the_file_says_of_itself(path: Path) -> None:
    sample = inference_chain(image_size=32)({"image": path})
    assert (sample["shape"], sample["spacing_mm"]) == ((SIZE, SIZE), (0.5, 0.25))


def test_an_image_of_one_grey_level_is_no_nan(tmp_path: Path) -> None:
    path = write_radiograph(tmp_path / "flat.dcm", np.full((SIZE, SIZE), 7, dtype=np.uint8))
    assert torch.isfinite(torch.as_tensor(inference_chain(image_size=32)({"image": path})["image"])).all()


def test_a_refused_file_keeps_its_reason_on_the_way_through_the_chain(tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(RadiographError, match="TRUNCATED"):
        inference_chain(image_size=32)({"image": path})


def test_a_label_that_leaves_the_image_keeps_its_reason_on_the_way_through_the_chain(path: Path) -> None:
    with pytest.raises(RLEError):
        evaluation_chain(image_size=32)({"image": path, "label": ["0 99999"]})


def test_the_acceptance_filters_are_handed_on(tmp_path: Path) -> None:
    pixels = np.arange(32 * 32, dtype=np.uint8).reshape(32, 32)
    path = write_radiograph(tmp_path / "lateral.dcm", pixels, ViewPosition="LL")
    with pytest.raises(RadiographError, match="WRONG_VIEW"):
        inference_chain(image_size=32)({"image": path})
    assert (
        inference_chain(image_size=32, acceptance=AcceptanceFilters(any_view=True))({"image": path})[
            "image"
        ].shape[0]
        == 1
    )


def test_evaluation_gives_the_share_of_each_pixel_that_is_pneumothorax(tmp_path: Path) -> None:
    pixels = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[20:41, 10:30] = 1
    path = write_radiograph(tmp_path / "a.dcm", pixels)
    label = evaluation_chain(image_size=32)({"image": path, "label": [encode_rle(mask)]})["label"]
    expected = np.asarray(
        Image.fromarray(mask.astype(np.float32)).resize((32, 32), Image.Resampling.BILINEAR)
    )
    np.testing.assert_allclose(label[0], expected, atol=0.5 / 255 + 1e-6)


def test_evaluation_and_inference_show_the_network_the_same_image(path: Path) -> None:
    one = inference_chain(image_size=32)({"image": path})["image"]
    other = evaluation_chain(image_size=32)({"image": path, "label": []})["image"]
    np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_what_is_cached_are_multiples_of_a_byte(path: Path) -> None:
    steps = np.asarray(cache_chain(image_size=32)({"image": path, "label": []})["image"]) * 255
    np.testing.assert_allclose(steps, steps.round(), atol=1e-4)


def augmented(seed: int, image: Tensor, label: Tensor | None = None) -> dict[str, Any]:
    chain = training_chain(image_size=SIZE)
    chain.set_random_state(seed=seed)
    label = image if label is None else label
    return dict(chain({"image": image.clone(), "label": label.clone(), "shape": (SIZE, SIZE)}))


def blob() -> Tensor:
    """A block in the middle: mirroring leaves it where it is, a shift does not."""
    image = torch.zeros(1, SIZE, SIZE)
    image[0, 24:40, 24:40] = 1
    return image


def test_the_augmentation_is_a_function_of_the_seed() -> None:
    image = torch.rand(1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    for seed in range(8):
        one, other = augmented(seed, image), augmented(seed, image)
        np.testing.assert_array_equal(np.asarray(one["image"]), np.asarray(other["image"]))
        np.testing.assert_array_equal(np.asarray(one["label"]), np.asarray(other["label"]))


def test_other_seeds_give_other_images() -> None:
    image = torch.rand(1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    assert len({np.asarray(augmented(seed, image)["image"]).tobytes() for seed in range(8)}) == 8


def test_augmentation_keeps_shapes_and_leaves_the_label_a_share() -> None:
    for seed in range(10):
        sample = augmented(seed, blob())
        assert sample["image"].shape == sample["label"].shape == (1, SIZE, SIZE)
        assert 0 <= float(sample["label"].min()) <= float(sample["label"].max()) <= 1


def test_the_label_moves_with_the_image() -> None:
    image = torch.zeros(1, SIZE, SIZE)
    image[0, 8:40, 8:24] = 1  # off the middle, so that a mirrored image with a label left behind is seen
    for seed in range(30):
        sample = augmented(seed, image)
        grey = np.asarray(sample["image"])[0]
        inside = np.asarray(sample["label"])[0] > 0.5
        bright = grey > (grey.min() + grey.max()) / 2
        assert (inside & bright).sum() > 0.6 * (inside | bright).sum()


def test_images_are_shifted_along_both_axes() -> None:
    centres = []
    for seed in range(40):
        label = np.asarray(augmented(seed, blob())["label"])[0]
        total = label.sum()
        centres.append([(label.sum(axis) * np.arange(SIZE)).sum() / total for axis in (1, 0)])
    spread = np.std(centres, axis=0)
    assert spread[0] > 0.5
    assert spread[1] > 0.5


def test_images_are_scaled_along_both_axes() -> None:
    sides = []
    for seed in range(40):
        label = np.asarray(augmented(seed, blob())["label"])[0].astype(np.float64)
        # a rotation does not change the second moments of a square along the axes
        moments = [np.cov(np.arange(SIZE), aweights=label.sum(axis), ddof=0) for axis in (1, 0)]
        sides.append(np.sqrt(12 * np.array(moments)))
    smallest, largest = np.min(sides, axis=0), np.max(sides, axis=0)
    assert (smallest < 15).all()  # 16 pixels before
    assert (largest > 17).all()


def test_about_half_of_the_images_are_mirrored_from_side_to_side() -> None:
    image = torch.zeros(1, SIZE, SIZE)
    image[0, :, : SIZE // 2] = 1
    mirrored = [
        float(np.asarray(augmented(seed, image)["label"])[0, :, 48:].mean()) > 0.5 for seed in range(60)
    ]
    assert 15 < sum(mirrored) < 45


# --- crops


def crop_chain(*augmentations: Augmentation) -> Compose:
    return training_chain(image_size=SIZE, crop=32, augmentations=augmentations)


def whole(image: Tensor) -> dict[str, Any]:
    return {"image": image, "label": image, "shape": (SIZE, SIZE), "positive": torch.tensor(1.0)}


def test_a_crop_is_standardised_as_the_whole_image_is() -> None:
    image = torch.rand(1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    image[:, :, :32] *= 0.5
    expected = training_chain(image_size=SIZE, augmentations=())(whole(image))["image"]
    for seed in range(5):
        chain = crop_chain()
        chain.set_random_state(seed=seed)
        crop = chain(whole(image))["image"][0]
        windows = expected[0].unfold(0, 32, 1).unfold(1, 32, 1)
        assert (windows == crop).all(dim=(2, 3)).sum() == 1


def test_a_rotation_brings_the_image_into_most_crops_and_not_black_corners() -> None:
    chain = crop_chain(ShiftScaleRotate(prob=1, shift=0, scale=0, degrees=12))
    without_black = []
    for seed in range(60):
        chain.set_random_state(seed=seed)
        without_black.append(bool((chain(whole(torch.ones(1, SIZE, SIZE)))["label"] > 0.9).all()))
    # a crop turned by itself has black corners from 1.8 of the 12 degrees on
    assert np.mean(without_black) > 0.4


def test_a_case_is_the_same_in_each_orientation_of_its_file(tmp_path: Path) -> None:
    upright = np.random.default_rng(0).integers(0, 256, (48, 64), dtype=np.uint8)
    mask = np.zeros((48, 64), dtype=np.uint8)
    mask[5:20, 40:60] = 1
    made = []
    for directions in [("L", "F"), ("R", "F"), ("R", "H"), ("F", "L"), ("H", "L")]:
        orientation = Orientation.of(directions)
        stored = np.ascontiguousarray(orientation.invert(upright))
        file = write_radiograph(tmp_path / "a.dcm", stored, PatientOrientation=list(directions))
        label = encode_rle(np.ascontiguousarray(orientation.invert(mask)))
        made.append(evaluation_chain(image_size=32)({"image": file, "label": label}))
    for each in made[1:]:
        for key in ("image", "label", "content"):
            assert torch.equal(each[key], made[0][key])
        assert each["shape"] == (48, 64)
