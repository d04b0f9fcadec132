import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import expit, logit

from pneumoseg.pipeline.scoring.calibration import calibrate
from pneumoseg.pipeline.scoring.platt import cross_fitted_probabilities, fit_calibration

Floats = npt.NDArray[np.float64]


def drawn(slope: float, intercept: float, images: int = 20_000) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Probabilities, and labels drawn by their logits times the slope plus the intercept."""
    random = np.random.default_rng(0)
    shown = expit(random.normal(-1, 2, images))
    return shown, random.random(images) < expit(slope * logit(shown) + intercept)


@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (0.4, -1.5), (2.5, 1)])
def test_the_numbers_that_were_put_in_are_found(slope: float, intercept: float) -> None:
    found = fit_calibration(*drawn(slope, intercept))
    assert found is not None
    assert found.slope == pytest.approx(slope, rel=0.06)
    assert found.intercept == pytest.approx(intercept, abs=0.06)


def test_the_mean_calibrated_probability_is_the_share_of_positives() -> None:
    """The likelihood is highest there: the derivative by the intercept is zero."""
    shown, positive = drawn(0.4, -1.5, 500)
    assert calibrate(shown, fit_calibration(shown, positive)).mean() == pytest.approx(
        positive.mean(), abs=1e-4
    )


@pytest.mark.parametrize(
    ("probabilities", "positive"),
    [([0.2, 0.4], [False, False]), ([0.2, 0.4], [True, True]), ([0.9, 0.1], [False, True])],
)
def test_one_class_or_a_reversed_order_gives_no_calibration(
    probabilities: list[float], positive: list[bool]
) -> None:
    assert fit_calibration(probabilities, positive) is None


def test_classes_that_do_not_overlap_and_certain_probabilities_give_finite_numbers() -> None:
    found = fit_calibration([0.0, 0.1, 0.9, 1.0], [False, False, True, True])
    assert found is not None
    assert np.isfinite([found.slope, found.intercept]).all()


def test_an_image_is_calibrated_without_its_inner_fold() -> None:
    shown, positive = drawn(0.4, -1.5, 60)
    folds = np.arange(60) % 3
    found = cross_fitted_probabilities(shown, positive, folds)
    for fold in range(3):
        fitted = fit_calibration(shown[folds != fold], positive[folds != fold])
        np.testing.assert_array_equal(found[folds == fold], calibrate(shown[folds == fold], fitted))


def test_where_no_other_inner_fold_is_left_probabilities_stay() -> None:
    shown, positive = drawn(1, 0, 20)
    np.testing.assert_array_equal(cross_fitted_probabilities(shown, positive, np.zeros(20)), shown)
