from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pneumoseg.transforms.chains import inference_chain
from pneumoseg.transforms.network_input import (
    Placement,
    network_image,
    network_input,
    pixel_statistics,
    standardize,
    to_network_size,
    to_original_size,
)
from pneumoseg.transforms.reader.grey import GreyScale, Window, WindowFunction
from pneumoseg.transforms.reader.record import Radiograph


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


def noise(rows: int, columns: int) -> Tensor:
    return torch.rand(1, rows, columns, generator=torch.Generator().manual_seed(0))


def standardized(image: Tensor, shape: tuple[int, int]) -> Tensor:
    return standardize(image, pixel_statistics(image, shape))


@pytest.mark.parametrize("shape", [(64, 64), (64, 48), (20, 64), (640, 320)])
def test_the_pixels_of_an_image_get_mean_0_and_standard_deviation_1(shape: tuple[int, int]) -> None:
    square = to_network_size(0.2 + 0.5 * noise(*shape), 64)
    image = standardized(square, shape)
    inside = image[square > 0]
    assert inside.numel() < image.numel() or shape == (64, 64)
    assert float(inside.mean()) == pytest.approx(0, abs=1e-5)
    assert float(inside.std(correction=0)) == pytest.approx(1, abs=1e-5)


def test_padding_does_not_change_what_the_network_sees_of_an_image() -> None:
    image = 0.2 + 0.5 * noise(32, 64)
    padded = standardized(to_network_size(image, 64), (32, 64))
    expected = (image - image.mean()) / image.std(correction=0)
    torch.testing.assert_close(padded[:, 16:48], expected)


def test_padding_is_as_black_as_a_black_pixel_of_the_image() -> None:
    image = noise(32, 64)
    image[0, 0, 0] = 0
    padded = standardized(to_network_size(image, 64), (32, 64))
    assert float(padded[0, 16, 0]) == float(padded[0, 0, 0]) == float(padded[0, 63, 63])


@pytest.mark.parametrize("grey", [0.0, 0.3, 1.0])
def test_an_image_of_one_grey_level_is_divided_by_1(grey: float) -> None:
    padded = standardized(to_network_size(torch.full((1, 32, 64), grey), 64), (32, 64))
    torch.testing.assert_close(padded[:, 16:48], torch.zeros(1, 32, 64), atol=1e-6, rtol=0)
    torch.testing.assert_close(padded[:, :16], torch.full((1, 16, 64), -grey))


def test_one_pixel_that_differs_by_one_step_is_no_image_of_one_grey_level() -> None:
    image = torch.zeros(1, 2048, 2048)
    image[0, 0, 0] = 1 / 255
    assert float(pixel_statistics(image, (1, 1)).std) == pytest.approx(1 / 255 / 2048, rel=0.01)


@pytest.mark.parametrize(
    ("shape", "size"), [((96, 64), 32), ((96, 96), 36), ((90, 96), 32), ((95, 70), 33), ((16, 24), 48)]
)
def test_a_radiograph_is_scaled_on_bytes_as_pillow_scales_them(shape: tuple[int, int], size: int) -> None:
    stored = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    whole = Window(127.5, 255, WindowFunction.LINEAR_EXACT)  # grey levels are the stored integers
    levels = network_image(Radiograph(stored=stored, grey=GreyScale(voi=whole)), size) * 255
    place = Placement.of(shape, size)
    expected = Image.fromarray(stored).resize((place.columns, place.rows), Image.Resampling.BILINEAR)
    assert torch.equal(levels.round().div(255), levels.div(255))
    np.testing.assert_allclose(levels[(0, *place.window)], np.asarray(expected), atol=1)
    assert levels.sum() == levels[(0, *place.window)].sum()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
@pytest.mark.parametrize("columns", [40, 41])
def test_scaling_on_bytes_agrees_with_scaling_on_floats_to_one_grey_level(dtype: type, columns: int) -> None:
    stored: Any = np.random.default_rng(0).integers(0, 100, (64, columns)).astype(dtype)
    radiograph = Radiograph(stored=stored, grey=GreyScale(bits_stored=8 * stored.itemsize, padding=(0, 3)))
    exact = to_network_size(torch.from_numpy(radiograph.image)[None], 32)
    np.testing.assert_allclose(network_image(radiograph, 32), exact, atol=1 / 255)
    np.testing.assert_allclose(radiograph.grey.levels(stored), radiograph.image * 255, atol=0.5 + 1e-4)


def test_the_input_of_the_network_is_that_of_the_chain() -> None:
    stored = np.random.default_rng(0).integers(0, 256, (60, 48), dtype=np.uint8)
    radiograph = Radiograph(stored=stored, grey=GreyScale(), patient_orientation=("R", "H"))
    image, content = network_input(radiograph, 32)
    sample = inference_chain(image_size=32)({"image": radiograph})
    assert torch.equal(image, sample["image"])
    assert torch.equal(content, sample["content"])
