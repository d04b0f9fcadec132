"""Conversion of the pixel data of a file to stored integers: the layout by the header, size checks, then decoding.

Source: DICOM PS3.3 C.7.6.3.1 (Image Pixel module), PS3.5 8 (pixel encoding) and Annex A.4 (encapsulation).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import uid

from pneumoseg.transforms.reader.acceptance import show
from pneumoseg.transforms.reader.decoders import (
    CODECS,
    J2K_BEGIN,
    JPEG_BEGIN,
    NATIVE_SYNTAXES,
    BitPatterns,
    StreamInfo,
    decode_rle_frame,
)
from pneumoseg.transforms.reader.dicom_file import DicomFile
from pneumoseg.transforms.reader.elements import Elements
from pneumoseg.transforms.reader.reasons import RadiographError, Reason, Warnings
from pneumoseg.transforms.reader.scan import PixelElement, pixel_items

GREY = ("MONOCHROME1", "MONOCHROME2")
RGB = ("RGB", "YBR_RCT", "YBR_ICT")  # the JPEG 2000 decoder converts the latter two to RGB
YBR = ("YBR_FULL", "YBR_FULL_422")

_NUMBERS = (
    "SamplesPerPixel",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)
LAYOUT_KEYWORDS = (*_NUMBERS, "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Size, bit depth and interpretation of the pixels of one frame."""

    photometric: str
    samples: int
    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    planar: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the decoded frame: ``(rows, columns)`` or ``(rows, columns, samples)``."""
        return self.container.shape

    @property
    def container(self) -> StreamInfo:
        """Size of the frame, with all allocated bits."""
        return StreamInfo(self.rows, self.columns, self.samples, self.bits_allocated)

    @property
    def integers(self) -> NDArray[np.float64]:
        """All integers that BitsStored bits can hold, in ascending order."""
        low = -(2 ** (self.bits_stored - 1)) if self.signed else 0
        return np.arange(low, low + 2**self.bits_stored, dtype=np.float64)

    @property
    def row_bytes(self) -> int:
        """Size of one uncompressed row in bytes."""
        return self.columns * self.samples * self.bits_allocated // 8

    @property
    def frame_bytes(self) -> int:
        """Size of the uncompressed frame in bytes."""
        return self.rows * self.row_bytes


def read_layout(elements: Elements) -> Layout:
    """Read the layout of the pixels, and refuse unsupported and contradictory ones.

    Args:
        elements: Elements of the data set.

    Raises:
        RadiographError: MISSING_TAG, BAD_HEADER, MULTIFRAME or UNSUPPORTED_PIXEL.
    """
    photometric = elements.code("PhotometricInterpretation")
    if not photometric:
        raise RadiographError(Reason.MISSING_TAG, "PhotometricInterpretation is missing")
    try:
        numbers = {keyword: elements.unsigned(keyword) for keyword in _NUMBERS}
        planar = elements.unsigned("PlanarConfiguration") == 1
        frames = elements.decimals("NumberOfFrames")
    except ValueError as error:
        raise RadiographError(
            Reason.BAD_HEADER, "an element that describes the pixels is not a number"
        ) from error
    for keyword, number in numbers.items():
        if number is None:
            raise RadiographError(Reason.MISSING_TAG, f"{keyword} is missing")
    samples, rows, columns, *bits = (number or 0 for number in numbers.values())
    _check_frames(frames)
    _check_samples(photometric, samples)
    _check_bits(*bits)
    if rows == 0 or columns == 0:
        raise RadiographError(Reason.BAD_HEADER, f"{rows} rows and {columns} columns")
    allocated, stored, high_bit, representation = bits
    return Layout(
        photometric=photometric,
        samples=samples,
        rows=rows,
        columns=columns,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high_bit,
        signed=representation == 1,
        planar=planar,
    )


def _check_frames(frames: list[float] | None) -> None:
    number = frames[0] if frames else 1
    if number > 1:
        raise RadiographError(Reason.MULTIFRAME, f"NumberOfFrames is {number:.0f}")
    if number not in {0, 1}:  # 0 denotes an unknown number; NaN and fractions are refused
        raise RadiographError(Reason.BAD_HEADER, "NumberOfFrames is not a count")


def _check_samples(photometric: str, samples: int) -> None:
    if samples not in {1, 3}:
        raise RadiographError(Reason.BAD_HEADER, f"SamplesPerPixel is {samples}, not 1 or 3")
    if photometric not in (*GREY, *RGB, *YBR):
        raise RadiographError(
            Reason.UNSUPPORTED_PIXEL, f"PhotometricInterpretation is {show(photometric)}, not MONOCHROME"
        )
    if (samples == 1) != (photometric in GREY):
        raise RadiographError(Reason.BAD_HEADER, f"{samples} samples per pixel cannot be {photometric}")


def _check_bits(allocated: int, stored: int, high_bit: int, representation: int) -> None:
    if allocated in {1, 32}:
        raise RadiographError(Reason.UNSUPPORTED_PIXEL, f"BitsAllocated is {allocated}, not 8 or 16")
    if allocated not in {8, 16}:
        raise RadiographError(Reason.BAD_HEADER, f"BitsAllocated is {allocated}, not 8 or 16")
    if not 1 <= stored <= allocated or not stored - 1 <= high_bit < allocated:
        raise RadiographError(
            Reason.BAD_HEADER,
            f"BitsAllocated {allocated}, BitsStored {stored} and HighBit {high_bit} do not fit together",
        )
    if representation not in {0, 1}:
        raise RadiographError(Reason.BAD_HEADER, f"PixelRepresentation is {representation}, not 0 or 1")


StoredPixels = NDArray[np.integer[Any]]


def read_frame(file: DicomFile, pixels: PixelElement, layout: Layout, warnings: Warnings) -> StoredPixels:
    """Read the stored integers of the only frame.

    Args:
        file: DICOM file with a parsed header.
        pixels: Position of the pixels.
        layout: Layout of the pixels.
        warnings: List to which warnings are added.

    Returns: Grey integers of BitsStored bits in a container of BitsAllocated bits, shape ``(rows, columns)``.
    Raises: RadiographError: UNSUPPORTED_TRANSFER_SYNTAX, TRUNCATED, CONFLICTING_SIZE, DECODE_ERROR, ...
    """
    syntax = file.transfer_syntax or (uid.ExplicitVRLittleEndian if pixels.length is not None else "")
    precision = None
    if syntax in NATIVE_SYNTAXES:
        patterns = _native_patterns(file, pixels, layout, warnings)
    elif syntax == uid.RLELossless:
        patterns = decode_rle_frame(_only_stream(file.body, pixels), layout.container)
    elif syntax in CODECS:
        patterns, precision = _decode(syntax, _only_stream(file.body, pixels), layout)
    else:
        found = f"transfer syntax {show(syntax)}" if syntax else "compressed pixels, and no transfer syntax"
        raise RadiographError(Reason.UNSUPPORTED_TRANSFER_SYNTAX, found)
    if layout.samples == 3:
        patterns = _only_grey(patterns, layout)
        warnings.append((Reason.COLOUR_TO_GREY, f"stored as {layout.photometric}"))
    return _stored_integers(patterns, layout, precision)


def _native_patterns(
    file: DicomFile, pixels: PixelElement, layout: Layout, warnings: Warnings
) -> BitPatterns:
    """View the bytes of an uncompressed frame as bit patterns, without a copy."""
    if pixels.length is None:
        raise RadiographError(
            Reason.CONFLICTING_SIZE, "the pixels are compressed, and the transfer syntax is not"
        )
    if layout.photometric == "YBR_FULL_422":
        raise RadiographError(Reason.UNSUPPORTED_PIXEL, "uncompressed YBR_FULL_422")
    value = memoryview(file.body)[pixels.position : pixels.position + pixels.length]
    needed = layout.frame_bytes
    if len(value) < max(needed, pixels.length):
        raise RadiographError(
            Reason.TRUNCATED, f"{len(value)} of {max(needed, pixels.length)} bytes of pixels are there"
        )
    _check_rest(value[needed:], layout, warnings)
    order = "<" if file.little_endian else ">"
    if not file.little_endian and layout.bits_allocated == 8 and pixels.words:
        words = np.frombuffer(value[: needed + needed % 2], dtype="<u2")
        frame = words.byteswap().view("u1")[:needed]  # PS3.5 A.3: OW travels as words, two pixels in each
    else:
        frame = np.frombuffer(value[:needed], dtype=f"{order}u{layout.bits_allocated // 8}")
    if layout.samples == 3 and layout.planar:
        return frame.reshape(3, layout.rows, layout.columns).transpose(1, 2, 0)
    return frame.reshape(layout.shape)


def _check_rest(rest: memoryview, layout: Layout, warnings: Warnings) -> None:
    """Distinguish padding from pixels that the header does not describe."""
    if len(rest) <= 1:  # one byte of padding makes the length even
        return
    blank = not np.frombuffer(rest, dtype=np.uint8).any()
    if len(rest) >= layout.frame_bytes or (not blank and len(rest) >= layout.row_bytes):
        raise RadiographError(
            Reason.CONFLICTING_SIZE,
            f"{layout.frame_bytes} bytes of pixels are described, {len(rest)} more are there",
        )
    warnings.append((Reason.TRAILING_BYTES, f"{len(rest)} bytes follow the pixels"))


def _decode(syntax: str, stream: bytes, layout: Layout) -> tuple[BitPatterns, int]:
    """Check the stream against the header, then decode it; return bit patterns and the stream's precision."""
    codec = CODECS[syntax]
    stream = stream[max(stream.find(codec.begin), 0) :]  # some writers keep the JP2 container around it
    info = codec.inspect(stream)
    _check_stream(info, layout)
    try:
        patterns = codec.decode(stream, info)
    except MemoryError:
        raise
    except Exception as error:
        raise RadiographError(Reason.DECODE_ERROR, f"the decoder gave up ({type(error).__name__})") from error
    if patterns.shape != layout.shape or patterns.dtype.kind != "u" or patterns.dtype.itemsize > 2:
        raise RadiographError(
            Reason.CONFLICTING_SIZE, f"decoded to {patterns.shape} {patterns.dtype}, not {layout.shape}"
        )
    return patterns, info.precision


