import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from pneumoseg.pipeline.scoring.intervals import Measured, PatientBootstrap
from pneumoseg.pipeline.scoring.statistics import (
    auc_of,
    average_precision_of,
    calibration_error_of,
    difference_of,
    mean_of,
)

VALUES = np.random.default_rng(7).random(60)
ALONE = [f"patient{number:02}" for number in range(60)]


def test_where_every_patient_has_one_image_the_interval_is_that_of_scipy() -> None:
    expected = stats.bootstrap(
        (VALUES,), np.mean, n_resamples=3000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    found = PatientBootstrap(ALONE, resamples=3000, seed=5).measure({"mean": mean_of(VALUES)})["mean"]
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_resamples_do_not_depend_on_how_many_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = PatientBootstrap(ALONE, resamples=500).measure({"mean": mean_of(VALUES)})
    monkeypatch.setattr("pneumoseg.pipeline.scoring.intervals.CHUNK", 60 * 7)
    parts = PatientBootstrap(ALONE, resamples=500).measure({"mean": mean_of(VALUES)})
    assert (parts["mean"].low, parts["mean"].high) == pytest.approx((whole["mean"].low, whole["mean"].high))


def test_a_clustered_case_by_hand() -> None:
    """Two patients: a has the values 0 and 1, b has 4. They are drawn as aa, ab, ba, bb with the same chance."""
    means = {("a", "a"): 0.5, ("a", "b"): 5 / 3, ("b", "a"): 5 / 3, ("b", "b"): 4.0}
    bootstrap = PatientBootstrap(["a", "b", "a"], resamples=4000, fewest=2)
    drawn = bootstrap.distributions({"mean": mean_of([0.0, 4.0, 1.0])})["mean"]
    assert np.unique(drawn.round(9)).tolist() == sorted({round(value, 9) for value in means.values()})
    assert np.mean(drawn) == pytest.approx(np.mean(list(means.values())), abs=0.06)
    found = bootstrap.measure({"mean": mean_of([0.0, 4.0, 1.0], limits=None)})["mean"]
    assert found.value == pytest.approx(5 / 3)
    assert (found.low, found.high) == (0.5, 4.0)


def test_all_images_of_a_patient_come_together() -> None:
    for weights in PatientBootstrap(["a", "b", "a", "c", "b"], resamples=50).weights():
        np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
        np.testing.assert_array_equal(weights[:, 1], weights[:, 4])
        np.testing.assert_array_equal(weights[:, [0, 1, 3]].sum(axis=1), 3)


def test_images_that_are_copies_of_one_another_make_nothing_surer() -> None:
    alone = PatientBootstrap(ALONE).measure({"mean": mean_of(VALUES)})["mean"]
    copied = PatientBootstrap(ALONE * 5).measure({"mean": mean_of(np.tile(VALUES, 5))})["mean"]
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high))


def test_a_statistic_without_a_value_has_no_interval() -> None:
    found = PatientBootstrap(["a", "b"]).measure({"auc": auc_of([0.1, 0.2], [True, True])})
    assert found == {"auc": Measured(None)}


@pytest.mark.parametrize("patients", [1, 9, 10])
def test_fewer_than_ten_patients_have_no_interval_however_many_images_they_have(patients: int) -> None:
    groups = [f"patient{number % patients}" for number in range(60)]
    statistics = {"mean": mean_of(VALUES), "auc": auc_of(VALUES, np.arange(60) % 7 < 3)}
    for name, found in PatientBootstrap(groups).measure(statistics).items():
        assert found.value is not None
        assert (found.low is None) == (found.high is None) == (patients < 10), name


def test_only_patients_that_count_for_a_score_are_counted() -> None:
    nine, ten = np.arange(60) < 9, np.arange(60) < 10
    statistics = {
        "mean of nine": mean_of(VALUES, nine),
        "mean of ten": mean_of(VALUES, ten),
        "positives": auc_of(VALUES, nine),
        "negatives": auc_of(VALUES, ~nine),
        "precision": average_precision_of(VALUES, nine),
        "either": difference_of(mean_of(VALUES, ten), mean_of(VALUES, nine)),
    }
    found = PatientBootstrap(ALONE).measure(statistics)
    assert [name for name, each in found.items() if each.low is not None] == ["mean of ten"]


def test_resamples_without_a_positive_are_left_out() -> None:
    bootstrap = PatientBootstrap(["a", "b", "c"])
    statistic = mean_of([1.0, 0.0, 0.0], [True, False, False])
    assert set(bootstrap.distributions({"mean": statistic})["mean"].tolist()) == {1.0}


@pytest.mark.parametrize("share", [0, 1])
def test_the_interval_of_a_share_of_none_or_all_is_that_of_clopper_and_pearson(share: int) -> None:
    expected = stats.binomtest(60 * share, 60).proportion_ci(method="exact")
    found = PatientBootstrap(ALONE).measure({"share": mean_of(np.full(60, float(share)))})["share"]
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("ones", "count"), [(19, 20), (43, 44), (150, 151), (1, 44), (5, 10)])
def test_the_interval_of_a_share_is_not_narrower_than_that_of_clopper_and_pearson(
    ones: int, count: int
) -> None:
    exact = stats.binomtest(ones, count).proportion_ci(0.95, method="exact")
    values = np.arange(count) < ones
    found = PatientBootstrap([str(number) for number in range(count)]).measure({"share": mean_of(values)})[
        "share"
    ]
    assert found.low is not None
    assert found.high is not None
    assert found.low <= exact.low + 1e-9
    assert found.high >= exact.high - 1e-9


