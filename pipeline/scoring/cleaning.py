"""What cleaning leaves of masks, counted for all smallest components at once, on runs of pixels instead of masks.

The components of a mask and those of its background form a tree: what surrounds a component is its parent. Filling the
holes of a component takes in all that is below it. So one look at a mask tells what every cleaning of it would have.

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
    """Count what `masks.clean` would leave of each mask.

    Args:
        masks: Each of shape ``(rows, columns)``.
        labels: Of the same shapes.
        min_components_px: For each mask, smallest components to try, shape ``(masks, smallest)``: those of no more
            pixels are dropped, but never the largest of a mask.

    Returns: Pixels, and pixels in the label, of shape ``(masks, smallest, 2, 2)``; the third axis says whether holes
        are filled.
    """
    # one below the other, with background around each: so they share the outermost component, and nothing else
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
    for number, least_px in enumerate(np.transpose(min_components_px)):
        least = np.minimum(least_px, np.maximum(largest - 1, 0))[mask_of]
        stays = area > least
        outermost = stays & (largest_above <= least)  # what lies in a hole is filled with it
        for axis in range(2):
            for holes, values in enumerate((own[axis] * stays, filled[axis] * outermost)):
                counts[:, number, holes, axis] = np.bincount(mask_of, values, minlength=len(masks))
    return counts


def _framed(mask: Bools, width: int) -> Bools:
    """A mask with background around it, in rows of *width* pixels, as one row."""
    framed = np.zeros((mask.shape[0] + 2, width), dtype=np.bool_)
    framed[1:-1, 1 : mask.shape[1] + 1] = mask
    return framed.ravel()


def _tree(flat: Bools, inside: Bools, width: int) -> tuple[Counts, Bools, Counts, Counts]:
    """The components of a mask and its background, by the first pixel of each; 0 is what is outside.

    Returns: The parent of each, 0 for 0 itself; whether it is of the mask; its first pixel; and its pixels and those of
        them that are *inside*, of shape ``(2, components)``.
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
    # a pixel above the topmost run of a component is of what surrounds it
    above = np.maximum(starts[topmost] - width, 0)
    parent = component[np.searchsorted(starts, above, side="right") - 1]
    shared = np.add.reduceat(inside, starts, dtype=np.int64)
    own = np.stack([np.bincount(component, each) for each in (stops - starts, shared)]).astype(np.int64)
    return parent, topmost % 2 == 1, starts[topmost], own


def _touching(starts: Counts, stops: Counts, width: int, *, corners: bool) -> Counts:
    """Which runs touch which of the row above: pairs of shape ``(2, pairs)``."""
    low = np.searchsorted(stops, starts - width + (not corners), side="left")
    high = np.searchsorted(starts, stops - width - (not corners), side="right")
    counts = np.maximum(high - low, 0)
    first = np.repeat(np.arange(len(starts)), counts)
    within = np.arange(len(first)) - np.repeat(counts.cumsum() - counts, counts)
    return np.stack([first, np.repeat(low, counts) + within])
