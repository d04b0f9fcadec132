"""The rules of grey as headers give them, through the whole reader, with values worked by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from pneumoseg.transforms.reader.grey import Window, WindowFunction
from pneumoseg.transforms.reader.radiograph import Radiograph, RadiographError, read_radiograph
from pneumoseg.transforms.reader.reasons import Reason

WriteDicom = Callable[..., Path]
BYTES = np.arange(256, dtype=np.uint8).reshape(16, 16)
TWELVE = (np.arange(256, dtype=np.uint16) * 16).reshape(16, 16)  # up to 4080
TWELVE_BITS = {"BitsStored": 12, "HighBit": 11}


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
    radiograph = read_radiograph(
        write_dicom(TWELVE, **TWELVE_BITS, RescaleSlope="0.5", RescaleIntercept="-1024")
    )
    np.testing.assert_array_equal(radiograph.values, TWELVE * 0.5 - 1024)
    assert radiograph.warnings == ()


@pytest.mark.parametrize(("slope", "intercept"), [("1", None), (None, "0"), ("1", "0"), (None, None)])
def test_a_rescale_by_nothing_changes_nothing(
    write_dicom: WriteDicom, slope: str | None, intercept: str | None
) -> None:
    given = {"RescaleSlope": slope, "RescaleIntercept": intercept}
    path = write_dicom(BYTES, **{name: value for name, value in given.items() if value is not None})
    np.testing.assert_array_equal(read_radiograph(path).values, BYTES)


def test_an_empty_rescale_is_told_of(write_dicom: WriteDicom) -> None:
    radiograph = read_radiograph(write_dicom(BYTES, RescaleSlope="", RescaleIntercept=""))
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
        read_radiograph(write_raw(path, {"111111": slope, "222222": intercept}))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_modality_table_is_applied_in_each_encoding(write_dicom: WriteDicom, syntax: Any) -> None:
    path = write_dicom(BYTES, syntax=syntax, ModalityLUTSequence=[lut([1000, 2000, 3000], first=100)])
    values = read_radiograph(path).values.ravel()
    assert [values[x] for x in (0, 100, 101, 102, 255)] == [1000, 1000, 2000, 3000, 3000]


def test_a_modality_table_may_have_entries_of_eight_bits(write_dicom: WriteDicom) -> None:
    item = lut([0], bits=8)
    item.LUTDescriptor = [3, 0, 8]
    item.add_new("LUTData", "OW", b"\x05\x06\x07\0")
    values = read_radiograph(write_dicom(BYTES, ModalityLUTSequence=[item])).values.ravel()
    assert [values[x] for x in (0, 1, 2, 3)] == [5, 6, 7, 7]


def test_a_table_of_zero_entries_has_65536(write_dicom: WriteDicom) -> None:
    item = lut([0])
    item.LUTDescriptor = [0, 0, 16]
    item.add_new("LUTData", "OW", np.arange(65535, -1, -1, dtype="<u2").tobytes())
    values = read_radiograph(write_dicom(BYTES, ModalityLUTSequence=[item])).values
    np.testing.assert_array_equal(values, 65535 - BYTES.astype(int))


def test_the_table_of_signed_pixels_may_begin_below_zero(write_dicom: WriteDicom) -> None:
    signed = BYTES.view(np.int8)
    path = write_dicom(signed, ModalityLUTSequence=[lut([7, 8, 9], first=-1)])
    values = dict(zip(signed.ravel().tolist(), read_radiograph(path).values.ravel().tolist(), strict=True))
    assert [values[x] for x in (-128, -1, 0, 1, 127)] == [7, 7, 8, 9, 9]


def test_an_empty_item_of_a_modality_table_is_told_of(write_dicom: WriteDicom) -> None:
    radiograph = read_radiograph(write_dicom(BYTES, ModalityLUTSequence=[Dataset()]))
    np.testing.assert_array_equal(radiograph.values, BYTES)
    assert reasons(radiograph) == [Reason.BAD_RESCALE]


def test_a_modality_table_with_missing_entries_is_refused(write_dicom: WriteDicom) -> None:
    item = lut([1, 2, 3])
    item.LUTDescriptor = [9, 0, 16]
    with pytest.raises(RadiographError, match="BAD_RESCALE"):
        read_radiograph(write_dicom(BYTES, ModalityLUTSequence=[item]))


@pytest.mark.parametrize("function", list(WindowFunction))
def test_a_window_is_applied_with_its_function(write_dicom: WriteDicom, function: WindowFunction) -> None:
    path = write_dicom(BYTES, WindowCenter="100", WindowWidth="50", VOILUTFunction=str(function))
    radiograph = read_radiograph(path)
    assert radiograph.grey.voi == Window(100, 50, function)
    assert radiograph.image[6, 4] == pytest.approx({"LINEAR": 0.5 + 0.5 / 49}.get(function, 0.5))


def test_a_window_acts_on_rescaled_values(write_dicom: WriteDicom) -> None:
    path = write_dicom(
        BYTES,
        RescaleSlope="2",
        RescaleIntercept="1000",
        WindowCenter="1100",
        WindowWidth="100",
        VOILUTFunction="LINEAR_EXACT",
    )
    image = read_radiograph(path).image.ravel()
    assert [image[x] for x in (25, 50, 75)] == [0, 0.5, 1]  # 2 x + 1000: 1050, 1100, 1150


def test_the_first_usable_window_is_taken(write_dicom: WriteDicom) -> None:
    path = write_dicom(BYTES, WindowCenter=["50", "9000", "100"], WindowWidth=["0", "10", "200"])
    radiograph = read_radiograph(path)
    assert radiograph.grey.voi == Window(100, 200)
    assert radiograph.warnings == ()


@pytest.mark.parametrize(
    ("center", "width"), [("100", "0"), ("100", "1"), ("100", "-5"), ("9000", "100"), ("-9000", "100")]
)
def test_without_a_usable_window_percentiles_serve(write_dicom: WriteDicom, center: str, width: str) -> None:
    radiograph = read_radiograph(write_dicom(BYTES, WindowCenter=center, WindowWidth=width))
    assert radiograph.grey.voi is None
    assert reasons(radiograph) == [Reason.BAD_WINDOW]
    assert (radiograph.image.min(), radiograph.image.max()) == (0, 1)


def test_an_empty_window_is_none(write_dicom: WriteDicom) -> None:
    radiograph = read_radiograph(write_dicom(BYTES, WindowCenter="", WindowWidth=""))
    assert radiograph.grey.voi is None
    assert radiograph.warnings == ()


def test_a_window_in_words_is_told_of(write_dicom: WriteDicom) -> None:
    path = write_dicom(BYTES, WindowCenter="111111", WindowWidth="222222")
    radiograph = read_radiograph(write_raw(path, {"111111": b"bright"}))
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
    radiograph = read_radiograph(path)
    assert radiograph.warnings == ()
    assert radiograph.image.ravel()[125] == pytest.approx(0.5)  # 125 * 16 / 1000 = 2


def test_a_voi_table_goes_before_a_window(write_dicom: WriteDicom) -> None:
    table = lut([0, 100, 400], first=10, bits=12, kind="VOI")
    path = write_dicom(BYTES, VOILUTSequence=[table], WindowCenter="100", WindowWidth="50")
    image = read_radiograph(path).image.ravel()
    assert [image[x] for x in (0, 10, 11, 12, 255)] == [0, 0, 0.25, 1, 1]


@pytest.mark.parametrize("table", [Dataset(), lut([5, 5, 5], kind="VOI")])
def test_after_an_unusable_voi_table_comes_the_window(write_dicom: WriteDicom, table: Dataset) -> None:
    path = write_dicom(BYTES, VOILUTSequence=[table], WindowCenter="100", WindowWidth="50")
    radiograph = read_radiograph(path)
    assert radiograph.grey.voi == Window(100, 50)
    assert reasons(radiograph) == [Reason.BAD_WINDOW]


def test_monochrome1_and_its_presentation_shape_invert_once(write_dicom: WriteDicom) -> None:
    path = write_dicom(
        TWELVE, **TWELVE_BITS, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE"
    )
    radiograph = read_radiograph(path)
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
    image = read_radiograph(path).image.ravel()
    assert (image[200:] == 0).all()
    assert image[199] == 1


def test_padding_that_covers_the_whole_image_is_none(write_dicom: WriteDicom) -> None:
    path = write_dicom(BYTES)
    dataset = dcmread(path)
    dataset.add_new("PixelPaddingValue", "US", 0)
    dataset.add_new("PixelPaddingRangeLimit", "US", 255)
    dataset.save_as(path)
    assert read_radiograph(path).image.max() == 1
