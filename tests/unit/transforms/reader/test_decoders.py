"""Lossless round trips through encoders that are not ours, and damaged streams."""

import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread, uid
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from pneumoseg.transforms.reader.decoders import (
    CODECS,
    NATIVE_SYNTAXES,
    StreamInfo,
    read_j2k_header,
    read_jpeg_header,
    rle_segments,
)
from pneumoseg.transforms.reader.radiograph import RadiographError, read_radiograph
from pneumoseg.transforms.reader.reasons import Reason

BASELINE = frozenset({0xC0})


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


FRAME = segment(0xC0, struct.pack(">BHHB", 8, 40, 30, 1) + b"\x01\x11\x00")
SCAN = segment(0xDA, b"\x01\x01\x00\x00\x3f\x00") + b"\x12\xff\x00\x34"
JPEG = b"\xff\xd8" + segment(0xE0, b"JFIF\xff\xd9") + FRAME + SCAN + b"\xff\xd9"


def j2k(
    *,
    size: tuple[int, int] = (30, 40),
    offset: tuple[int, int] = (0, 0),
    tile: tuple[int, int] = (30, 40),
    components: bytes = b"\x0b\x01\x01",
) -> bytes:
    siz = struct.pack(">H8IH", 0, *size, *offset, *tile, 0, 0, len(components) // 3) + components
    return b"\xff\x4f" + segment(0x51, siz) + b"\xff\x90data\xff\xd9"


def reason_of(error: pytest.ExceptionInfo[RadiographError]) -> Reason:
    return error.value.reason


def test_a_jpeg_tells_rows_before_columns() -> None:
    assert read_jpeg_header(JPEG, BASELINE) == StreamInfo(rows=40, columns=30, samples=1, precision=8)


def test_a_jpeg_may_be_padded_at_its_end() -> None:
    assert read_jpeg_header(JPEG + b"\0", BASELINE).rows == 40


def test_fill_bytes_before_a_marker_are_passed_over() -> None:
    assert read_jpeg_header(JPEG.replace(FRAME, b"\xff\xff" + FRAME), BASELINE).rows == 40


@pytest.mark.parametrize("cut", [2, 5, 14, 20, 28, len(JPEG) - 2])
def test_a_cut_jpeg_is_refused_though_its_thumbnail_has_an_end_marker(cut: int) -> None:
    with pytest.raises(RadiographError) as caught:
        read_jpeg_header(JPEG[:cut], BASELINE)
    assert reason_of(caught) is Reason.DECODE_ERROR


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"\x89PNG",
        JPEG.replace(FRAME, b""),
        JPEG.replace(FRAME, FRAME + FRAME),
        JPEG.replace(FRAME, b"\xff\xc0\x00\x01"),
        JPEG + bytes(range(1, 200)),
    ],
)
def test_a_damaged_jpeg_is_refused(stream: bytes) -> None:
    with pytest.raises(RadiographError) as caught:
        read_jpeg_header(stream, BASELINE)
    assert reason_of(caught) is Reason.DECODE_ERROR


def test_a_jpeg_of_another_process_is_refused() -> None:
    with pytest.raises(RadiographError, match="SOF0 is not what the transfer syntax names"):
        read_jpeg_header(JPEG, frozenset({0xC3}))


def test_a_j2k_stream_tells_its_size_and_depth() -> None:
    assert read_j2k_header(j2k()) == StreamInfo(rows=40, columns=30, samples=1, precision=12)
    assert read_j2k_header(j2k(components=b"\x8f\x01\x01")).precision == 16  # signed


def test_the_size_of_a_j2k_image_excludes_its_offset() -> None:
    info = read_j2k_header(j2k(size=(35, 50), offset=(5, 10), tile=(50, 50)))
    assert (info.rows, info.columns) == (40, 30)


def test_a_j2k_stream_without_its_end_is_refused() -> None:
    with pytest.raises(RadiographError, match="no end marker"):
        read_j2k_header(j2k()[:-2])


@pytest.mark.parametrize(
    "stream",
    [
        j2k()[:30],
        j2k(size=(0, 40)),
        j2k(offset=(30, 0)),
        j2k(tile=(0, 40)),
        j2k(size=(3000, 3000), tile=(1, 1)),
        j2k(components=b""),
    ],
)
def test_a_j2k_stream_of_impossible_size_is_refused(stream: bytes) -> None:
    with pytest.raises(RadiographError) as caught:
        read_j2k_header(stream)
    assert reason_of(caught) is Reason.DECODE_ERROR


