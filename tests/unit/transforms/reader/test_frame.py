"""From bytes in a file to stored integers, through the whole reader."""

import hashlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    MPEG2MPML,
    UID,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    RLELossless,
)

from pneumoseg.transforms.reader.dicom import read_dicom
from pneumoseg.transforms.reader.elements import Elements
from pneumoseg.transforms.reader.frame import Layout, read_layout
from pneumoseg.transforms.reader.radiograph import (
    AcceptanceFilters,
    Radiograph,
    RadiographError,
    read_radiograph,
)
from pneumoseg.transforms.reader.reasons import Reason

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


def layout_refusal(**changes: Any) -> Reason:
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
        assert layout_refusal(**{keyword: None}) is Reason.MISSING_TAG


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
        assert layout_refusal(**changes) is Reason.BAD_HEADER


@pytest.mark.parametrize("frames", ["2", "999999", "inf"])
def test_several_frames_are_no_radiograph(frames: str) -> None:
    assert layout_refusal(NumberOfFrames=frames) is Reason.MULTIFRAME


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
    assert layout_refusal(**changes) is Reason.UNSUPPORTED_PIXEL


WriteDicom = Callable[..., Path]
BYTES = np.arange(240, dtype=np.uint8).reshape(12, 20)
WORDS = (np.arange(240, dtype=np.uint16) * 273).reshape(12, 20)  # up to 65247


def read(path: Path) -> Radiograph:
    """Read header and pixels, without a look at the picture: these are too small for a chest."""
    return read_dicom(path.read_bytes(), AcceptanceFilters())


def reasons(radiograph: Radiograph) -> list[Reason]:
    return [reason for reason, _ in radiograph.warnings]


def refusal(path: Path) -> Reason:
    with pytest.raises(RadiographError) as caught:
        read_radiograph(path)
    return caught.value.reason


@pytest.mark.parametrize("pixels", [BYTES, WORDS, WORDS.astype(np.int16), BYTES.astype(np.int8)], ids=str)
def test_native_pixels_come_out_as_they_went_in(write_dicom: WriteDicom, pixels: np.ndarray) -> None:
    radiograph = read(write_dicom(pixels, syntax=ImplicitVRLittleEndian))
    assert radiograph.stored.dtype == pixels.dtype
    np.testing.assert_array_equal(radiograph.stored, pixels)
    assert radiograph.warnings == ()


def test_big_endian_words_are_swapped(write_dicom: WriteDicom) -> None:
    path = write_dicom(WORDS.byteswap(), syntax=ExplicitVRBigEndian)
    np.testing.assert_array_equal(read_radiograph(path).stored, WORDS)


def test_big_endian_bytes_in_words_are_swapped(write_dicom: WriteDicom) -> None:
    path = write_dicom(BYTES.view(np.uint16).byteswap().view(np.uint8), syntax=ExplicitVRBigEndian)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"\x7f\xe0\x00\x10OB", b"\x7f\xe0\x00\x10OW"))
    np.testing.assert_array_equal(read_radiograph(path).stored, BYTES)


def test_big_endian_bytes_as_bytes_are_left_alone(write_dicom: WriteDicom) -> None:
    path = write_dicom(BYTES, syntax=ExplicitVRBigEndian)
    np.testing.assert_array_equal(read_radiograph(path).stored, BYTES)


def test_an_overlay_above_the_stored_bits_is_masked_off(write_dicom: WriteDicom) -> None:
    path = write_dicom(WORDS % 4096 | 0x1000, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(read_radiograph(path).stored, WORDS % 4096)


def test_a_high_bit_of_15_is_shifted_down(write_dicom: WriteDicom) -> None:
    path = write_dicom((WORDS % 4096) << 4, BitsStored=12, HighBit=15)
    np.testing.assert_array_equal(read_radiograph(path).stored, WORDS % 4096)


def test_the_sign_of_12_bits_is_extended(write_dicom: WriteDicom) -> None:
    twelve = np.array([[0x000, 0x7FF, 0x800, 0xFFF] * 4] * 8, dtype=np.uint16)
    path = write_dicom(twelve, BitsStored=12, HighBit=11, PixelRepresentation=1)
    np.testing.assert_array_equal(read_radiograph(path).stored[0, :4], [0, 2047, -2048, -1])


def test_the_sign_is_extended_after_the_shift(write_dicom: WriteDicom) -> None:
    twelve = np.array([[0x0000, 0x7FF0, 0x8000, 0xFFF0] * 4] * 8, dtype=np.uint16)
    path = write_dicom(twelve, BitsStored=12, HighBit=15, PixelRepresentation=1)
    np.testing.assert_array_equal(read_radiograph(path).stored[0, :4], [0, 2047, -2048, -1])


def test_an_odd_number_of_bytes_is_padded_silently(write_dicom: WriteDicom) -> None:
    pixels = BYTES[:11, :19]
    radiograph = read(write_dicom(np.ascontiguousarray(pixels)))
    np.testing.assert_array_equal(radiograph.stored, pixels)
    assert radiograph.warnings == ()


def test_padding_after_the_pixels_is_told_of(write_dicom: WriteDicom) -> None:
    path = write_dicom(BYTES.tobytes() + bytes(128), shape=(12, 20))
    assert reasons(read(path)) == [Reason.TRAILING_BYTES]


@pytest.mark.parametrize(("rows", "more"), [(8, 0), (11, 0), (12, 240)])
def test_more_pixels_than_described_are_a_conflict(write_dicom: WriteDicom, rows: int, more: int) -> None:
    path = write_dicom(BYTES.tobytes() + bytes(more), shape=(rows, 20))
    assert refusal(path) is Reason.CONFLICTING_SIZE


@pytest.mark.parametrize("missing", [1, 200, 240])
def test_fewer_pixels_than_described_are_truncated(write_dicom: WriteDicom, missing: int) -> None:
    path = write_dicom(BYTES, name="whole.dcm")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - missing])
    assert refusal(path) is Reason.TRUNCATED


