import numpy as np
import pytest

from pneumoseg.pipeline.scoring.examples import EXAMPLES, Example, choose_examples


def choose(*cases: tuple[int, int, float], each: int = 3) -> list[tuple[int, Example]]:
    """Choose among cases given as pixels of label and mask, and Dice."""
    true_px, pred_px, dice = zip(*cases, strict=True)
    return choose_examples(np.array(true_px), np.array(pred_px), np.array(dice), each=each)


def kinds(chosen: list[tuple[int, Example]]) -> dict[str, list[int]]:
    return {name: [place for place, kind in chosen if kind == name] for name in EXAMPLES}


# the places of best to worst: 1 6 3 8 4 ...
FOUND = [(100, 100, dice / 10) for dice in (1, 9, 3, 7, 5, 2, 8, 4, 6)]
QUIET = (0, 0, 1.0)


def test_best_median_and_worst_are_by_dice() -> None:
    found = kinds(choose(*FOUND))
    assert found["best"] == [1, 6, 3]
    assert found["worst"] == [0, 5, 2]
    assert sorted(found["median"]) == [4, 7, 8]  # of Dice 0.5, 0.4 and 0.6


def test_the_median_itself_comes_first_of_its_kind() -> None:
    assert kinds(choose(*FOUND, each=1))["median"] == [4]


def test_missed_are_those_with_the_largest_labels() -> None:
    found = kinds(choose((10, 0, 0.0), (300, 0, 0.0), (20, 0, 0.0), QUIET, each=2))
    assert found["missed"] == [1, 2]


def test_false_alarms_are_those_with_the_largest_masks() -> None:
    found = kinds(choose((0, 5, 0.0), (0, 500, 0.0), (0, 50, 0.0), QUIET, each=2))
    assert found["false alarm"] == [1, 2]


def test_what_is_rightly_negative_is_never_shown() -> None:
    assert choose(QUIET, QUIET) == []


def test_a_mask_that_lies_elsewhere_is_among_the_worst_and_not_missed() -> None:
    found = kinds(choose(*FOUND, (100, 100, 0.0), each=1))
    assert (found["worst"], found["missed"]) == ([9], [])


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, ["best"]),
        (2, ["best", "worst"]),
        (3, ["best", "median", "worst"]),
        (5, ["best", "median", "worst"]),
    ],
)
def test_a_handful_is_not_all_best_ones(count: int, expected: list[str]) -> None:
    assert [kind for _, kind in choose(*FOUND[:count])] == expected


@pytest.mark.parametrize("each", [1, 2, 3, 50])
def test_no_case_is_shown_twice(each: int) -> None:
    places = [place for place, _ in choose(*FOUND, (9, 0, 0.0), (0, 9, 0.0), each=each)]
    assert len(places) == len(set(places))


@pytest.mark.parametrize("each", [1, 2, 3])
def test_there_are_as_many_of_a_kind_as_are_asked_for(each: int) -> None:
    missed, alarms = [(9, 0, 0.0)] * 3, [(0, 9, 0.0)] * 3
    assert {len(places) for places in kinds(choose(*FOUND, *missed, *alarms, each=each)).values()} == {each}


def test_none_is_chosen_where_none_is_asked_for() -> None:
    assert choose(*FOUND, (9, 0, 0.0), (0, 9, 0.0), each=0) == []


def test_kinds_come_in_their_order() -> None:
    chosen = [kind for _, kind in choose((0, 9, 0.0), (9, 0, 0.0), *FOUND, each=1)]
    assert chosen == ["best", "median", "worst", "missed", "false alarm"]


def test_among_equals_the_first_is_taken() -> None:
    assert kinds(choose(*[(9, 0, 0.0)] * 3, each=1))["missed"] == [0]
