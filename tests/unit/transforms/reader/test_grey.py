import numpy as np
import pytest

from pneumoseg.transforms.reader.grey import (
    GreyScale,
    LookupTable,
    Rescale,
    Window,
    WindowFunction,
    levels_between,
)

UINT8 = np.array([[0, 1], [128, 255]], dtype=np.uint8)


def table(*entries: float, first: int = 0) -> LookupTable:
    return LookupTable(first, np.array(entries, dtype=np.float64))


def test_without_any_rule_the_values_are_the_stored_integers() -> None:
    values = GreyScale().values(UINT8)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, UINT8)


def test_monochrome1_is_inverted_within_the_bits_stored() -> None:
    stored = np.array([[0, 1, 4095]], dtype=np.uint16)
    values = GreyScale(bits_stored=12, monochrome1=True).values(stored)
    np.testing.assert_array_equal(values, [[4095, 4094, 0]])


def test_signed_monochrome1_turns_x_into_minus_one_minus_x() -> None:
    stored = np.array([[-2048, -1, 0, 2047]], dtype=np.int16)
    values = GreyScale(bits_stored=12, monochrome1=True).values(stored)
    np.testing.assert_array_equal(values, [[2047, 0, -1, -2048]])


def test_monochrome1_is_inverted_before_the_rescale() -> None:
    values = GreyScale(modality=Rescale(2, 10), monochrome1=True).values(UINT8)
    np.testing.assert_array_equal(values, [[520, 518], [264, 10]])  # 2 (255 - x) + 10


def test_values_above_32767_do_not_wrap() -> None:
    stored = np.array([[32768, 65535]], dtype=np.uint16)
    np.testing.assert_array_equal(GreyScale(bits_stored=16).values(stored), [[32768, 65535]])


def test_a_table_takes_its_end_entries_for_what_lies_beyond() -> None:
    modality = table(10, 20, 30, first=-1)
    stored = np.array([[-5, -1, 0, 1, 5]], dtype=np.int8)
    np.testing.assert_array_equal(GreyScale(modality=modality).values(stored), [[10, 10, 20, 30, 30]])


@pytest.mark.parametrize(
    ("window", "x", "expected"),
    [  # PS3.3 C.11.2.1.2.1: center 2048, width 4096 maps 0 to the lowest and 4095 to the highest grey
        (Window(2048, 4096), [-1, 0, 2047.5, 4095, 4096], [0, 0, 0.5, 1, 1]),
        (Window(2048, 1 + 1), [2046, 2047, 2048, 2049], [0, 0, 1, 1]),
        # C.11.2.1.3.2: ((x - c) / w + 0.5)
        (Window(2048, 4096, WindowFunction.LINEAR_EXACT), [0, 1024, 2048, 4096], [0, 0.25, 0.5, 1]),
        # C.11.2.1.3.1: 1 / (1 + exp(-4 (x - c) / w)); at a quarter of the width that is 1 / (1 + 1/e)
        (Window(100, 40, WindowFunction.SIGMOID), [100, 110, 90], [0.5, 0.7310586, 0.2689414]),
    ],
)
def test_the_window_functions_follow_the_standard(
    window: Window, x: list[float], expected: list[float]
) -> None:
    np.testing.assert_allclose(window(np.array(x, dtype=np.float64)), expected, atol=1e-7)


def test_a_far_sigmoid_does_not_overflow() -> None:
    window = Window(0, 1e-3, WindowFunction.SIGMOID)
    np.testing.assert_array_equal(window(np.array([-65536.0, 65535.0])), [0, 1])


def test_the_window_acts_on_uninverted_values_and_the_inversion_comes_last() -> None:
    voi = Window(64, 128, WindowFunction.LINEAR_EXACT)  # 0..128, the dark half of what is stored
    image = GreyScale(voi=voi, monochrome1=True).image(UINT8)
    np.testing.assert_allclose(image, np.array([[1, 1 - 1 / 128], [0, 0]]))