def test_a_size_beyond_the_limit_is_refused_before_it_is_allocated(write_dicom: WriteDicom) -> None:
    assert refusal(write_dicom(BYTES, Rows=65535, Columns=65535)) is Reason.TOO_LARGE


@pytest.mark.parametrize("planar", [0, 1])
def test_grey_stored_as_rgb_becomes_grey(write_dicom: WriteDicom, planar: int) -> None:
    pixels = np.stack([BYTES] * 3, axis=0 if planar else -1)
    path = write_dicom(
        np.ascontiguousarray(pixels),
        Rows=12,
        Columns=20,
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=planar,
    )
    radiograph = read(path)
    np.testing.assert_array_equal(radiograph.stored, BYTES)
    assert reasons(radiograph) == [Reason.COLOUR_TO_GREY]


def test_grey_stored_as_ybr_is_its_first_channel(write_dicom: WriteDicom) -> None:
    pixels = np.stack([BYTES, np.full_like(BYTES, 128), np.full_like(BYTES, 128)], axis=-1)
    path = write_dicom(pixels, SamplesPerPixel=3, PhotometricInterpretation="YBR_FULL", PlanarConfiguration=0)
    np.testing.assert_array_equal(read_radiograph(path).stored, BYTES)


@pytest.mark.parametrize(
    "marker", [b"", b"\xff\xee\0\x0eAdobe\0d\0\0\0\0\x01"]
)  # whose last byte declares YCbCr
@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGExtended12Bit])
@pytest.mark.parametrize("photometric", ["YBR_FULL", "YBR_FULL_422"])
def test_grey_of_a_jpeg_stream_is_found_whether_its_decoder_converts_the_colours_or_not(
    write_dicom: WriteDicom, marker: bytes, syntax: UID, photometric: str
) -> None:
    grey = np.kron(np.arange(40, 240, 20, dtype=np.uint8), np.ones((16, 16), dtype=np.uint8))
    file = BytesIO()
    Image.fromarray(np.stack([grey] * 3, axis=-1)).save(file, "JPEG", quality=100, subsampling=1)
    stream = file.getvalue()
    if marker:  # in place of that of JFIF
        stream = stream[:2] + marker + stream[4 + int.from_bytes(stream[4:6], "big") :]
    colour = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": photometric}
    radiograph = read_radiograph(write_dicom(stream, syntax=syntax, shape=(16, 160), **colour))
    np.testing.assert_allclose(radiograph.stored, grey, atol=1)


def test_colours_are_not_supported(write_dicom: WriteDicom) -> None:
    pixels = np.stack([BYTES, BYTES, BYTES ^ 1], axis=-1)
    path = write_dicom(pixels, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)
    assert refusal(path) is Reason.UNSUPPORTED_PIXEL


def test_the_hash_is_of_what_pydicom_decodes(write_dicom: WriteDicom) -> None:
    rgb = np.stack([BYTES] * 3, axis=-1)
    paths = [
        write_dicom(WORDS, name="words.dcm"),
        write_dicom(WORDS.astype(np.int16), name="signed.dcm"),
        write_dicom(
            rgb, name="rgb.dcm", SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0
        ),
    ]
    for path in paths:
        pixels = np.ascontiguousarray(dcmread(path).pixel_array)
        assert read_radiograph(path).pixel_sha256 == hashlib.sha256(pixels.data).hexdigest()


def encapsulated(write_dicom: WriteDicom, value: bytes) -> Path:
    """A JPEG Baseline file whose Pixel Data has the given bytes."""
    path = write_dicom(b"STREAM", syntax=JPEGBaseline8Bit)
    data = path.read_bytes()
    return_to = data.index(b"\xff\xff\xff\xff", data.index(b"\xe0\x7f\x10\x00")) + 4
    path.write_bytes(data[:return_to] + value)
    return path


