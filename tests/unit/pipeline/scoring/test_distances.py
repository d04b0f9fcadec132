import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist

from pneumoseg.pipeline.scoring.distances import TOLERANCE_MM, outline_distances

SHAPE = (40, 30)


def block(top: int, left: int, rows: int, columns: int) -> NDArray[np.uint8]:
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[top : top + rows, left : left + columns] = 1
    return mask


def by_scipy(
    pred: NDArray[np.uint8], true: NDArray[np.uint8], spacing: tuple[float, float]
) -> tuple[float, float]:
    """All distances between all points of the outlines: pixels that touch the outside at a side."""
    outlines = [np.argwhere((mask > 0) & ~binary_erosion(mask > 0)) * spacing for mask in (pred, true)]
    between = cdist(*outlines)
    to_true, to_pred = between.min(axis=1), between.min(axis=0)
    near = (to_true <= TOLERANCE_MM).sum() + (to_pred <= TOLERANCE_MM).sum()
    return near / (len(to_true) + len(to_pred)), max(np.percentile(to_true, 95), np.percentile(to_pred, 95))


@given(
    pred=st.tuples(st.integers(0, 25), st.integers(0, 18), st.integers(2, 15), st.integers(2, 12)),
    true=st.tuples(st.integers(0, 25), st.integers(0, 18), st.integers(2, 15), st.integers(2, 12)),
    spacing=st.sampled_from([(0.5, 0.5), (1.0, 0.25), (0.143, 0.143)]),
)
@settings(deadline=None, max_examples=40)
def test_distances_are_those_of_scipy(
    pred: tuple[int, int, int, int], true: tuple[int, int, int, int], spacing: tuple[float, float]
) -> None:
    found = outline_distances(block(*pred), block(*true), spacing)
    assert found == pytest.approx(by_scipy(block(*pred), block(*true), spacing), abs=1e-5)


def test_a_mask_that_is_right_is_at_no_distance() -> None:
    assert outline_distances(block(5, 5, 9, 9), block(5, 5, 9, 9), (1.0, 1.0)) == (1.0, 0.0)


def test_a_block_beside_its_place_is_as_far_off_as_it_is_shifted() -> None:
    """By ten rows of half a millimetre: 5 mm from one end to the other, and no outline is near."""
    dice, distance = outline_distances(block(2, 5, 4, 9), block(12, 5, 4, 9), (0.5, 2.0))
    assert distance == pytest.approx(5.0)
    assert dice == 0.0


@pytest.mark.parametrize(("pred", "true"), [(0, 0), (0, 1), (1, 0)])
def test_where_a_mask_is_empty_there_is_no_distance(pred: int, true: int) -> None:
    masks = [block(5, 5, 9, 9) * np.uint8(each) for each in (pred, true)]
    assert np.isnan(outline_distances(masks[0], masks[1], (1.0, 1.0))).all()


def test_without_a_spacing_there_is_no_distance() -> None:
    assert np.isnan(outline_distances(block(5, 5, 9, 9), block(5, 5, 9, 9), None)).all()


def test_one_pixel_has_an_outline() -> None:
    assert outline_distances(block(5, 5, 1, 1), block(5, 9, 1, 1), (1.0, 1.0)) == (0.0, 4.0)


def test_distances_at_the_border_of_the_image_are_as_elsewhere() -> None:
    at_border = outline_distances(block(0, 0, 10, 5), block(3, 0, 10, 5), (1.0, 1.0))
    assert at_border == outline_distances(block(10, 10, 10, 5), block(13, 10, 10, 5), (1.0, 1.0))
