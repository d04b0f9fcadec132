"""Run-length encoding of masks in the format of the SIIM-ACR challenge.

A text is ``gap length gap length ...`` in pixels. A gap counts from the end of the previous run, the first one from 0,
and pixels are numbered down each column. ``-1`` denotes an empty mask.
"""

import re
from collections.abc import Sequence
from functools import cache
from operator import index
from typing import Any, Final, Literal, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pneumoseg.transforms.labels.runs import Runs, draw_lengths, draw_runs, find_runs, merge_runs
from pneumoseg.transforms.labels.text_table import UNKNOWN, LabelError

RLEErrorKind = Literal[
    "BAD_LENGTH", "BAD_MASK", "BAD_SHAPE", "CONFLICT", "EMPTY", "NEGATIVE_START", "NOT_INTEGER",
    "ODD_TOKENS", "PAST_END",
]  # fmt: skip

_EMPTY_MASK = re.compile(r"-1(\.0+)?")  # pandas and spreadsheets convert a column of -1 to floats
_BLANK = " \t\r\n"
_ONE_DIGIT: Final = np.uint16(ord("0") | ord(" ") << 8)
"""The bytes of ``0`` and a space, as a little-endian number."""
_LONG: Final = 2**13
"""Characters of a text from which on its numbers are read digit by digit, all at once."""
_MOST_DIGITS: Final = 18  # of any int64
_PLAIN = f"0123456789{_BLANK}".encode()
_TOKEN = re.compile(rf"[^{_BLANK}]+")
_INTEGER = re.compile(r"(-?[0-9]+)(?:\.0+)?")  # int() would accept `1_0` and digits of other scripts


class RLEError(LabelError[RLEErrorKind]):
    """Error of a run-length text or a mask."""


