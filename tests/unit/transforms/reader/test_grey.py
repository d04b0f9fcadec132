"""The rules of grey by themselves, and as headers give them, through the whole reader, with values worked by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from pneumoseg.transforms.reader.dicom import read_dicom
from pneumoseg.transforms.reader.grey import (
    GreyScale,
    LookupTable,
    Rescale,
    Window,
    WindowFunction,
)
from pneumoseg.transforms.reader.radiograph import AcceptanceFilters, Radiograph, RadiographError
from pneumoseg.transforms.reader.reasons import Reason

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


@pytest.mark.parametrize("columns", [98, 99, 100])
def test_every_pixel_counts_once_whatever_the_width(columns: int) -> None:
    stored = np.full((20, columns), 50, dtype=np.uint8)
    stored[:, -1] = 200  # one in a hundred, beyond the percentile 99
    assert GreyScale().fitted(stored).voi == Window(125, 150, WindowFunction.LINEAR_EXACT)


def test_a_part_of_an_image_is_displayed_as_in_the_whole() -> None:
    stored = np.array([[10, 20, 30, 250]] * 4, dtype=np.uint8)
    grey = GreyScale().fitted(stored)
    np.testing.assert_array_equal(grey.image(stored[:, :2]), grey.image(stored)[:, :2])


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


WriteDicom = Callable[..., Path]
BYTES = np.arange(256, dtype=np.uint8).reshape(8, 32)  # too few rows to look like a chest in any pose
# from 1 to 254: 1.28 of 256 below, as above
PERCENTILES_OF_BYTES = Window(127.5, 253, WindowFunction.LINEAR_EXACT)
TWELVE = (np.arange(256, dtype=np.uint16) * 16).reshape(16, 16)  # up to 4080
TWELVE_BITS = {"BitsStored": 12, "HighBit": 11}


def read(path: Path) -> Radiograph:
    """Read header and pixels, without a look at the picture: these are too small for a chest."""
    return read_dicom(path.read_bytes(), AcceptanceFilters())


def reasons(radiograph: Radiograph) -> list[Reason]:
    return [reason for reason, _ in radiograph.warnings]


def lut(entries: list[int], *, first: int = 0, bits: int = 16, kind: str = "Modality") -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item["LUTDescriptor"].VR = "SS" if first < 0 else "US"
    if kind == "Modality":
        item.ModalityLUTType = "US"
    item.LUTData = entries
    item["LUTData"].VR = "US"
    return item


def write_raw(path: Path, replacements: dict[str, bytes]) -> Path:
    """Overwrite values that pydicom would not write; each as long as what is there."""
    data = path.read_bytes()
    for old, new in replacements.items():
        assert data.count(old.encode()) == 1
        assert len(new) == len(old)
        data = data.replace(old.encode(), new)
    path.write_bytes(data)
    return path


def test_a_rescale_is_applied(write_dicom: WriteDicom) -> None:
    radiograph = read(write_dicom(TWELVE, **TWELVE_BITS, RescaleSlope="0.5", RescaleIntercept="-1024"))
    np.testing.assert_array_equal(radiograph.values, TWELVE * 0.5 - 1024)
    assert radiograph.warnings == ()


@pytest.mark.parametrize(("slope", "intercept"), [("1", None), (None, "0"), ("1", "0"), (None, None)])
def test_a_rescale_by_nothing_changes_nothing(
    write_dicom: WriteDicom, slope: str | None, intercept: str | None
) -> None:
    given = {"RescaleSlope": slope, "RescaleIntercept": intercept}
    path = write_dicom(BYTES, **{name: value for name, value in given.items() if value is not None})
    np.testing.assert_array_equal(read(path).values, BYTES)


def test_an_empty_rescale_is_told_of(write_dicom: WriteDicom) -> None:
    radiograph = read(write_dicom(BYTES, RescaleSlope="", RescaleIntercept=""))
    np.testing.assert_array_equal(radiograph.values, BYTES)
    assert reasons(radiograph) == [Reason.BAD_RESCALE]


@pytest.mark.parametrize(
    ("slope", "intercept"),
    [
        (b"0     ", b"0     "),
        (b"nan   ", b"0     "),
        (b"inf   ", b"0     "),
        (b"1e308 ", b"1e308 "),
        (b"abcdef", b"0     "),
        (b"1     ", b"1e30  "),  # float32 cannot tell the levels apart any more
    ],
)
def test_a_rescale_that_loses_the_image_is_refused(
    write_dicom: WriteDicom, slope: bytes, intercept: bytes
) -> None:
    path = write_dicom(BYTES, RescaleSlope="111111", RescaleIntercept="222222")
    with pytest.raises(RadiographError, match="BAD_RESCALE"):
        read(write_raw(path, {"111111": slope, "222222": intercept}))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_modality_table_is_applied_in_each_encoding(write_dicom: WriteDicom, syntax: Any) -> None:
    path = write_dicom(BYTES, syntax=syntax, ModalityLUTSequence=[lut([1000, 2000, 3000], first=100)])
    values = read(path).values.ravel()
    assert [values[x] for x in (0, 100, 101, 102, 255)] == [1000, 1000, 2000, 3000, 3000]


def test_a_modality_table_may_have_entries_of_eight_bits(write_dicom: WriteDicom) -> None:
    item = lut([0], bits=8)
    item.LUTDescriptor = [3, 0, 8]
    item.add_new("LUTData", "OW", b"\x05\x06\x07\0")
    values = read(write_dicom(BYTES, ModalityLUTSequence=[item])).values.ravel()
    assert [values[x] for x in (0, 1, 2, 3)] == [5, 6, 7, 7]


def test_a_table_of_zero_entries_has_65536(write_dicom: WriteDicom) -> None:
    item = lut([0])
    item.LUTDescriptor = [0, 0, 16]
    item.add_new("LUTData", "OW", np.arange(65535, -1, -1, dtype="<u2").tobytes())
    values = read(write_dicom(BYTES, ModalityLUTSequence=[item])).values
    np.testing.assert_array_equal(values, 65535 - BYTES.astype(int))


def test_the_table_of_signed_pixels_may_begin_below_zero(write_dicom: WriteDicom) -> None:
    signed = BYTES.view(np.int8)
    path = write_dicom(signed, ModalityLUTSequence=[lut([7, 8, 9], first=-1)])
    values = dict(zip(signed.ravel().tolist(), read(path).values.ravel().tolist(), strict=True))
    assert [values[x] for x in (-128, -1, 0, 1, 127)] == [7, 7, 8, 9, 9]


def test_an_empty_item_of_a_modality_table_is_told_of(write_dicom: WriteDicom) -> None:
    radiograph = read(write_dicom(BYTES, ModalityLUTSequence=[Dataset()]))
    np.testing.assert_array_equal(radiograph.values, BYTES)
    assert reasons(radiograph) == [Reason.BAD_RESCALE]


def test_a_modality_table_with_missing_entries_is_refused(write_dicom: WriteDicom) -> None:
    item = lut([1, 2, 3])
    item.LUTDescriptor = [9, 0, 16]
    with pytest.raises(RadiographError, match="BAD_RESCALE"):
        read(write_dicom(BYTES, ModalityLUTSequence=[item]))


@pytest.mark.parametrize("function", list(WindowFunction))
def test_a_window_is_applied_with_its_function(write_dicom: WriteDicom, function: WindowFunction) -> None:
    path = write_dicom(BYTES, WindowCenter="100", WindowWidth="50", VOILUTFunction=str(function))
    radiograph = read(path)
    assert radiograph.grey.voi == Window(100, 50, function)
    assert radiograph.image.ravel()[100] == pytest.approx({"LINEAR": 0.5 + 0.5 / 49}.get(function, 0.5))


def test_a_window_acts_on_rescaled_values(write_dicom: WriteDicom) -> None:
    path = write_dicom(
        BYTES,
        RescaleSlope="2",
        RescaleIntercept="1000",
        WindowCenter="1100",
        WindowWidth="100",
        VOILUTFunction="LINEAR_EXACT",
    )
    image = read(path).image.ravel()
    assert [image[x] for x in (25, 50, 75)] == [0, 0.5, 1]  # 2 x + 1000: 1050, 1100, 1150


def test_the_first_usable_window_is_taken(write_dicom: WriteDicom) -> None:
    path = write_dicom(BYTES, WindowCenter=["50", "9000", "100"], WindowWidth=["0", "10", "200"])
    radiograph = read(path)
    assert radiograph.grey.voi == Window(100, 200)
    assert radiograph.warnings == ()


@pytest.mark.parametrize(
    ("center", "width"), [("100", "0"), ("100", "1"), ("100", "-5"), ("9000", "100"), ("-9000", "100")]
)
def test_without_a_usable_window_percentiles_serve(write_dicom: WriteDicom, center: str, width: str) -> None:
    radiograph = read(write_dicom(BYTES, WindowCenter=center, WindowWidth=width))
    assert radiograph.grey.voi == PERCENTILES_OF_BYTES
    assert reasons(radiograph) == [Reason.BAD_WINDOW]
    assert (radiograph.image.min(), radiograph.image.max()) == (0, 1)


def test_an_empty_window_is_none(write_dicom: WriteDicom) -> None:
    radiograph = read(write_dicom(BYTES, WindowCenter="", WindowWidth=""))
    assert radiograph.grey.voi == PERCENTILES_OF_BYTES
    assert radiograph.warnings == ()


def test_a_window_in_words_is_told_of(write_dicom: WriteDicom) -> None:
    path = write_dicom(BYTES, WindowCenter="111111", WindowWidth="222222")
    radiograph = read(write_raw(path, {"111111": b"bright"}))
    assert reasons(radiograph) == [Reason.BAD_WINDOW]


def test_a_narrow_window_over_fractions_is_usable(write_dicom: WriteDicom) -> None:
    path = write_dicom(
        TWELVE,
        **TWELVE_BITS,
        RescaleSlope="0.001",
        RescaleIntercept="0",
        WindowCenter="2",
        WindowWidth="0.5",
        VOILUTFunction="LINEAR_EXACT",
    )
    radiograph = read(path)
    assert radiograph.warnings == ()
    assert radiograph.image.ravel()[125] == pytest.approx(0.5)  # 125 * 16 / 1000 = 2


def test_a_voi_table_goes_before_a_window(write_dicom: WriteDicom) -> None:
    table = lut([0, 100, 400], first=10, bits=12, kind="VOI")
    path = write_dicom(BYTES, VOILUTSequence=[table], WindowCenter="100", WindowWidth="50")
    image = read(path).image.ravel()
    assert [image[x] for x in (0, 10, 11, 12, 255)] == [0, 0, 0.25, 1, 1]


@pytest.mark.parametrize("table", [Dataset(), lut([5, 5, 5], kind="VOI")])
def test_after_an_unusable_voi_table_comes_the_window(write_dicom: WriteDicom, table: Dataset) -> None:
    path = write_dicom(BYTES, VOILUTSequence=[table], WindowCenter="100", WindowWidth="50")
    radiograph = read(path)
    assert radiograph.grey.voi == Window(100, 50)
    assert reasons(radiograph) == [Reason.BAD_WINDOW]


def test_monochrome1_and_its_presentation_shape_invert_once(write_dicom: WriteDicom) -> None:
    path = write_dicom(
        TWELVE, **TWELVE_BITS, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE"
    )
    radiograph = read(path)
    np.testing.assert_array_equal(radiograph.values, 4095 - TWELVE)
    assert radiograph.image[0, 0] == 1
    assert radiograph.image[-1, -1] == 0


@pytest.mark.parametrize(("value", "limit"), [(200, 255), (255, 200)])
def test_a_range_of_padding_may_go_either_way(write_dicom: WriteDicom, value: int, limit: int) -> None:
    path = write_dicom(BYTES)
    dataset = dcmread(path)
    dataset.add_new("PixelPaddingValue", "US", value)
    dataset.add_new("PixelPaddingRangeLimit", "US", limit)
    dataset.save_as(path)
    image = read(path).image.ravel()
    assert (image[200:] == 0).all()
    assert image[199] == 1


def test_padding_that_covers_the_whole_image_is_none(write_dicom: WriteDicom) -> None:
    path = write_dicom(BYTES)
    dataset = dcmread(path)
    dataset.add_new("PixelPaddingValue", "US", 0)
    dataset.add_new("PixelPaddingRangeLimit", "US", 255)
    dataset.save_as(path)
    assert read(path).image.max() == 1


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("intercept", [None, "-50"])
def test_whether_a_voi_table_begins_below_zero_is_not_a_matter_of_the_image(
    write_dicom: WriteDicom, syntax: Any, intercept: str | None
) -> None:
    pixels = BYTES.astype(np.int16) if intercept is None else BYTES + 50  # none below zero after the rescale
    if syntax == ExplicitVRBigEndian and intercept is None:
        pixels = pixels.astype(">i2")
    rescale = {} if intercept is None else {"RescaleSlope": "1", "RescaleIntercept": intercept}
    table = lut(list(range(400)), first=-100, kind="VOI")
    for vr in ["SS", "US"]:  # US where a writer did not think of signs: the same bytes
        if vr == "US":
            table["LUTDescriptor"].VR, table["LUTDescriptor"].value = "US", [400, 2**16 - 100, 16]
        radiograph = read(write_dicom(pixels, syntax=syntax, VOILUTSequence=[table], **rescale))
        expected = (radiograph.values + 100) / 399
        np.testing.assert_allclose(radiograph.image, expected, atol=1e-6)


def test_a_voi_table_from_2_to_the_15_on_is_not_below_zero(write_dicom: WriteDicom) -> None:
    pixels = BYTES.astype(np.uint16) + 2**15
    table = lut(list(range(256)), kind="VOI")
    table.LUTDescriptor = [256, 2**15, 16]
    image = read(write_dicom(pixels, VOILUTSequence=[table])).image
    np.testing.assert_allclose(image, BYTES / 255, atol=1e-6)


def test_a_voi_table_beyond_the_image_is_not_used(write_dicom: WriteDicom) -> None:
    tables = [lut([1, 2, 3], first=1000, kind="VOI"), lut([0, 0, 7, 9], first=-200, kind="VOI")]
    radiograph = read(write_dicom(BYTES, VOILUTSequence=tables))
    assert reasons(radiograph) == [Reason.BAD_WINDOW]
    assert (radiograph.image.min(), radiograph.image.max()) == (0, 1)
    usable = lut([0, 9], first=100, kind="VOI")
    assert reasons(read(write_dicom(BYTES, VOILUTSequence=[*tables, usable]))) == []


def test_a_modality_table_of_one_value_is_refused(write_dicom: WriteDicom) -> None:
    with pytest.raises(RadiographError, match="BAD_RESCALE"):
        read(write_dicom(BYTES, ModalityLUTSequence=[lut([5, 5, 5])]))
