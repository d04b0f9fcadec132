"""Conversion of stored integers to grey: modality transform, VOI transform, and one inversion.

A stored integer has at most 16 bits, so each rule is evaluated in float64 once for each possible integer, and the image
is looked up in that table. This is exact, fast, and the same for all rules. pydicom's `apply_modality_lut` and
`apply_voi_lut` compute the same but raise a TypeError for an empty item, overflow in 8 bits, and ignore padding.

Source: DICOM PS3.3, C.11.1 (Modality LUT), C.11.2 (VOI LUT), C.7.6.3.1.2 (MONOCHROME1),
C.7.5.1.1.2 (pixel padding), C.11.6 (presentation LUT shape).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pneumoseg.transforms.reader.frame import StoredPixels

Numbers = NDArray[np.float64]
_Entry = TypeVar("_Entry", bound=np.generic)

_BLOCK_PX = 2**20
DARKEST_PERCENT, BRIGHTEST_PERCENT = 0.5, 99.5  # window of an image without a VOI transform


@dataclass(frozen=True)
class Rescale:
    """Linear modality transform (C.11.1.1.2)."""

    slope: float = 1.0
    intercept: float = 0.0

    def __call__(self, x: Numbers, /) -> Numbers:
        """Rescale stored integers."""
        return x * self.slope + self.intercept


@dataclass(frozen=True, eq=False)
class LookupTable:
    """Modality or VOI transform by a table; numbers beyond its ends map to its end entries (C.11.1.1.1)."""

    first: int
    entries: Numbers

    def __call__(self, x: Numbers, /) -> Numbers:
        """Look up numbers."""
        positions = np.clip(np.floor(x) - self.first, 0, len(self.entries) - 1)
        entries: Numbers = self.entries[positions.astype(np.intp)]
        return entries

    def to_unit_range(self) -> "LookupTable":
        """Stretch the entries to [0, 1]; the bit depth that files declare for them is often wrong."""
        low, high = self.entries.min(), self.entries.max()
        return replace(self, entries=(self.entries - low) / (high - low))

    def separates(self, levels: tuple[float, float]) -> bool:
        """Check whether some modality values between the extreme *levels* of an image get different entries."""
        first, last = (int(np.clip(level - self.first, 0, len(self.entries) - 1)) for level in levels)
        return bool(np.ptp(self.entries[first : last + 1]) > 0)


class WindowFunction(StrEnum):
    """VOILUTFunction (0028,1056)."""

    LINEAR = "LINEAR"
    LINEAR_EXACT = "LINEAR_EXACT"
    SIGMOID = "SIGMOID"


@dataclass(frozen=True)
class Window:
    """VOI transform by a window, to [0, 1] (C.11.2.1.2 and C.11.2.1.3)."""

    center: float
    width: float
    function: WindowFunction = WindowFunction.LINEAR

    def __call__(self, x: Numbers, /) -> Numbers:
        """Map modality values to [0, 1]."""
        if self.function is WindowFunction.SIGMOID:
            return 0.5 + 0.5 * np.tanh(2 * (x - self.center) / self.width)  # 1 / (1 + exp(-4 u)), no overflow
        center, width = self.center, self.width
        if self.function is WindowFunction.LINEAR:
            center, width = center - 0.5, width - 1
        return np.clip((x - center) / width + 0.5, 0, 1)

    def separates(self, levels: tuple[float, float]) -> bool:
        """Check whether the window shows more than black and white of the range *levels* of modality values."""
        low, high = self.center - self.width / 2, self.center + self.width / 2
        narrowest = 1.0  # a window of this width gives black and white only
        if self.function is not WindowFunction.LINEAR:  # these may be defined for fractions
            narrowest = min(1.0, (levels[1] - levels[0]) / 128)
        if not (np.isfinite(low) and np.isfinite(high) and self.width > narrowest):
            return False
        return levels[0] == levels[1] or (low < levels[1] and high > levels[0])


@dataclass(frozen=True, kw_only=True)
class GreyScale:
    """Transforms of one file's stored integers, shape ``(rows, columns)``, to modality values and to an image.

    Attributes:
        bits_stored: Number of significant bits.
        modality: Transform of stored integers to modality values.
        voi: Transform of modality values to [0, 1]; None for a window over most values of the image that is displayed.
        monochrome1: Whether low stored integers are bright.
        inverse: Whether PresentationLUTShape is INVERSE.
        padding: First and last stored integer that denote pixels outside of the image; None without padding.
    """

    bits_stored: int = 8
    modality: Rescale | LookupTable = Rescale()
    voi: Window | LookupTable | None = None
    monochrome1: bool = False
    inverse: bool = False
    padding: tuple[int, int] | None = None

    @property
    def inverted(self) -> bool:
        """Whether high integers are dark; MONOCHROME1 and INVERSE together invert only once."""
        return self.monochrome1 or self.inverse

    def values(self, stored: StoredPixels) -> NDArray[np.float32]:
        """Compute modality values in MONOCHROME2 sense: stored integers are inverted, then transformed.

        Args:
            stored: Stored integers, shape ``(rows, columns)``.
        """
        integers = _all_integers(stored.dtype)
        if self.inverted:
            highest = -1 if stored.dtype.kind == "i" else 2**self.bits_stored - 1
            integers = highest - integers
        with np.errstate(over="ignore"):  # integers beyond BitsStored are in the table, not in the image
            return _look_up(self.modality(integers).astype(np.float32), stored)

    def image(self, stored: StoredPixels) -> NDArray[np.float32]:
        """Compute greys in [0, 1]: the VOI transform applies to modality values before the inversion.

        Args:
            stored: Stored integers, shape ``(rows, columns)``.
        """
        return _look_up(self._greys(stored).astype(np.float32), stored)

    def levels(self, stored: StoredPixels) -> NDArray[np.uint8]:
        """Compute the greys of `image`, rounded to multiples of 1/255, as numbers from 0 to 255."""
        return _look_up(np.rint(self._greys(stored) * 255).astype(np.uint8), stored)

    def _greys(self, stored: StoredPixels) -> Numbers:
        """Compute the grey of every integer that the container can hold."""
        integers = _all_integers(stored.dtype)
        values, is_padding = self.modality(integers), self._is_padding(integers)
        voi = self.voi or _percentiles(stored, values, ~is_padding)
        grey = voi(values)
        if self.inverted:
            grey = 1 - grey
        grey[is_padding] = 0
        return grey

    def fitted(self, stored: StoredPixels) -> "GreyScale":
        """Fix the VOI transform: where the file has none, a window over most of the image's values.

        A part of the image is then displayed as in the whole.

        Args:
            stored: Stored integers of the whole image, shape ``(rows, columns)``.
        """
        if self.voi is not None:
            return self
        integers = _all_integers(stored.dtype)
        window = _percentiles(stored, self.modality(integers), ~self._is_padding(integers))
        return replace(self, voi=window)

    def _is_padding(self, integers: Numbers) -> NDArray[np.bool_]:
        first, last = self.padding or (np.inf, -np.inf)
        return (integers >= first) & (integers <= last)


def _all_integers(dtype: np.dtype[np.integer]) -> Numbers:
    """List all integers that a container can hold, in the order of their bit patterns."""
    patterns = np.arange(2 ** (8 * dtype.itemsize), dtype=f"u{dtype.itemsize}")
    return patterns.view(dtype).astype(np.float64)


def _look_up(table: NDArray[_Entry], stored: StoredPixels) -> NDArray[_Entry]:
    if table.itemsize == stored.itemsize == 1:  # in half the time of `take`
        looked_up = bytearray(stored).translate(table.tobytes())
        return np.frombuffer(looked_up, dtype=table.dtype).reshape(stored.shape)
    grey = np.empty(stored.shape, dtype=table.dtype)
    for rows, patterns in _blocks(stored):
        table.take(patterns, out=grey[rows], mode="wrap")  # no index wraps; this is the fastest mode
    return grey


def _percentiles(stored: StoredPixels, levels: Numbers, counted: NDArray[np.bool_]) -> Window:
    """Make a window from the percentiles of the image."""
    if stored.dtype.itemsize == 1:  # Pillow takes a third of the time of NumPy
        pixels = stored.view(np.uint8)
        if stored.shape[1] % 4 == 0:  # as four bands, so that equal neighbours have counters of their own
            pixels = pixels.reshape(len(stored), -1, 4)
        counts = np.array(Image.fromarray(pixels).histogram()).reshape(-1, 256).sum(axis=0)
    else:
        blocks = (patterns.ravel() for _, patterns in _blocks(stored))
        counts = np.sum([np.bincount(block, minlength=len(levels)) for block in blocks], axis=0)
    used = np.flatnonzero(counts * counted)
    if used.size == 0:  # the image consists of padding
        used = np.flatnonzero(counts)
    used = used[np.argsort(levels[used], kind="stable")]
    shares = np.cumsum(counts[used]) / counts[used].sum()
    ends = np.searchsorted(shares, [DARKEST_PERCENT / 100, BRIGHTEST_PERCENT / 100])
    low, high = levels[used[ends]].tolist()
    if low == high:  # almost constant: use the full range
        low, high = levels[used[[0, -1]]].tolist()
    width = (high - low) or 1.0  # a constant image is black at any width
    return Window(low + width / 2, width, WindowFunction.LINEAR_EXACT)


def _blocks(stored: StoredPixels) -> Iterator[tuple[slice, StoredPixels]]:
    """Divide bit patterns, which count from 0, into blocks of rows, since NumPy widens indices to 8 bytes per pixel."""
    patterns = stored.view(f"u{stored.dtype.itemsize}")
    step = max(1, _BLOCK_PX // stored.shape[1])
    for begin in range(0, len(stored), step):
        rows = slice(begin, begin + step)
        yield rows, patterns[rows]