def decode_rle(rle: str | Sequence[str], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode the run-length text of an image into a mask.

    Args:
        rle: One text, or the texts of all rows of an image, which are decoded into their **union**. An empty sequence
            is an empty mask, like ``-1``; an empty text is an error.
        shape: Size of the image as ``(rows, columns)`` in pixels.

    Returns: Zeros and ones, shape ``(rows, columns)``, in Fortran order.

    Raises: RLEError: If the numbers are not pairs, a run leaves the image, or ``-1`` stands beside a mask.

    Source: Data description of the SIIM-ACR Pneumothorax Segmentation challenge, 2019.
    """
    texts = [rle] if isinstance(rle, str) else rle
    shape = _checked_shape(shape)
    if len(texts) == 1:
        return draw_lengths(_read_lengths(texts[0], shape), shape)
    parts = [parse_runs(text, shape) for text in texts]
    if len({len(part) > 0 for part in parts}) == 2:
        raise RLEError("CONFLICT", "one row says -1 and another contains a mask; which is right?")
    return draw_runs(merge_runs(parts), shape)


def encode_rle(mask: ArrayLike) -> str:
    """Encode a mask as run-length text, ``-1`` where it is empty.

    Args:
        mask: Mask of shape ``(rows, columns)``; True, or any number except 0, is inside. Floats must be 0 or one other
            value, so that probabilities are not mistaken for a mask.

    Returns: Run-length text.
    Raises: RLEError: If the mask is not two-dimensional, contains non-finite values, or is not a mask.
    """
    return format_runs(find_runs(_checked_mask(np.asarray(mask))))


def parse_runs(text: str, shape: tuple[int, int]) -> Runs:
    """Read a run-length text.

    Args:
        text: Run-length text.
        shape: Size of the image as ``(rows, columns)`` in pixels.

    Returns: Runs ``[start, stop)`` of shape (n, 2), in pixels from the top of the first column.

    Raises: RLEError: If the numbers are not pairs of integers, or a run leaves the image.
    """
    return np.cumsum(_read_lengths(text, shape)[:-1]).reshape(-1, 2)


def _read_lengths(text: str, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Read the lengths of gaps and runs from a text, none of ``-1``, and check them; the last gap is added."""
    pixels = shape[0] * shape[1]
    numbers = _parse_numbers(text)
    if numbers is None:
        return np.array([pixels])
    # a negative number is a huge one without its sign; no number above `pixels`: the sum cannot wrap
    if (
        numbers.size % 2 == 0
        or numbers.view(np.uint64).max() > pixels
        or (rest := pixels - int(numbers.sum())) < 0
        or np.count_nonzero(numbers[1::2]) * 2 < numbers.size - 1
    ):
        signed = np.minimum(numbers[:-1], np.iinfo(np.int64).max).astype(np.int64)
        _raise_invalid(text, signed, shape)
    numbers[-1] = rest
    return numbers.view(np.int64)


def _raise_invalid(text: str, numbers: NDArray[np.int64], shape: tuple[int, int]) -> NoReturn:
    """Raise the first error of numbers of which at least one is wrong."""
    if numbers.size == 1:
        raise RLEError("ODD_TOKENS", f"{text.strip()[:40]!r} is not a run; no pneumothorax is written -1")
    if numbers.size % 2:
        raise RLEError(
            "ODD_TOKENS", f"{numbers.size} numbers are not pairs of gap and length; is the row cut?"
        )
    gaps, lengths = numbers[::2], numbers[1::2]
    if gaps.min() < 0:
        raise RLEError(
            "NEGATIVE_START", f"a gap of {gaps.min()}; -1 means an empty mask only when it is alone"
        )
    if lengths.min() < 1:
        raise RLEError("BAD_LENGTH", f"a run of {lengths.min()} pixels; an empty mask is written -1")
    _raise_past_end(numbers, shape)


def format_runs(runs: Runs) -> str:
    """Write runs as run-length text.

    Args:
        runs: Runs of a mask, shape ``(n, 2)``.

    Returns: Run-length text; ``-1`` without runs.
    """
    if len(runs) == 0:
        return "-1"
    borders = runs.ravel()
    numbers = np.empty_like(borders)
    numbers[0] = borders[0]
    np.subtract(borders[1:], borders[:-1], out=numbers[1:])
    return _format_numbers(numbers)


def looks_absolute(text: str, shape: tuple[int, int]) -> bool:
    """Check whether a text is valid if its starts count from the first pixel, as in other challenges.

    Args:
        text: Run-length text.
        shape: Size of the image as ``(rows, columns)`` in pixels.
    """
    numbers = _parse_numbers(text)
    return numbers is not None and _fits_as_absolute(numbers[:-1], shape[0] * shape[1])


def _format_numbers(numbers: NDArray[np.int64]) -> str:
    """Write non-negative whole numbers, separated by spaces, without a loop over them."""
    largest = numbers.max()
    if largest < 10:
        return (numbers.astype("<u2") + _ONE_DIGIT).tobytes()[:-1].decode("ascii")
    if largest >= 10**7:
        return " ".join(map(str, numbers.tolist()))
    if largest < 1000:
        fields = _low_digits()[numbers]
    else:
        high, low = np.divmod(numbers, 1000)
        fields = np.stack([_high_digits()[high], _low_digits()[low + 1000 * (high > 0)]], axis=1)
    return fields.tobytes().translate(None, b"\0")[:-1].decode("ascii")


@cache
def _high_digits() -> NDArray[np.uint32]:
    """Make the digits of 0 to 9999 as four bytes, with NULs instead of leading zeros, also for 0."""
    return _digits(np.arange(10**4), places=4)


@cache
def _low_digits() -> NDArray[np.uint32]:
    """Make three digits and a space for 0 to 999, first with NULs instead of leading zeros, then with these zeros."""
    blank = _digits(np.arange(10**3), places=3)
    blank[0] = ord("0") << 16
    with_zeros = _digits(np.arange(10**3, 2 * 10**3), places=3)
    return np.concatenate([blank, with_zeros]) | np.uint32(ord(" ") << 24)


def _digits(numbers: NDArray[np.int64], *, places: int) -> NDArray[np.uint32]:
    """Write the last digits of numbers into bytes, the first one lowest; NULs stand for leading zeros."""
    words = np.zeros(numbers.size, dtype="<u4")
    for place in range(places):
        shifted = numbers // 10 ** (places - 1 - place)
        words |= np.where(shifted > 0, ord("0") + shifted % 10, 0).astype(np.uint32) << np.uint32(8 * place)
    return words


def _parse_numbers(text: str) -> NDArray[np.int64 | np.uint64] | None:
    """Read the numbers of a text and add a 0, in the place of the last gap; None for an empty mask."""
    text = text.strip(_BLANK)
    if len(text) % 2 and text[1:2] in {"", " "} and text.isascii():
        # anything but one digit is more than 9
        digits = np.frombuffer(f"{text} 0 ".encode(), dtype="<u2") - _ONE_DIGIT
        if digits.max() <= 9:
            return digits.astype(np.int64)
    is_plain = text.isascii() and not text.encode().translate(None, _PLAIN)
    if not text or not is_plain:
        if _EMPTY_MASK.fullmatch(text):
            return None
        if text.lower() in UNKNOWN:
            raise RLEError("EMPTY", f"{text!r} says nothing about the image; no pneumothorax is written -1")
        text = " ".join(_whole_number(token) for token in _TOKEN.findall(text))
    text += " 0"
    if len(text) > _LONG:
        blanks = np.flatnonzero(np.frombuffer(f" {text} ".encode(), dtype=np.uint8) < ord("0"))
        lengths = np.diff(blanks) - 1
        if lengths.min() > 0 and lengths.max() <= _MOST_DIGITS:
            return _parse_digits(text.encode(), blanks[1:] - 1, lengths)
    # a number beyond the type becomes its largest; reading without signs is faster
    return np.fromstring(text, dtype=np.uint64 if is_plain else np.int64, sep=" ")


def _parse_digits(text: bytes, stops: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Read the numbers that end before *stops*: all last digits first, then all digits before these, and so on."""
    digits = np.frombuffer(text, dtype=np.uint8) - ord("0")
    numbers = digits[stops - 1].astype(np.int64)
    for place in range(1, int(lengths.max())):
        longer = np.flatnonzero(lengths > place)
        numbers[longer] += digits[stops[longer] - 1 - place] * np.int64(10**place)
    return numbers


def _whole_number(token: str) -> str:
    match = _INTEGER.fullmatch(token)
    if match is None:
        raise RLEError(
            "NOT_INTEGER", f"{token[:40]!r} is not a whole number; the form is `gap length gap length ...`"
        )
    return match[1]


def _raise_past_end(numbers: NDArray[np.int64], shape: tuple[int, int]) -> NoReturn:
    rows, columns = shape
    start = stop = 0
    for gap, length in numbers.reshape(-1, 2).tolist():
        start, stop = stop + gap, stop + gap + length
        if stop > rows * columns:
            break
    hint = "is the shape (rows, columns) of the original image?"
    if _fits_as_absolute(numbers, rows * columns):
        hint = "do the starts count from the first pixel instead of the end of the previous run?"
    raise RLEError(
        "PAST_END", f"run [{start}, {stop}) leaves a {rows}x{columns} mask of {rows * columns} pixels; {hint}"
    )


def _fits_as_absolute(numbers: NDArray[np.int64 | np.uint64], pixels: int) -> bool:
    """Check whether at least two pairs of absolute start and length lie in the image in ascending order."""
    starts, lengths = numbers[::2], numbers[1::2]
    if starts.size < 2 or numbers.max() > pixels:
        return False
    stops = starts + lengths
    return bool((starts[1:] >= stops[:-1]).all() and stops[-1] <= pixels + 1)  # + 1: they count from 1


def _checked_shape(shape: Sequence[int]) -> tuple[int, int]:
    size = tuple(map(index, shape))
    if len(size) != 2 or min(size) < 1:
        raise RLEError("BAD_SHAPE", f"shape {size}; (rows, columns) of the original image would fit")
    return size


def _checked_mask(mask: NDArray[Any]) -> NDArray[np.bool_ | np.integer]:
    """Reject arrays that are not masks; convert floats to booleans."""
    if mask.ndim != 2:
        raise RLEError("BAD_MASK", f"a mask of shape {mask.shape}; (rows, columns) of one image would fit")
    if mask.dtype.kind in "biu":
        return mask
    if mask.dtype.kind != "f":
        raise RLEError("BAD_MASK", f"a mask of {mask.dtype}; booleans, integers or floats would fit")
    inside: NDArray[np.bool_] = mask != 0
    values = mask[inside]
    if not np.isfinite(values).all():
        raise RLEError("BAD_MASK", "a mask that holds NaN or infinity; which step before made them?")
    if values.size and values.min() != values.max():
        found = f"values from {values.min():g} to {values.max():g}"
        raise RLEError("BAD_MASK", f"a mask with {found}; probabilities need a threshold first")
    return inside
