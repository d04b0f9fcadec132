from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pneumoseg.transforms.geometry import (
    MarkContentd,
    Placement,
    ToNetworkSized,
    ToOriginalSized,
    to_network_size,
    to_original_size,
)

Sample = dict[Any, Any]


def block(shape: tuple[int, int], rows: slice, columns: slice) -> Tensor:
    image = torch.zeros(1, *shape)
    image[0, rows, columns] = 1
    return image


def centre(image: Tensor) -> tuple[float, float]:
    """Centre of mass of a (1, rows, columns) image, in pixel edges: (0, 0) is the corner of the image."""
    rows = torch.arange(image.shape[1]) + 0.5
    columns = torch.arange(image.shape[2]) + 0.5
    weight = image[0] / image.sum()
    return float((weight.sum(1) * rows).sum()), float((weight.sum(0) * columns).sum())


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((50, 100), Placement(top=16, left=0, rows=32, columns=64)),
        ((100, 50), Placement(top=0, left=16, rows=64, columns=32)),
        ((64, 64), Placement(top=0, left=0, rows=64, columns=64)),
        ((16, 8), Placement(top=0, left=16, rows=64, columns=32)),
        ((3000, 2000), Placement(top=0, left=10, rows=64, columns=43)),  # 42.67 columns, 21 over
    ],
)
def test_the_longest_side_fills_the_square_and_the_rest_is_centred(
    shape: tuple[int, int], expected: Placement
) -> None:
    assert Placement.of(shape, 64) == expected


def test_the_mask_of_a_placement_marks_its_window() -> None:
    mask = Placement.of((50, 100), 64).mask(64)
    assert mask.shape == (1, 64, 64)
    assert mask[0, 16:48].all()
    assert mask.sum() == 32 * 64


def test_the_pixels_of_the_image_are_counted() -> None:
    sample = MarkContentd("image")({"image": torch.zeros(1, 64, 64), "shape": (300, 200)})
    assert sample["content"].sum() == 64 * 43  # 200 of 300 rows are 42.67 of 64


def test_a_very_thin_image_keeps_a_pixel_of_its_width() -> None:
    assert Placement.of((1000, 1), 64).columns == 1


def test_an_image_of_half_the_width_is_padded_evenly_with_zeros() -> None:
    square = to_network_size(torch.ones(1, 64, 32), 64)
    assert square[0].sum(0).tolist() == [0.0] * 16 + [64.0] * 32 + [0.0] * 16


def test_a_wide_image_is_padded_above_and_below() -> None:
    square = to_network_size(torch.ones(1, 32, 64), 64)
    assert square[0].sum(1).tolist() == [0.0] * 16 + [64.0] * 32 + [0.0] * 16


def test_a_mark_at_the_lower_left_stays_there() -> None:
    square = to_network_size(block((40, 20), slice(30, 40), slice(0, 5)), 40)
    assert torch.equal(square, block((40, 40), slice(30, 40), slice(10, 15)))


def test_shrinking_is_what_pillow_does_with_a_bilinear_filter() -> None:
    image = np.random.default_rng(0).random((96, 96), dtype=np.float32)
    expected = np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(to_network_size(torch.from_numpy(image)[None], 32)[0], expected, atol=1e-5)


def test_enlarging_is_what_pillow_does_with_a_bilinear_filter() -> None:
    image = np.random.default_rng(0).random((16, 16), dtype=np.float32)
    expected = np.asarray(Image.fromarray(image).resize((48, 48), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(
        to_original_size(torch.from_numpy(image)[None], (48, 48))[0], expected, atol=1e-5
    )


@pytest.mark.parametrize("shape", [(200, 120), (120, 200), (200, 200), (30, 50)])
def test_a_mark_keeps_its_place_on_the_way_in(shape: tuple[int, int]) -> None:
    rows, columns = shape
    image = block(shape, slice(rows // 2, rows * 3 // 4), slice(columns // 5, columns // 3))
    place, scale = Placement.of(shape, 64), 64 / max(shape)
    y, x = centre(image)
    assert centre(to_network_size(image, 64)) == pytest.approx(
        (place.top + y * scale, place.left + x * scale), abs=0.5
    )


@pytest.mark.parametrize("shape", [(200, 120), (120, 200), (200, 200)])
def test_a_mark_comes_back_to_its_place(shape: tuple[int, int]) -> None:
    rows, columns = shape
    image = block(shape, slice(rows // 2, rows * 3 // 4), slice(columns // 5, columns // 2))
    back = to_original_size(to_network_size(image, 64), shape)
    assert back.shape == image.shape
    assert centre(back) == pytest.approx(centre(image), abs=1.0)
    both, either = ((back > 0.5) & (image > 0.5)).sum(), ((back > 0.5) | (image > 0.5)).sum()
    assert both / either > 0.9


@pytest.mark.parametrize("shape", [(256, 160), (160, 256), (256, 256)])
def test_the_area_of_a_mark_is_kept_in_proportion(shape: tuple[int, int]) -> None:
    image = block(shape, slice(40, 101), slice(31, 90))
    small = to_network_size(image, 64)
    assert float(small.sum()) * (256 / 64) ** 2 == pytest.approx(61 * 59, rel=0.01)


def test_what_lies_outside_of_the_image_does_not_come_back() -> None:
    prediction = torch.ones(1, 64, 64)
    prediction[0, :, 16:48] = 0  # all that a 64 x 32 image covers
    assert to_original_size(prediction, (64, 32)).abs().max() == 0


def test_the_network_sees_the_256_steps_of_a_byte() -> None:
    image = torch.rand(1, 50, 30, generator=torch.Generator().manual_seed(0))
    steps = ToNetworkSized("image", size=32)({"image": image})["image"].double() * 255
    torch.testing.assert_close(steps, steps.round(), atol=1e-4, rtol=0)


def test_the_sample_that_came_in_is_left_alone() -> None:
    image = torch.full((1, 32, 32), 0.1234)
    sample: Sample = {"image": image}
    ToNetworkSized("image", size=32)(sample)
    assert sample["image"] is image
    assert float(image[0, 0, 0]) == pytest.approx(0.1234)


def test_bytes_of_a_mask_are_taken_as_well() -> None:
    mask = np.zeros((1, 32, 32), dtype=np.uint8)
    mask[0, :16] = 1
    label = ToNetworkSized("label", size=32)({"label": mask})["label"]
    assert (label.dtype, float(label.sum())) == (torch.float32, 16 * 32)


def test_a_missing_item_is_an_error_unless_allowed() -> None:
    with pytest.raises(KeyError):
        ToNetworkSized("image", size=32)({})
    assert ToNetworkSized("image", size=32, allow_missing_keys=True)({}) == {}


def test_the_original_size_is_read_from_the_sample() -> None:
    sample: Sample = {"pred": torch.ones(1, 32, 32), "size": (48, 20)}
    assert ToOriginalSized("pred", shape_key="size")(sample)["pred"].shape == (1, 48, 20)