def test_a_share_that_shows_one_miss_is_not_surer_than_one_that_shows_none() -> None:
    groups = [str(number) for number in range(20)]
    none, one = (
        PatientBootstrap(groups).measure({"share": mean_of(np.arange(20) >= misses)})["share"]
        for misses in (0, 1)
    )
    assert none.low is not None
    assert one.low is not None
    assert one.low < none.low


def test_images_of_the_same_patients_leave_the_exact_interval_of_a_share_that_of_the_patients() -> None:
    groups, values = [str(number) for number in range(44)] * 3, np.tile(np.arange(44) < 43, 3)
    exact = stats.binomtest(43, 44).proportion_ci(0.95, method="exact")
    found = PatientBootstrap(groups).measure({"share": mean_of(values)})["share"]
    assert found.low == pytest.approx(exact.low)


def test_patients_and_not_their_images_narrow_an_interval_of_equal_values() -> None:
    found = [PatientBootstrap(ALONE * n).measure({"share": mean_of(np.ones(60 * n))}) for n in (1, 5)]
    assert found[0] == found[1]


def test_an_area_under_the_curve_of_one_is_bounded_by_the_rarer_kind() -> None:
    expected = stats.binomtest(12, 12).proportion_ci(method="exact")
    positive = np.arange(60) < 12
    found = PatientBootstrap(ALONE).measure({"auc": auc_of(positive, positive)})["auc"]
    assert found.value == found.high == 1.0
    assert found.low == pytest.approx(expected.low, abs=1e-12)


def test_equal_values_without_limits_have_no_interval() -> None:
    found = PatientBootstrap(ALONE).measure({"area": mean_of(np.zeros(60), limits=None)})
    assert found == {"area": Measured(0.0)}


def test_the_same_model_twice_differs_by_nothing_as_far_as_its_patients_show() -> None:
    found = PatientBootstrap(ALONE).compare({"m": mean_of(VALUES)}, {"m": mean_of(VALUES)})["m"]
    most = stats.binomtest(0, 60).proportion_ci(method="exact").high  # of patients that differ, by 1 at most
    assert found.value == 0.0
    assert (found.low, found.high) == pytest.approx((-most, most), abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("mean", [0.1, 0.5, 0.75, 0.97])
def test_intervals_of_shares_of_ten_patients_cover_the_true_one_as_often_as_they_say(mean: float) -> None:
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        values = (random.random(10) < mean).astype(np.float64)
        found = PatientBootstrap(ALONE[:10], resamples=1000).measure({"share": mean_of(values)})["share"]
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= mean <= found.high
    assert covered >= 0.93 * 400


def test_the_paired_interval_is_that_of_scipy_on_the_differences() -> None:
    other = VALUES + np.random.default_rng(3).normal(0.02, 0.1, 60)
    expected = stats.bootstrap(
        (other - VALUES,), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    found = PatientBootstrap(ALONE, resamples=2000).compare({"m": mean_of(other)}, {"m": mean_of(VALUES)})[
        "m"
    ]
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_the_interval_of_what_chance_makes_larger_is_the_basic_one_of_scipy(seed: int) -> None:
    random = np.random.default_rng(seed)
    probabilities = random.random(60)
    positive = random.random(60) < probabilities**2
    error = calibration_error_of(probabilities, positive)

    def value(chosen: NDArray[np.int64], axis: int) -> NDArray[np.float64]:
        weights = np.apply_along_axis(np.bincount, axis, chosen, minlength=60)
        return error.compute(np.atleast_2d(weights).astype(np.float64)).reshape(chosen.shape[:-1])

    expected = stats.bootstrap(
        (np.arange(60),), value, n_resamples=2000, method="basic", rng=np.random.default_rng(3)
    ).confidence_interval
    found = PatientBootstrap(ALONE, seed=3).measure({"e": error}, too_high=["e"])["e"]
    assert found.low == pytest.approx(max(0, expected.low), abs=1e-12)
    assert found.high == pytest.approx(expected.high, abs=1e-12)


def test_what_every_resample_makes_larger_lies_at_the_end_of_its_interval() -> None:
    """Half of these are positive, as their probability says; in a resample that is never quite so."""
    probabilities, positive = np.full(1001, 0.5), np.arange(1001) % 2 == 0
    bootstrap = PatientBootstrap([f"p{number}" for number in range(1001)], resamples=200)
    error = {"e": calibration_error_of(probabilities, positive)}
    plain, found = bootstrap.measure(error)["e"], bootstrap.measure(error, too_high=["e"])["e"]
    assert found.value == pytest.approx(0.5 / 1001)
    assert (found.low, found.high) == (0.0, found.value)
    assert plain.low is not None
    assert plain.low >= 0.5 / 1001
