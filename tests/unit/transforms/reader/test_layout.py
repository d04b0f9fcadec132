from typing import Any

import pytest
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from pneumoseg.transforms.reader.elements import Elements
from pneumoseg.transforms.reader.layout import Layout, read_layout
from pneumoseg.transforms.reader.reasons import RadiographError, Reason

TWELVE_BITS: dict[str, Any] = {
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "Rows": 40,
    "Columns": 30,
    "BitsAllocated": 16,
    "BitsStored": 12,
    "HighBit": 11,
    "PixelRepresentation": 0,
}


def layout(**changes: Any) -> Layout:
    raws: dict[BaseTag, DataElement | RawDataElement] = {}
    for keyword, value in (TWELVE_BITS | changes).items():
        if value is None:
            continue
        raw = value.encode() if isinstance(value, str) else value.to_bytes(2, "little")
        tag = BaseTag(Tag(keyword))
        raws[tag] = RawDataElement(tag, None, len(raw), raw, 0, True, True)
    return read_layout(Elements(Dataset(raws)))


def refusal(**changes: Any) -> Reason:
    with pytest.raises(RadiographError) as caught:
        layout(**changes)
    return caught.value.reason


def test_rows_come_first_in_a_shape() -> None:
    assert layout().shape == (40, 30)
    assert layout(SamplesPerPixel=3, PhotometricInterpretation="RGB").shape == (40, 30, 3)


def test_the_bytes_of_a_frame_follow_from_bits_allocated() -> None:
    assert layout().frame_bytes == 2400
    assert layout(SamplesPerPixel=3, PhotometricInterpretation="RGB").row_bytes == 180


def test_nothing_that_describes_the_pixels_is_guessed() -> None:
    for keyword in TWELVE_BITS:
        assert refusal(**{keyword: None}) is Reason.MISSING_TAG


def test_what_contradicts_itself_is_a_bad_header() -> None:
    table: list[dict[str, Any]] = [
        {"Rows": 0},
        {"Columns": 0},
        {"SamplesPerPixel": 0},
        {"SamplesPerPixel": 4},
        {"SamplesPerPixel": 3},
        {"PhotometricInterpretation": "RGB"},
        {"BitsAllocated": 64},
        {"BitsAllocated": 12},
        {"BitsStored": 0},
        {"BitsStored": 17, "HighBit": 16},
        {"HighBit": 10},
        {"HighBit": 16},
        {"PixelRepresentation": 7},
        {"NumberOfFrames": "x"},
        {"NumberOfFrames": "-1"},
        {"NumberOfFrames": "nan"},
        {"Rows": "1024"},
    ]
    for changes in table:
        assert refusal(**changes) is Reason.BAD_HEADER


@pytest.mark.parametrize("frames", ["2", "999999", "inf"])
def test_several_frames_are_no_radiograph(frames: str) -> None:
    assert refusal(NumberOfFrames=frames) is Reason.MULTIFRAME


@pytest.mark.parametrize("frames", ["1", "0", ""])
def test_one_frame_may_be_told_or_not(frames: str) -> None:
    assert layout(NumberOfFrames=frames).rows == 40


@pytest.mark.parametrize(
    "changes",
    [
        {"PhotometricInterpretation": "PALETTE COLOR"},
        {"PhotometricInterpretation": "ARGB"},
        {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0},
        {"BitsAllocated": 32},
    ],
    ids=str,
)
def test_pixels_that_are_not_grey_of_16_bits_are_not_supported(changes: dict[str, Any]) -> None:
    assert refusal(**changes) is Reason.UNSUPPORTED_PIXEL
