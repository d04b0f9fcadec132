"""Layout of the pixels from a DICOM header: the Image Pixel module, read and checked.

Source: DICOM PS3.3 C.7.6.3.1.
"""

from dataclasses import dataclass

from pneumoseg.transforms.reader.acceptance import show
from pneumoseg.transforms.reader.elements import Elements
from pneumoseg.transforms.reader.reasons import RadiographError, Reason

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
        return (self.rows, self.columns) if self.samples == 1 else (self.rows, self.columns, self.samples)

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
