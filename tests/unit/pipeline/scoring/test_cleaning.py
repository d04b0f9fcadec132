import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import remove_small_objects

from pneumoseg.pipeline.scoring.cleaning import count_cleaned
from pneumoseg.transforms.masks import clean

Bools = NDArray[np.bool_]


def drawn(*rows: str) -> Bools:
    return np.array([[cell == "#" for cell in row] for row in rows])


def random_masks(seed: int, count: int = 8) -> list[Bools]:
    """Of many shapes, from specks to one blob with holes."""
    random = np.random.default_rng(seed)
    masks = []
    for _ in range(count):
        noise = ndimage.gaussian_filter(random.normal(size=random.integers(1, 30, 2)), random.uniform(0, 1.5))
        masks.append(noise > np.quantile(noise, random.random()))
    return masks


def counts_of(mask: Bools, label: Bools, least: int) -> list[list[int]]:
    """By scikit-image and scipy."""
    kept = remove_small_objects(mask, max_size=least, connectivity=2)
    if not kept.any():
        components, _ = ndimage.label(mask, np.ones((3, 3)))
        areas = np.bincount(components[components > 0], minlength=1)
        kept = np.isin(components, np.flatnonzero(areas == areas.max())) & mask
    return [[int(each.sum()), int((each & label).sum())] for each in (kept, ndimage.binary_fill_holes(kept))]


def test_counts_are_those_of_the_cleaned_masks() -> None:
    for seed in range(40):
        masks, random = random_masks(seed), np.random.default_rng(seed)
        labels = [random.random(mask.shape) < 0.3 for mask in masks]
        least = np.sort(random.integers(0, 40, (len(masks), 5)), axis=1)
        found = count_cleaned(masks, labels, least)
        for mask, label, each, counts in zip(masks, labels, least.tolist(), found, strict=True):
            assert counts.tolist() == [counts_of(mask, label, px) for px in each]
            for px, (_, (area, _)) in zip(each, counts, strict=True):
                assert area == clean(mask, min_component_px=px, fill_holes=True).sum()


def test_what_lies_in_a_hole_is_filled_with_it_whether_it_is_dropped_or_not() -> None:
    mask = drawn(
        "#######....",
        "#.....#.##.",
        "#.###.##.#.",  # the bow is of the large ring
        "#.#.#.#.##.",
        "#.###.#....",
        "#.....#.##.",
        "#######.#..",
    )
    [[all_of_it, without_three]] = count_cleaned([mask], [mask], [[0, 8]])
    ring, inner, small, specks = 24, 8, 6, 3
    holes, small_hole = 5 * 5 - inner, 1
    assert all_of_it.tolist() == [
        [ring + inner + small + specks] * 2,
        [ring + inner + holes + small + small_hole + specks, ring + inner + small + specks],
    ]
    assert without_three.tolist() == [[ring + small] * 2, [49 + small + small_hole, ring + small + inner]]


def test_an_empty_mask_stays_empty_among_others() -> None:
    empty, full = np.zeros((3, 5), dtype=np.bool_), np.ones((4, 2), dtype=np.bool_)
    found = count_cleaned([empty, full, empty], [empty, full, empty], [[0], [100], [0]])
    assert found.tolist() == [[[[0, 0]] * 2], [[[8, 8]] * 2], [[[0, 0]] * 2]]