@pytest.mark.parametrize("components", [b"\x07\x02\x01", b"\x07\x01\x01\x0b\x01\x01"])
def test_subsampled_or_unequal_j2k_components_are_not_supported(components: bytes) -> None:
    with pytest.raises(RadiographError) as caught:
        read_j2k_header(j2k(components=components))
    assert reason_of(caught) is Reason.UNSUPPORTED_PIXEL


def rle(count: int, *offsets: int, data: bytes = b"ABCD") -> bytes:
    return struct.pack("<16I", count, *offsets, *[0] * (15 - len(offsets))) + data


def test_an_rle_frame_falls_into_its_segments() -> None:
    assert rle_segments(rle(2, 64, 66), 2) == [b"AB", b"CD"]


@pytest.mark.parametrize(
    "stream",
    [
        b"\x01\0\0\0",
        rle(0),
        rle(1, 64),
        rle(2, 64, 64),
        rle(2, 66, 64),
        rle(2, 64, 68),
        rle(2, 0, 64),
        rle(4_000_000_000),
    ],
)
def test_an_rle_frame_with_wrong_offsets_is_refused(stream: bytes) -> None:
    with pytest.raises(RadiographError) as caught:
        rle_segments(stream, 2)
    assert reason_of(caught) is Reason.DECODE_ERROR


WriteDicom = Callable[..., Path]
SHAPE = (37, 50)  # neither even nor square: a transposed or padded image would show


def ramp(bits: int) -> NDArray[np.unsignedinteger]:
    """A smooth picture with noise and both extremes of its depth."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    picture = (
        rows * columns * (2**bits // 2000) + np.random.default_rng(bits).integers(0, 9, SHAPE)
    ) % 2**bits
    picture[0, 0], picture[-1, 0] = 2**bits - 1, 0
    pixels: NDArray[np.unsignedinteger] = picture.astype(np.uint8 if bits == 8 else np.uint16)
    return pixels


def depth(bits: int) -> dict[str, int]:
    return {"BitsStored": bits, "HighBit": bits - 1}


def transcode(command: list[str], source: Path, syntax: UID) -> Path:
    """Compress with a program of dcmtk."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} of dcmtk is not installed")
    target = source.with_name("compressed.dcm")
    subprocess.run([*command, str(source), str(target)], check=True, capture_output=True)
    assert dcmread(target).file_meta.TransferSyntaxUID == syntax
    return target


LOSSLESS = [
    pytest.param(["dcmcjpeg", "+e1"], uid.JPEGLosslessSV1, id="first-order"),
    *(
        pytest.param(
            ["dcmcjpeg", "+el", "+sv", str(predictor)], uid.JPEGLossless, id=f"predictor-{predictor}"
        )
        for predictor in range(1, 8)
    ),
    pytest.param(["dcmcjpls", "+el"], uid.JPEGLSLossless, id="jpeg-ls"),
    pytest.param(["dcmcrle"], uid.RLELossless, id="rle"),
]


@pytest.mark.dicom_tools
@pytest.mark.parametrize(("command", "syntax"), LOSSLESS)
@pytest.mark.parametrize("bits", [8, 10, 12, 15, 16])
def test_lossless_syntaxes_are_bit_exact(
    write_dicom: WriteDicom, command: list[str], syntax: UID, bits: int
) -> None:
    path = transcode(command, write_dicom(ramp(bits), **depth(bits)), syntax)
    np.testing.assert_array_equal(read_radiograph(path).stored, ramp(bits))


@pytest.mark.dicom_tools
@pytest.mark.parametrize(("command", "syntax"), LOSSLESS)
def test_lossless_signed_pixels_are_bit_exact(
    write_dicom: WriteDicom, command: list[str], syntax: UID
) -> None:
    signed = (ramp(12).astype(np.int16)) - 2048
    path = transcode(command, write_dicom(signed, **depth(12)), syntax)
    np.testing.assert_array_equal(read_radiograph(path).stored, signed)


