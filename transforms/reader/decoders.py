"""Decoder of each transfer syntax, chosen by name and independent of the installed plugins.

The choice was tested on damaged and foreign streams: these decoders do not crash the process or change a grey level of
lossless data. `imagecodecs.ljpeg_decode` and `jpegsof3_decode` crash it, GDCM crashes on some headers, and the JPEG
plugin of pylibjpeg is licensed under the GPL.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
import openjpeg.utils
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid

from pneumoseg.transforms.reader.layout import Layout
from pneumoseg.transforms.reader.reasons import RadiographError, Reason
from pneumoseg.transforms.reader.streams import (
    J2K_BEGIN,
    JPEG_BEGIN,
    StreamInfo,
    read_j2k_header,
    read_jpeg_header,
    rle_segments,
)

BitPatterns = NDArray[np.unsignedinteger[Any]]
"""Decoded pixels, before sign and unused bits are interpreted."""


@dataclass(frozen=True)
class Codec:
    """Check and decoder of a compressed stream.

    Attributes:
        begin: First bytes of a stream; preceding bytes are a wrapper.
        inspect: Function that reads size and depth from the stream's own header, and checks its end.
        decode: Function that decodes a checked stream to bit patterns, shape ``(rows, columns)`` or
            ``(rows, columns, samples)``.
    """

    begin: bytes
    inspect: Callable[[bytes], StreamInfo]
    decode: Callable[[bytes, StreamInfo], BitPatterns]


def _decode_with_pillow(stream: bytes, info: StreamInfo) -> BitPatterns:
    with Image.open(io.BytesIO(stream), formats=("JPEG",)) as image:
        if info.samples == 3 and "adobe_transform" not in image.info:
            image.draft("YCbCr", image.size)  # return the components without colour conversion
        return np.asarray(image)


def _decode_with_jpeg8(stream: bytes, _info: StreamInfo) -> BitPatterns:
    return np.asarray(imagecodecs.jpeg8_decode(stream))


def _decode_with_jpegls(stream: bytes, _info: StreamInfo) -> BitPatterns:
    return np.asarray(imagecodecs.jpegls_decode(stream))


def _decode_with_openjpeg(stream: bytes, info: StreamInfo) -> BitPatterns:
    buffer = openjpeg.utils.decode_pixel_data(stream, version=2)
    pixels = np.frombuffer(buffer, dtype="<u1" if info.precision <= 8 else "<u2")
    shape = (info.rows, info.columns) if info.samples == 1 else (info.rows, info.columns, info.samples)
    return pixels.reshape(shape)


def _jpeg(*processes: int, decode: Callable[[bytes, StreamInfo], BitPatterns]) -> Codec:
    return Codec(JPEG_BEGIN, lambda stream: read_jpeg_header(stream, frozenset(processes)), decode)


_SOF0, _SOF1, _SOF3, _SOF55 = 0xC0, 0xC1, 0xC3, 0xF7
_JPEG_2000 = Codec(J2K_BEGIN, read_j2k_header, _decode_with_openjpeg)

CODECS: dict[str, Codec] = {
    uid.JPEGBaseline8Bit: _jpeg(_SOF0, _SOF1, decode=_decode_with_pillow),
    uid.JPEGExtended12Bit: _jpeg(_SOF0, _SOF1, decode=_decode_with_jpeg8),
    uid.JPEGLossless: _jpeg(_SOF3, decode=_decode_with_jpeg8),
    uid.JPEGLosslessSV1: _jpeg(_SOF3, decode=_decode_with_jpeg8),
    uid.JPEGLSLossless: _jpeg(_SOF55, decode=_decode_with_jpegls),
    uid.JPEGLSNearLossless: _jpeg(_SOF55, decode=_decode_with_jpegls),
    uid.JPEG2000Lossless: _JPEG_2000,
    uid.JPEG2000: _JPEG_2000,
    uid.HTJ2KLossless: _JPEG_2000,
    uid.HTJ2KLosslessRPCL: _JPEG_2000,
    uid.HTJ2K: _JPEG_2000,
}
"""Codec of each compressed transfer syntax except RLE, whose streams do not contain their size."""

NATIVE_SYNTAXES = frozenset(
    {
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
        uid.DeflatedExplicitVRLittleEndian,
    }
)


def decode_rle_frame(stream: bytes, layout: Layout) -> BitPatterns:
    """Decode an RLE frame: PackBits segments, each a plane of bytes.

    pydicom's decoder gives the same result thirty times slower, and a small stream can exhaust the memory.

    Args:
        stream: RLE header and segments.
        layout: Layout of the pixels.

    Returns: Bit patterns, shape ``(rows, columns)`` or ``(rows, columns, samples)``.
    Raises: RadiographError: DECODE_ERROR or CONFLICTING_SIZE.
    """
    sample_bytes = layout.bits_allocated // 8
    segments = rle_segments(stream, layout.samples * sample_bytes)
    planes = np.stack([_unpack(segment, layout) for segment in segments], axis=-1)
    return planes.view(f">u{sample_bytes}").reshape(layout.shape)


def _unpack(segment: bytes, layout: Layout) -> NDArray[np.uint8]:
    """Decode a segment into a buffer of fixed size; less than a row of excess counts as padding."""
    pixels = layout.rows * layout.columns
    try:
        plane = imagecodecs.packbits_decode(segment, out=pixels + layout.columns - 1)
    except imagecodecs.PackbitsError as error:
        if "TOO_SMALL" in str(error):
            raise RadiographError(
                Reason.CONFLICTING_SIZE, "an RLE segment has more rows than told"
            ) from error
        raise RadiographError(Reason.DECODE_ERROR, "an RLE segment is damaged") from error
    if len(plane) < pixels:
        raise RadiographError(Reason.DECODE_ERROR, f"an RLE segment has {len(plane)} of {pixels} bytes")
    return np.frombuffer(plane, dtype=np.uint8, count=pixels)