@pytest.mark.parametrize(("monochrome1", "inverse"), [(True, False), (False, True), (True, True)])
def test_monochrome1_and_inverse_invert_once(monochrome1: bool, inverse: bool) -> None:
    voi = Window(127.5, 255, WindowFunction.LINEAR_EXACT)
    grey = GreyScale(voi=voi, monochrome1=monochrome1, inverse=inverse)
    np.testing.assert_allclose(grey.image(UINT8), 1 - UINT8 / 255.0, atol=1e-7)
    np.testing.assert_array_equal(grey.values(UINT8), 255 - UINT8.astype(int))


def test_a_voi_table_is_stretched_over_grey_whatever_depth_it_claims() -> None:
    voi = table(100, 200, 300).to_unit_range()
    stored = np.array([[0, 1, 2, 9]], dtype=np.uint8)
    np.testing.assert_allclose(GreyScale(voi=voi).image(stored), [[0, 0.5, 1, 1]])


def test_without_a_voi_half_a_percent_is_clipped_on_either_side() -> None:
    stored = np.full((20, 100), 50, dtype=np.uint8)  # 2000 pixels: 10 may be clipped
    stored[0, :9], stored[1, :900] = 0, 100
    stored[2:11, :] = 150
    stored[19, :9] = 250
    image = GreyScale().image(stored)
    assert image[0, 0] == 0
    assert image[5, 5] == 1
    assert image[19, 0] == 1
    assert image[19, 50] == 0
    assert image[1, 50] == pytest.approx(0.5)  # 100 lies halfway from 50 to 150


def test_padding_is_black_and_does_not_count() -> None:
    stored = np.array([[10, 20, 30, 255]] * 4, dtype=np.uint8)
    image = GreyScale(padding=(255, 255)).image(stored)
    np.testing.assert_allclose(image[0], [0, 0.5, 1, 0], atol=1e-7)


def test_padding_is_black_in_an_inverted_image_too() -> None:
    stored = np.array([[0, 20, 30]] * 4, dtype=np.uint8)
    image = GreyScale(padding=(0, 0), monochrome1=True).image(stored)
    np.testing.assert_allclose(image[0], [0, 1, 0], atol=1e-7)


@pytest.mark.parametrize("level", [0, 7, 255])
def test_a_constant_image_is_black(level: int) -> None:
    image = GreyScale().image(np.full((8, 8), level, dtype=np.uint8))
    np.testing.assert_array_equal(image, np.zeros((8, 8)))


def test_nothing_but_padding_is_an_image_too() -> None:
    image = GreyScale(padding=(3, 3)).image(np.full((8, 8), 3, dtype=np.uint8))
    np.testing.assert_array_equal(image, np.zeros((8, 8)))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_an_image_is_float32_in_the_unit_range_for_every_container(dtype: type[np.integer]) -> None:
    limits = np.iinfo(dtype)
    stored = np.random.default_rng(0).integers(limits.min, limits.max, (32, 24), dtype=dtype, endpoint=True)
    image = GreyScale(bits_stored=limits.bits, modality=Rescale(-0.5, 3)).image(stored)
    assert image.dtype == np.float32
    assert image.shape == (32, 24)
    assert (image.min(), image.max()) == (0, 1)
    order = np.argsort(stored, axis=None)
    assert (np.diff(image.ravel()[order]) <= 0).all()  # the slope is negative


def test_an_image_of_several_blocks_is_whole() -> None:
    stored = np.arange(1100 * 1500, dtype=np.uint32).reshape(1100, 1500).astype(np.uint16)
    values = GreyScale(bits_stored=16, modality=Rescale(2, 1)).values(stored)
    np.testing.assert_array_equal(values, stored.astype(np.float64) * 2 + 1)


def test_the_levels_between_are_those_that_can_occur() -> None:
    stored = np.array([[3, 5]], dtype=np.uint8)
    assert levels_between(Rescale(-2, 1), stored) == (-9, -5)
