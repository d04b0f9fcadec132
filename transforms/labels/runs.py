"""Runs of pixels: a mask as sorted intervals of pixels that are numbered down each column.

An array of runs has the shape ``(n, 2)``: each row is one run ``[start, stop)``, in pixels from the top of the first
column. The runs are sorted and do not overlap. Areas and overlaps are computed without decoding a mask.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Runs = NDArray[np.int64]

_WORD: Final = 8  # pixels, and bytes of a uint64
_MANY: Final = 16
"""With borders in more than one of so many words, sorting takes longer than a transposed copy."""
_STRIP: Final = 32
NO_RUNS: Runs = np.empty((0, 2), dtype=np.int64)


def draw_runs(runs: Runs, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Convert runs to a mask of zeros and ones.

    Args:
        runs: Runs of the mask, shape ``(n, 2)``.
        shape: Size of the mask as ``(rows, columns)`` in pixels.

    Returns: Mask of shape ``(rows, columns)``, in Fortran order, which is the order of the runs.
    """
    return draw_lengths(np.diff(runs.ravel(), prepend=0, append=shape[0] * shape[1]), shape)


def draw_lengths(lengths: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Convert alternating lengths of gaps and runs to a mask of zeros and ones.

    Args:
        lengths: Length of each gap and of the run that follows it in pixels, and of the gap up to the last pixel, shape
            ``(2 n + 1,)``.
        shape: Size of the mask as ``(rows, columns)`` in pixels.

    Returns: Mask of shape ``(rows, columns)``, in Fortran order.
    """
    stripes = np.frombuffer(b"\0\1" * (lengths.size // 2) + b"\0", dtype=np.uint8)
    return stripes.repeat(lengths).reshape(shape[::-1]).T


def find_runs(mask: NDArray[np.bool_ | np.integer]) -> Runs:
    """Find the runs of a mask.

    The search is limited to the bounding rows or columns of the mask. In C order each row is compared with the row
    above, eight pixels at once, and the borders are sorted; that takes a tenth of the time of comparing neighbours in a
    transposed copy, unless the borders are many.

    Args:
        mask: Mask of shape ``(rows, columns)``; any value except 0 is inside.

    Returns: Runs, shape ``(n, 2)``.
    """
    in_run_order = mask.flags.f_contiguous  # as `draw_runs` makes it
    lines = mask.T if in_run_order else mask
    whole_words = lines.flags.c_contiguous and lines.shape[1] * lines.itemsize % _WORD == 0
    filled = np.flatnonzero(np.bitwise_or.reduce(lines.view(np.uint64) if whole_words else lines, axis=1))
    if filled.size == 0:
        return NO_RUNS
    first, last = int(filled[0]), int(filled[-1])
    if not in_run_order:
        return _runs_of_rows(mask, first, last)
    flat = lines[first : last + 1].astype(np.bool_, copy=False).ravel()
    changes = np.empty(flat.size + 1, dtype=np.bool_)
    changes[0], changes[-1] = flat[0], flat[-1]
    np.not_equal(flat[1:], flat[:-1], out=changes[1:-1])
    borders: Runs = np.flatnonzero(changes)
    borders += first * len(mask)
    return borders.reshape(-1, 2)


def _runs_of_rows(mask: NDArray[np.bool_ | np.integer], first: int, last: int) -> Runs:
    """Find the runs of a mask in C order that has pixels in the rows from *first* to *last*."""
    rows, columns = mask.shape
    width = -(-columns // _WORD)
    box = np.zeros((last - first + 3, width * _WORD), dtype=np.bool_)  # with an empty row above and below
    box[1:-1, :columns] = mask[first : last + 1]
    words = box.view(np.uint64)
    places = np.flatnonzero(words[1:] != words[:-1])
    if places.size > words.size // _MANY:
        return find_runs(_in_run_order(mask))
    words = words.ravel()
    changes = (words[places] ^ words[places + width]).view(np.bool_).reshape(-1, _WORD)
    index, byte = np.nonzero(changes)
    row, word = np.divmod(places[index], width)
    borders = np.sort((word * _WORD + byte) * rows + row + first)
    if last - first + 1 == rows:  # a run that ends where the next column starts one is one run
        differs = np.concatenate([[True], borders[1:] != borders[:-1], [True]])
        borders = borders[differs[1:] & differs[:-1]]
    return borders.reshape(-1, 2)


def _in_run_order(mask: NDArray[np.bool_ | np.integer]) -> NDArray[np.bool_]:
    """Copy a mask to Fortran order in strips of rows, which takes a third of the time of `np.asfortranarray`."""
    inside = mask.astype(np.bool_, copy=False)
    copy = np.empty(mask.shape, dtype=np.bool_, order="F")
    for begin in range(0, len(mask), _STRIP):
        copy[begin : begin + _STRIP] = inside[begin : begin + _STRIP]
    return copy


def merge_runs(parts: Sequence[Runs]) -> Runs:
    """Compute the union of masks; overlapping and adjacent runs are merged.

    Args:
        parts: Runs of each mask, shape ``(n, 2)``.
    """
    if len(parts) == 1:
        return parts[0]
    runs = np.concatenate([NO_RUNS, *parts])
    if len(runs) == 0:
        return NO_RUNS
    runs = runs[np.argsort(runs[:, 0], kind="stable")]
    reach = np.maximum.accumulate(runs[:, 1])
    is_first = np.concatenate([[True], runs[1:, 0] > reach[:-1]])
    is_last = np.concatenate([is_first[1:], [True]])
    return np.stack([runs[is_first, 0], reach[is_last]], axis=1)


def area_px(runs: Runs) -> int:
    """Count the pixels of a mask.

    Args:
        runs: Runs of the mask, shape ``(n, 2)``.
    """
    return int((runs[:, 1] - runs[:, 0]).sum())


def overlap_px(runs: Runs, others: Runs) -> int:
    """Count the pixels that two masks share.

    Args:
        runs: Runs of the first mask, shape ``(n, 2)``.
        others: Runs of the second mask, shape ``(m, 2)``.
    """
    if len(runs) == 0 or len(others) == 0:
        return 0
    before = np.concatenate([[0], np.cumsum(others[:, 1] - others[:, 0])])  # pixels before each of `others`
    index = np.searchsorted(others[:, 0], runs, side="right")
    last = np.maximum(index - 1, 0)
    covered = before[last] + np.clip(runs - others[last, 0], 0, others[last, 1] - others[last, 0])
    return int((covered[:, 1] - covered[:, 0]).sum())
