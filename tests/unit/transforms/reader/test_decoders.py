"""Lossless round trips through encoders that are not ours, and damaged streams."""

import shutil
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

from pneumoseg.transforms.reader.decoders import CODECS, NATIVE_SYNTAXES
from pneumoseg.transforms.reader.radiograph import RadiographError, read_radiograph
from pneumoseg.transforms.reader.reasons import Reason

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
