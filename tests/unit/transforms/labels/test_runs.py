import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from pneumoseg.transforms.labels.runs import (
    NO_RUNS,
    Runs,
    area_px,
    draw_runs,
    find_runs,
    merge_runs,
    overlap_px,
)

quick = settings(max_examples=200, derandomize=True, deadline=None, database=None)
masks = arrays(np.bool_, (6, 5))


def runs(*pairs: tuple[int, int]) -> Runs:
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def test_overlapping_and_touching_runs_become_one() -> None:
    merged = merge_runs([runs((2, 5), (8, 9)), runs((4, 7)), runs((9, 12))])
    assert merged.tolist() == [[2, 7], [8, 12]]


def test_a_run_inside_a_longer_one_does_not_cut_it() -> None:
    assert merge_runs([runs((0, 10)), runs((2, 3), (5, 6))]).tolist() == [[0, 10]]


@pytest.mark.parametrize("parts", [[], [NO_RUNS], [NO_RUNS, NO_RUNS]])
def test_nothing_merged_is_nothing(parts: list[Runs]) -> None:
    assert merge_runs(parts).shape == (0, 2)


def test_area_is_the_sum_of_lengths() -> None:
    assert area_px(runs((2, 5), (8, 9))) == 4
    assert area_px(NO_RUNS) == 0


def test_overlap_of_2_to_5_and_8_to_9_by_hand() -> None:
    table: list[tuple[Runs, int]] = [
        (runs((0, 2)), 0),
        (runs((0, 3)), 1),
        (runs((3, 4)), 1),
        (runs((0, 20)), 4),
        (runs((4, 9)), 2),
        (runs((5, 8)), 0),
        (runs((9, 20)), 0),
        (NO_RUNS, 0),
    ]
    for others, shared in table:
        one = runs((2, 5), (8, 9))
        assert overlap_px(one, others) == shared
        assert overlap_px(others, one) == shared


def test_a_full_mask_is_one_run() -> None:
    for order in ["C", "F"]:
        for shape in [(1, 1), (1, 5), (5, 1), (4, 3)]:
            full = np.asarray(np.ones(shape, dtype=np.bool_), order=order)  # type: ignore[call-overload]
            assert find_runs(full).tolist() == [[0, shape[0] * shape[1]]]


@pytest.mark.parametrize(("columns", "first"), [(7, 3), (8, 4), (9, 5), (40, 14)])
def test_a_small_area_has_one_run_in_each_column_for_any_width_type_and_order(
    columns: int, first: int
) -> None:
    mask = np.zeros((300, columns), dtype=np.int16)
    # any value except 0 is inside, whatever its lowest byte
    mask[120:150, first : first + 4] = [
        1,
        2,
        256,
        -1,
    ]
    expected = [[300 * column + 120, 300 * column + 150] for column in range(first, first + 4)]
    strided = np.repeat(mask, 2, axis=1)[:, ::2]
    for each in (mask, mask != 0, np.asfortranarray(mask), strided):
        assert find_runs(each).tolist() == expected


@quick
@given(st.lists(masks, min_size=1, max_size=4))
def test_merging_runs_is_the_union_of_pixels(parts: list[NDArray[np.bool_]]) -> None:
    merged = merge_runs([find_runs(part) for part in parts])
    assert (draw_runs(merged, (6, 5)) == np.logical_or.reduce(parts)).all()
    assert merged.tolist() == find_runs(np.logical_or.reduce(parts)).tolist()


@quick
@given(masks, masks)
def test_overlap_and_area_are_counts_of_pixels(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> None:
    assert area_px(find_runs(one)) == one.sum()
    assert overlap_px(find_runs(one), find_runs(other)) == (one & other).sum()
