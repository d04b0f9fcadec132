import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from tests.conftest import measured_curves

from pneumoseg.pipeline.model.description import Calibration
from pneumoseg.pipeline.scoring.calibration import (
    calibrate,
    image_reliability,
    levels_of,
    pixel_gaps,
    pixel_reliability,
)
from pneumoseg.pipeline.scoring.case_curves import CaseCurves
from pneumoseg.pipeline.scoring.statistics import calibration_error_of, gap_of, value_of

RANDOM = np.random.default_rng(0)
PROBABILITIES = (RANDOM.integers(0, 256, (6, 20, 24)) + 0.5) / 256  # in the middle of a level: exact
LABELS = RANDOM.random((6, 20, 24)) < PROBABILITIES**2


def cases() -> list[CaseCurves]:
    return [
        measured_curves(torch.from_numpy(p), torch.from_numpy(label), index=index, image_probability=0.5)
        for index, (p, label) in enumerate(zip(PROBABILITIES, LABELS, strict=True))
    ]


def test_levels_count_each_pixel_once() -> None:
    found = levels_of(cases()[0])
    expected = np.bincount(np.ceil(PROBABILITIES[0][LABELS[0]] * 256).astype(int), minlength=257)
    np.testing.assert_array_equal(found[1], expected)
    assert found.sum() == 20 * 24


def test_the_pixels_reliability_is_scikit_learns() -> None:
    share, confidence = calibration_curve(LABELS.ravel(), PROBABILITIES.ravel(), n_bins=10)
    found = pixel_reliability(cases())
    np.testing.assert_allclose([each.share for each in found], share, rtol=0, atol=1e-12)
    np.testing.assert_allclose([each.confidence for each in found], confidence, rtol=0, atol=1e-12)
    assert sum(each.count for each in found) == LABELS.size


def test_the_images_reliability_is_scikit_learns() -> None:
    probabilities, positive = PROBABILITIES.ravel()[:300], LABELS.ravel()[:300]
    share, confidence = calibration_curve(positive, probabilities, n_bins=10)
    found = image_reliability(probabilities, positive)
    np.testing.assert_allclose([each.share for each in found], share, rtol=0, atol=1e-12)
    np.testing.assert_allclose([each.confidence for each in found], confidence, rtol=0, atol=1e-12)


def test_the_pixels_calibration_error_is_that_of_all_pixels_together() -> None:
    found = value_of(gap_of(pixel_gaps(cases()), [20 * 24] * 6), 6)
    expected = value_of(calibration_error_of(PROBABILITIES.ravel(), LABELS.ravel()), LABELS.size)
    assert found == pytest.approx(expected, abs=1e-12)


def test_any_probabilities_are_right_to_half_a_level() -> None:
    probabilities = RANDOM.random((30, 30))
    label = RANDOM.random((30, 30)) < 0.3
    curves = measured_curves(
        torch.from_numpy(probabilities), torch.from_numpy(label), index=0, image_probability=0.5
    )
    found = value_of(gap_of(pixel_gaps([curves]), [900]), 1)
    assert found == pytest.approx(
        value_of(calibration_error_of(probabilities.ravel(), label.ravel()), 900), abs=0.01
    )


def test_calibration_scales_and_shifts_logits_and_keeps_the_order() -> None:
    halved = calibrate([0.1, 0.5, 0.9], Calibration(slope=0.5, intercept=0.0))
    np.testing.assert_allclose(halved, [0.25, 0.5, 0.75], rtol=0, atol=1e-12)  # the odds' square roots: 1/3
    shifted = calibrate([0.0, 0.1, 0.5, 1.0], Calibration(slope=1.0, intercept=np.log(9)))
    np.testing.assert_allclose(shifted, [0, 0.5, 0.9, 1], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(calibrate(PROBABILITIES, None), PROBABILITIES)