def _check_stream(info: StreamInfo, layout: Layout) -> None:
    """Compare the stream's own header with the file's before memory is allocated."""
    if (info.rows, info.columns, info.samples) != (layout.rows, layout.columns, layout.samples):
        raise RadiographError(
            Reason.CONFLICTING_SIZE,
            f"header {layout.rows} x {layout.columns} x {layout.samples}, "
            f"stream {info.rows} x {info.columns} x {info.samples}",
        )
    if info.precision > layout.bits_allocated:
        raise RadiographError(
            Reason.CONFLICTING_SIZE,
            f"the stream holds {info.precision} bits, BitsAllocated is {layout.bits_allocated}",
        )
    if layout.high_bit != layout.bits_stored - 1 and info.precision != layout.bits_allocated:
        raise RadiographError(
            Reason.UNSUPPORTED_PIXEL, f"HighBit is {layout.high_bit} in a stream of {info.precision} bits"
        )


def _only_stream(body: bytes, pixels: PixelElement) -> bytes:
    """Join the fragments of the only frame.

    Raises:
        RadiographError: TRUNCATED, DECODE_ERROR, or MULTIFRAME where they begin several streams.
    """
    fragments = list(pixel_items(body, pixels))[1:]  # the first is the offset table
    if not any(fragments):
        raise RadiographError(Reason.DECODE_ERROR, "there is no compressed stream")
    begins = (JPEG_BEGIN, J2K_BEGIN)
    starts = sum(bytes(fragment[: len(begin)]) == begin for fragment in fragments for begin in begins)
    if starts > 1:
        raise RadiographError(Reason.MULTIFRAME, f"{starts} compressed streams for one frame")
    return b"".join(fragments)


