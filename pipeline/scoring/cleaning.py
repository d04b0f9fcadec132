"""Pixel counts of cleaned masks for all minimum component sizes at once, computed on runs of pixels.

The components of a mask and of its background form a tree: the parent of a component surrounds it. Filling the holes of
a component adds all components below it. One pass over a mask therefore gives the counts of every cleaning.

Source: Rosenfeld, Digital topology, Am Math Monthly 1979; touching corners connect the mask, and not its background.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

Counts = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def count_cleaned(
    masks: Sequence[Bools], labels: Sequence[Bools], min_components_px: npt.ArrayLike
) -> Counts:
    """Count the pixels that `masks.clean` leaves of each mask.

    Args:
        masks: Masks, each of shape ``(rows, columns)``.
        labels: True masks of the same shapes.
        min_components_px: Minimum component sizes of each mask in pixels, shape ``(masks, sizes)``: components that do
            not exceed the size are dropped, but never the largest of a mask.

    Returns: Pixels, and pixels in the label (last axis), shape ``(masks, sizes, 2, 2)``; the third axis is 1 where
        holes are filled.
    """
    # stacked vertically with background around each, so that they share only the outermost component
    width = 2 + max(mask.shape[1] for mask in masks)
    flat, inside = (np.concatenate([_framed(each, width) for each in many]) for many in (masks, labels))
    ends = np.cumsum([(mask.shape[0] + 2) * width for mask in masks])
    parent, is_mask, topmost, own = _tree(flat, inside, width)

    area = np.where(is_mask, own[0], 0)
    filled, largest_above = own.copy(), np.zeros_like(area)
    above = parent
    while above.any():
        filled += [np.bincount(above, each, minlength=len(parent)).astype(np.int64) for each in own]
        np.maximum(largest_above, area[above], out=largest_above)
        above = parent[above]

    mask_of = np.searchsorted(ends, topmost, side="right")
    largest = np.zeros(len(masks), dtype=np.int64)
    np.maximum.at(largest, mask_of, area)
    counts = np.empty((*np.shape(min_components_px), 2, 2), dtype=np.int64)
    for index, least_px in enumerate(np.transpose(min_components_px)):
        least = np.minimum(least_px, np.maximum(largest - 1, 0))[mask_of]
        stays = area > least
        outermost = stays & (largest_above <= least)  # what lies in a hole is filled with it
        for axis in range(2):
            for holes, values in enumerate((own[axis] * stays, filled[axis] * outermost)):
                counts[:, index, holes, axis] = np.bincount(mask_of, values, minlength=len(masks))
    return counts


def _framed(mask: Bools, width: int) -> Bools:
    """Pad a mask with background to rows of *width* pixels, and flatten it."""
    framed = np.zeros((mask.shape[0] + 2, width), dtype=np.bool_)
    framed[1:-1, 1 : mask.shape[1] + 1] = mask
    return framed.ravel()


def _tree(flat: Bools, inside: Bools, width: int) -> tuple[Counts, Bools, Counts, Counts]:
    """Label the components of a mask and its background in the order of their first pixels; 0 is the outside.

    Returns: The parent of each component, 0 for 0 itself; whether it belongs to the mask; its first pixel; and its
        numbers of pixels and of pixels *inside*, shape ``(2, components)``.
    """
    starts = np.r_[0, np.flatnonzero(flat[1:] != flat[:-1]) + 1]  # of runs: background and mask in turn
    stops = np.r_[starts[1:], flat.size]
    first, second = np.concatenate(
        [
            2 * _touching(starts[::2], stops[::2], width, corners=False),
            2 * _touching(starts[1::2], stops[1::2], width, corners=True) + 1,
        ],
        axis=1,
    )
    graph = csr_array((np.ones(len(first), dtype=np.bool_), (first, second)), shape=2 * (len(starts),))
    _, component = connected_components(graph, directed=False)
    _, topmost, component = np.unique(component, return_index=True, return_inverse=True)
    # the pixel above the topmost run of a component belongs to the surrounding component
    above = np.maximum(starts[topmost] - width, 0)
    parent = component[np.searchsorted(starts, above, side="right") - 1]
    shared = np.add.reduceat(inside, starts, dtype=np.int64)
    own = np.stack([np.bincount(component, each) for each in (stops - starts, shared)]).astype(np.int64)
    return parent, topmost % 2 == 1, starts[topmost], own


def _touching(starts: Counts, stops: Counts, width: int, *, corners: bool) -> Counts:
    """Find the runs that touch runs of the row above; pairs of indices, shape ``(2, pairs)``."""
    low = np.searchsorted(stops, starts - width + (not corners), side="left")
    high = np.searchsorted(starts, stops - width - (not corners), side="right")
    counts = np.maximum(high - low, 0)
    first = np.repeat(np.arange(len(starts)), counts)
    within = np.arange(len(first)) - np.repeat(counts.cumsum() - counts, counts)
    return np.stack([first, np.repeat(low, counts) + within])
