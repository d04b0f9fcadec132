"""Conversion of stored integers to grey: modality transform, VOI transform, and one inversion.

A stored integer has at most 16 bits, so each rule is evaluated in float64 once for each possible integer, and the image
is looked up in that table. This is exact, fast, and the same for all rules.

Source: DICOM PS3.3, C.11.1 (Modality LUT), C.11.2 (VOI LUT), C.7.6.3.1.2 (MONOCHROME1),
C.7.5.1.1.2 (pixel padding), C.11.6 (presentation LUT shape).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer[Any]]
Numbers = NDArray[np.float64]

_BLOCK_PX = 2**20
DARKEST_PERCENT, BRIGHTEST_PERCENT = 0.5, 99.5  # window of an image without a VOI transform


class Curve(Protocol):
    """Rule that is applied to each number."""

    def __call__(self, x: Numbers, /) -> Numbers:
        """Apply the rule."""


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

    @property
    def reach(self) -> tuple[float, float]:
        """Range of the modality values that the window does not clip."""
        return self.center - self.width / 2, self.center + self.width / 2


@dataclass(frozen=True, kw_only=True)
class GreyScale:
    """Transforms of one file's stored integers to modality values and to an image.

    Attributes:
        bits_stored: Number of significant bits.
        modality: Transform of stored integers to modality values.
        voi: Transform of modality values to [0, 1]; None where the file has no usable one.
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

    def values(self, stored: Integers) -> NDArray[np.float32]:
        """Compute modality values in MONOCHROME2 sense: stored integers are inverted, then transformed.

        Args:
            stored: Stored integers, shape ``(rows, columns)``.
        """
        if self.modality == Rescale() and not self.inverted:
            return stored.astype(np.float32)
        integers = _all_integers(stored.dtype)
        if self.inverted:
            highest = -1 if stored.dtype.kind == "i" else 2**self.bits_stored - 1
            integers = highest - integers
        return _look_up(self.modality(integers), stored)

    def image(self, stored: Integers) -> NDArray[np.float32]:
        """Compute greys in [0, 1]: the VOI transform applies to modality values before the inversion.

        Args:
            stored: Stored integers, shape ``(rows, columns)``.
        """
        integers = _all_integers(stored.dtype)
        levels = self.modality(integers)
        is_padding = np.zeros(len(integers), dtype=bool)
        if self.padding is not None:
            is_padding = (integers >= self.padding[0]) & (integers <= self.padding[1])
        voi = self.voi or _percentiles(stored, levels, ~is_padding)
        grey = voi(levels)
        if self.inverted:
            grey = 1 - grey
        grey[is_padding] = 0
        return _look_up(grey, stored)


def levels_between(modality: Curve, stored: Integers) -> tuple[float, float]:
    """Find the lowest and highest modality value between the extreme integers of an image.

    Args:
        modality: Modality transform.
        stored: Stored integers, shape ``(rows, columns)``.
    """
    levels = modality(np.arange(int(stored.min()), int(stored.max()) + 1, dtype=np.float64))
    return float(levels.min()), float(levels.max())


def _all_integers(dtype: np.dtype[np.integer]) -> Numbers:
    """List all integers that a container can hold, in the order of their bit patterns."""
    patterns = np.arange(2 ** (8 * dtype.itemsize), dtype=f"u{dtype.itemsize}")
    return patterns.view(dtype).astype(np.float64)


def _look_up(table: Numbers, stored: Integers) -> NDArray[np.float32]:
    patterns = _patterns(stored)
    grey = np.empty(stored.shape, dtype=np.float32)
    with np.errstate(over="ignore"):  # integers beyond BitsStored are in the table, not in the image
        entries = table.astype(np.float32)
    for rows in _blocks(stored):
        entries.take(patterns[rows], out=grey[rows], mode="wrap")  # no index wraps; this is the fastest mode
    return grey


def _percentiles(stored: Integers, levels: Numbers, counted: NDArray[np.bool_]) -> Window:
    """Make a window from the percentiles of the image."""
    patterns = _patterns(stored)
    counts = np.zeros(len(levels), dtype=np.intp)
    for rows in _blocks(stored):
        counts += np.bincount(patterns[rows].ravel(), minlength=len(levels))
    used = np.flatnonzero(counts * counted)
    if used.size == 0:  # the image consists of padding
        used = np.flatnonzero(counts)
    used = used[np.argsort(levels[used], kind="stable")]
    shares = np.cumsum(counts[used]) / counts[used].sum()
    low = levels[used[np.searchsorted(shares, DARKEST_PERCENT / 100)]]
    high = levels[used[np.searchsorted(shares, BRIGHTEST_PERCENT / 100)]]
    if low == high:  # almost constant: use the full range
        low, high = levels[used[0]], levels[used[-1]]
    if low == high:  # constant: any width shows it black
        return Window(low + 0.5, 1.0, WindowFunction.LINEAR_EXACT)
    return Window((low + high) / 2, high - low, WindowFunction.LINEAR_EXACT)


def _patterns(stored: Integers) -> NDArray[np.unsignedinteger[Any]]:
    """View stored integers as bit patterns, which count from 0."""
    return stored.view(f"u{stored.dtype.itemsize}")


def _blocks(stored: Integers) -> Iterator[slice]:
    """Divide an image into blocks of rows, since NumPy widens indices to 8 bytes per pixel."""
    step = max(1, _BLOCK_PX // stored.shape[1])
    return (slice(begin, begin + step) for begin in range(0, stored.shape[0], step))