def _only_grey(patterns: BitPatterns, layout: Layout) -> BitPatterns:
    """Extract the grey channel of colour pixels without colour.

    Its channels are equal, or those of the colours neutral; the former also in YBR, since a decoder converts a stream
    that an Adobe marker declares to be YCbCr.
    """
    first, second, third = (patterns[..., channel] for channel in range(3))
    neutral = layout.photometric in YBR and (second == 1 << (layout.bits_stored - 1)).all()
    if not (second == third).all() or not (neutral or (first == second).all()):
        raise RadiographError(Reason.UNSUPPORTED_PIXEL, "the image has colours")
    return np.ascontiguousarray(first)


def _stored_integers(patterns: BitPatterns, layout: Layout, precision: int | None) -> StoredPixels:
    """Extract the stored bits of bit patterns in a container of BitsAllocated bits.

    Args:
        patterns: Bit patterns of native pixels or of a decoder.
        layout: Layout of the pixels.
        precision: Bits of a compressed stream's samples; None for native pixels, whose other bits may contain other
            data, such as an overlay.
    """
    container = np.dtype(f"u{layout.bits_allocated // 8}")
    patterns = patterns.astype(container, copy=False)  # also to the native byte order
    unused = layout.high_bit + 1 - layout.bits_stored
    if unused:
        patterns = np.right_shift(patterns, unused)
    if precision is None or precision == layout.bits_stored:
        return _cut(patterns, layout.bits_stored, signed=layout.signed)
    stored = _cut(patterns, min(precision, layout.bits_stored), signed=layout.signed)
    if not np.array_equal(stored, _cut(patterns, precision - unused, signed=layout.signed)):
        raise RadiographError(
            Reason.CONFLICTING_SIZE, f"the stream uses more than the {layout.bits_stored} bits of BitsStored"
        )
    return stored


def _cut(patterns: BitPatterns, bits: int, *, signed: bool) -> StoredPixels:
    """Keep the lowest *bits*, with sign extension for signed integers."""
    spare = 8 * patterns.dtype.itemsize - bits
    if not signed:
        return patterns & ((1 << bits) - 1) if spare else patterns
    integers: StoredPixels = patterns.view(f"i{patterns.dtype.itemsize}")
    return (integers << spare) >> spare if spare else integers