ITEM, END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\0\0\0\0"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", Reason.TRUNCATED),
        (END, Reason.DECODE_ERROR),
        (ITEM + b"\0\0\0\0" + END, Reason.DECODE_ERROR),
        (ITEM + b"\0\0\0\0" + ITEM + b"\0\0\0\0" + END, Reason.DECODE_ERROR),
        (b"not in items at all", Reason.DECODE_ERROR),
        (ITEM + b"\0\0\0\0" + ITEM + b"\xff\xff\xff\xff", Reason.TRUNCATED),
        (ITEM + b"\0\0\0\0" + ITEM + b"\x08\0\0\0\xff\xd8\xff\xe0", Reason.TRUNCATED),
        (ITEM + b"\0\0\0\0" + (ITEM + b"\x04\0\0\0\xff\xd8\xff\xe0") * 2 + END, Reason.MULTIFRAME),
    ],
)
def test_damaged_encapsulation_has_its_reason(write_dicom: WriteDicom, value: bytes, reason: Reason) -> None:
    assert refusal(encapsulated(write_dicom, value)) is reason


def test_fragments_are_joined(write_dicom: WriteDicom, tmp_path: Path) -> None:

    stream = BytesIO()
    Image.fromarray(np.full((16, 16), 77, dtype=np.uint8)).save(stream, "JPEG", quality=100)
    path = write_dicom(stream.getvalue(), syntax=JPEGBaseline8Bit)
    data = dcmread(path)
    data.PixelData = encapsulate([stream.getvalue()], fragments_per_frame=3)
    data.save_as(path)
    np.testing.assert_array_equal(read_radiograph(path).stored, 77)


def test_compressed_pixels_without_a_compressed_syntax_are_a_conflict(write_dicom: WriteDicom) -> None:
    path = write_dicom(b"\xff\xd8\xff\xd9", syntax=JPEGBaseline8Bit)
    data = path.read_bytes().replace(b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.1\0\0\0")
    path.write_bytes(data)
    assert refusal(path) is Reason.CONFLICTING_SIZE


@pytest.mark.parametrize("syntax", [MPEG2MPML])
def test_video_is_not_supported(write_dicom: WriteDicom, syntax: Any) -> None:
    assert refusal(write_dicom(b"video", syntax=syntax)) is Reason.UNSUPPORTED_TRANSFER_SYNTAX


def rle_file(write_dicom: WriteDicom, segment: bytes) -> Path:
    header = (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56)
    return write_dicom(header + segment, syntax=RLELossless)


@pytest.mark.parametrize(
    ("segment", "reason"),
    [
        (b"\x81\x07" * 1, Reason.DECODE_ERROR),  # 128 of 256 bytes
        (b"\x81\x07" * 4, Reason.CONFLICTING_SIZE),  # two images
        (b"\x81\x07" * 100_000, Reason.CONFLICTING_SIZE),  # a bomb
        (b"\x81\x07" * 2 + b"\x05\x01", Reason.DECODE_ERROR),  # six bytes announced, one there
    ],
)
def test_damaged_rle_has_its_reason(write_dicom: WriteDicom, segment: bytes, reason: Reason) -> None:
    assert refusal(rle_file(write_dicom, segment)) is reason


def test_rle_runs_literals_and_pauses_are_decoded(write_dicom: WriteDicom) -> None:
    segment = b"\x81\x07" + b"\x80" + b"\x0f" + bytes(range(16)) + b"\x91\x09" + b"\0"  # 128 + 16 + 112
    stored = read_radiograph(rle_file(write_dicom, segment)).stored
    np.testing.assert_array_equal(stored.ravel(), [7] * 128 + list(range(16)) + [9] * 112)


def test_j2k_in_its_file_format_is_unwrapped(write_dicom: WriteDicom) -> None:
    stream = imagecodecs.jpeg2k_encode(WORDS, codecformat="jp2", level=0, reversible=True)
    assert stream[4:8] == b"jP  "
    path = write_dicom(
        bytes(stream), syntax=JPEG2000Lossless, shape=(12, 20), BitsAllocated=16, BitsStored=16, HighBit=15
    )
    np.testing.assert_array_equal(read_radiograph(path).stored, WORDS)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Rows": 20, "Columns": 12}, Reason.CONFLICTING_SIZE),
        ({"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}, Reason.CONFLICTING_SIZE),
        ({"BitsStored": 12, "HighBit": 11}, Reason.CONFLICTING_SIZE),  # the pixels use all 16 bits
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "YBR_RCT"}, Reason.CONFLICTING_SIZE),
    ],
    ids=str,
)
def test_a_stream_that_is_not_what_the_header_says_is_a_conflict(
    write_dicom: WriteDicom, changes: dict[str, Any], reason: Reason
) -> None:
    stream = bytes(imagecodecs.jpeg2k_encode(WORDS, codecformat="j2k", level=0, reversible=True))
    deep = {"BitsAllocated": 16, "BitsStored": 16, "HighBit": 15}
    path = write_dicom(stream, syntax=JPEG2000Lossless, shape=(12, 20), **(deep | changes))
    assert refusal(path) is reason
