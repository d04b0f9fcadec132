from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import average_precision_score, precision_score, roc_auc_score

from pneumoseg.pipeline.scoring.paired_test import p_values
from pneumoseg.pipeline.scoring.statistics import Statistic, auc_of, average_precision_of, mean_of

Floats = NDArray[np.float64]
RANDOM = np.random.default_rng(11)
GROUPS = ["a", "b", "a", "c", "d", "e", "e", "f"]
POSITIVE = np.array([1, 0, 1, 0, 1, 0, 0, 1], dtype=np.bool_)
FIRST = np.array([0.9, 0.2, 0.7, 0.3, 0.8, 0.5, 0.1, 0.6])
SECOND = np.array([0.3, 0.4, 0.8, 0.6, 0.5, 0.2, 0.7, 0.5])


def of(first: Floats, second: Floats, groups: list[str], **options: int) -> float | None:
    return p_values(groups, {"m": mean_of(np.r_[first, second])}, **options)["m"]


def alone(count: int) -> list[str]:
    return [f"patient{number}" for number in range(count)]


def test_all_swaps_of_a_few_patients_are_those_of_scipy() -> None:
    for shift in [0.0, 0.2, 0.6]:
        for count in [3, 6, 10]:
            first = RANDOM.normal(shift, 1, count).round(1)
            second = RANDOM.normal(0, 1, count).round(1)
            expected = stats.permutation_test(
                (first, second),
                lambda x, y: np.mean(x) - np.mean(y),
                permutation_type="samples",
                n_resamples=np.inf,
            ).pvalue
            assert of(first, second, alone(count)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.3])
def test_drawn_swaps_are_near_to_those_of_scipy(shift: float) -> None:
    first, second = RANDOM.normal(shift, 1, 80), RANDOM.normal(0, 1, 80)
    expected = stats.permutation_test(
        (first, second),
        lambda x, y: np.mean(x) - np.mean(y),
        permutation_type="samples",
        n_resamples=5000,
        rng=np.random.default_rng(0),
    ).pvalue
    assert of(first, second, alone(80), resamples=5000) == pytest.approx(expected, abs=0.025)


def brute_force(groups: list[str], difference: Callable[[Floats, Floats], Any]) -> float:
    """By swapping the numbers themselves."""
    found, count = abs(difference(FIRST, SECOND)), 0
    names = sorted(set(groups))
    for swaps in product((False, True), repeat=len(names)):
        swap = np.array([dict(zip(names, swaps, strict=True))[group] for group in groups])
        one, other = np.where(swap, SECOND, FIRST), np.where(swap, FIRST, SECOND)
        count += bool(abs(difference(one, other)) >= found - 1e-12)
    return float(count / 2 ** len(names))


TWICE = np.r_[POSITIVE, POSITIVE]
SCORES = np.r_[FIRST, SECOND]
OTHERS: dict[str, tuple[Statistic, Callable[[Floats], Any]]] = {
    "auc": (auc_of(SCORES, TWICE), lambda scores: roc_auc_score(POSITIVE, scores)),
    "average precision": (
        average_precision_of(SCORES, TWICE),
        lambda scores: average_precision_score(POSITIVE, scores),
    ),
    "precision": (
        mean_of(TWICE, SCORES > 0.45),
        lambda scores: precision_score(POSITIVE, scores > 0.45),
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_numbers_that_are_no_means_are_worked_out_anew_in_each_swap(name: str) -> None:
    statistic, value = OTHERS[name]
    expected = brute_force(GROUPS, lambda one, other: value(one) - value(other))
    assert p_values(GROUPS, {"n": statistic})["n"] == pytest.approx(expected, abs=1e-12)
    assert 0 < expected < 1


def test_two_patients_are_no_proof_of_anything() -> None:
    """The four swaps of the two have the differences 1, 0, 0 and -1."""
    assert of(np.ones(2), np.zeros(2), ["a", "b"]) == 0.5
    assert of(np.ones(40), np.zeros(40), ["a"] * 20 + ["b"] * 20) == 0.5


def test_two_patients_of_many_that_differ_are_no_proof_of_anything() -> None:
    first = np.r_[np.ones(2), np.full(198, 0.5)]
    second = np.r_[np.zeros(2), np.full(198, 0.5)]
    assert of(first, second, alone(200)) == pytest.approx(0.5, abs=0.05)


def test_models_that_do_not_differ_have_the_p_value_1() -> None:
    values = RANDOM.random(60)
    assert of(values, values, alone(60)) == 1.0
    assert of(values[:4], values[:4], alone(4)) == 1.0


def test_a_p_value_of_drawn_swaps_is_never_0() -> None:
    assert of(np.ones(50), np.zeros(50), alone(50), resamples=999) == 1 / 1000


def test_a_statistic_that_one_model_has_no_value_of_is_not_tested() -> None:
    positive = np.array([True, False, True, False])
    assert p_values(["a", "b"], {"auc": auc_of(np.zeros(4), positive & [True, True, False, False])}) == {
        "auc": None
    }


def test_the_swaps_do_not_depend_on_how_many_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = RANDOM.normal(0.2, 1, 50), RANDOM.normal(0, 1, 50)
    whole = of(first, second, alone(50))
    monkeypatch.setattr("pneumoseg.pipeline.scoring.paired_test.CHUNK", 700)
    assert of(first, second, alone(50)) == whole