@pytest.mark.dicom_tools
@pytest.mark.parametrize(
    ("command", "syntax", "bits"),
    [
        (["dcmcjpeg", "+eb", "+q", "100"], uid.JPEGBaseline8Bit, 8),
        (["dcmcjpeg", "+ee", "+q", "100"], uid.JPEGExtended12Bit, 8),
        (["dcmcjpeg", "+ee", "+q", "100"], uid.JPEGExtended12Bit, 12),
        (["dcmcjpls", "+en", "+md", "2"], uid.JPEGLSNearLossless, 12),
    ],
)
def test_lossy_syntaxes_come_close(
    write_dicom: WriteDicom, command: list[str], syntax: UID, bits: int
) -> None:
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    smooth = ((rows + 2 * columns) * (2 ** (bits - 8))).astype(np.uint8 if bits == 8 else np.uint16)
    path = transcode(command, write_dicom(smooth, **depth(bits)), syntax)
    difference = np.abs(read_radiograph(path).values - smooth)
    assert difference.max() <= 2


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_jpeg_2000_is_bit_exact(write_dicom: WriteDicom, bits: int) -> None:
    stream = imagecodecs.jpeg2k_encode(
        ramp(bits), codecformat="j2k", level=0, reversible=True, bitspersample=bits
    )
    assert np.array_equal(_read_stream(write_dicom, stream, uid.JPEG2000Lossless, bits), ramp(bits))


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("syntax", [uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K])
def test_high_throughput_jpeg_2000_is_bit_exact(write_dicom: WriteDicom, syntax: UID, bits: int) -> None:
    stream = imagecodecs.htj2k_encode(ramp(bits), reversible=True)  # OpenJPH's encoder, OpenJPEG's decoder
    assert np.array_equal(_read_stream(write_dicom, stream, syntax, bits), ramp(bits))


def _read_stream(
    write_dicom: WriteDicom, stream: bytes | bytearray, syntax: UID, bits: int
) -> NDArray[np.integer]:
    allocated = 8 if bits == 8 else 16
    path = write_dicom(bytes(stream), syntax=syntax, shape=SHAPE, BitsAllocated=allocated, **depth(bits))
    return read_radiograph(path).stored


@pytest.mark.parametrize(("unsigned_stream", "container"), [(True, np.uint16), (False, np.int16)])
def test_a_sign_that_only_header_or_stream_knows_is_the_header_s(
    write_dicom: WriteDicom,
    unsigned_stream: bool,
    container: type[np.integer],
) -> None:
    signed = ramp(16).view(np.int16)
    stream = imagecodecs.jpeg2k_encode(signed.view(container), codecformat="j2k", level=0, reversible=True)
    path = write_dicom(
        bytes(stream),
        syntax=uid.JPEG2000Lossless,
        shape=SHAPE,
        BitsAllocated=16,
        PixelRepresentation=1 if unsigned_stream else 0,
        **depth(16),
    )
    expected = signed if unsigned_stream else ramp(16)
    np.testing.assert_array_equal(read_radiograph(path).stored, expected)


def test_every_syntax_that_pydicom_decodes_has_a_decoder_here() -> None:
    decoded = {syntax for syntax in uid.AllTransferSyntaxes if _has_decoder(syntax)}
    assert {*CODECS, uid.RLELossless, *NATIVE_SYNTAXES} == decoded


def _has_decoder(syntax: UID) -> bool:
    try:
        get_decoder(syntax)
    except NotImplementedError:
        return False
    return True


STREAMS: dict[UID, Callable[[], Any]] = {
    uid.JPEGBaseline8Bit: lambda: imagecodecs.jpeg8_encode(ramp(8)),
    uid.JPEGLosslessSV1: lambda: imagecodecs.jpeg8_encode(ramp(8), lossless=True),
    uid.JPEGLSLossless: lambda: imagecodecs.jpegls_encode(ramp(8)),
    uid.JPEG2000Lossless: lambda: imagecodecs.jpeg2k_encode(
        ramp(8), codecformat="j2k", level=0, reversible=True
    ),
    uid.HTJ2KLossless: lambda: imagecodecs.htj2k_encode(ramp(8), reversible=True),
}


@pytest.mark.parametrize("syntax", STREAMS, ids=lambda syntax: UID(syntax).keyword)
def test_a_stream_cut_anywhere_is_refused(write_dicom: WriteDicom, syntax: UID) -> None:
    stream = bytes(STREAMS[syntax]())
    np.testing.assert_allclose(_read_stream(write_dicom, stream, syntax, 8), ramp(8), atol=60)
    for end in range(2, len(stream) - 1, max(1, len(stream) // 40)):
        with pytest.raises(RadiographError) as caught:
            _read_stream(write_dicom, stream[:end], syntax, 8)
        assert caught.value.reason is Reason.DECODE_ERROR


def test_a_stream_of_another_kind_is_refused(write_dicom: WriteDicom) -> None:
    for syntax in STREAMS:
        for other, make_stream in STREAMS.items():
            if CODECS[syntax].begin == CODECS[other].begin == CODECS[uid.JPEG2000].begin or syntax == other:
                continue  # the two kinds of JPEG 2000 share their decoder
            with pytest.raises(RadiographError, match="DECODE_ERROR"):
                _read_stream(write_dicom, bytes(make_stream()), syntax, 8)
