import numpy as np
import pytest
import torch
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from pneumoseg.pipeline.scoring.calibration import pixel_gaps
from pneumoseg.pipeline.scoring.case_curves import CaseCurves
from pneumoseg.pipeline.scoring.statistics import gap_of, value_of
from pneumoseg.pipeline.scoring.temperature import cross_fitted_temperatures, fit_temperature

SHAPE = (120, 150)


def too_sure(temperature: float, count: int = 4) -> list[CaseCurves]:
    """Maps whose logits are so many times too large, and labels drawn by the right ones."""
    random = np.random.default_rng(0)
    cases = []
    for index in range(count):
        right = random.normal(-1.5, 1.2, SHAPE) / max(1, temperature)
        label = random.random(SHAPE) < expit(right)
        shown = (np.floor(expit(right * temperature) * 256) + 0.5) / 256  # in the middle of a level: exact
        cases.append(
            CaseCurves.measure(
                torch.from_numpy(shown), torch.from_numpy(label), index=index, image_probability=0.5
            )
        )
    return cases


@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0, 4.0])
def test_the_temperature_that_was_put_in_is_found(temperature: float) -> None:
    assert fit_temperature(too_sure(temperature)) == pytest.approx(temperature, rel=0.05)


def test_it_is_the_one_of_a_logistic_regression_without_intercept() -> None:
    random = np.random.default_rng(1)
    shown = (random.integers(1, 255, SHAPE) + 0.5) / 256
    label = random.random(SHAPE) < expit(logit(shown) / 3)
    curves = CaseCurves.measure(
        torch.from_numpy(shown), torch.from_numpy(label), index=0, image_probability=0.5
    )
    model = LogisticRegression(C=1e12, fit_intercept=False, tol=1e-8).fit(
        logit(shown).reshape(-1, 1), label.ravel()
    )
    assert fit_temperature([curves]) == pytest.approx(1 / float(model.coef_[0, 0]), rel=1e-4)


def test_calibrated_pixels_are_nearer_to_what_they_say() -> None:
    cases = too_sure(3.0)
    found = fit_temperature(cases)
    assert found is not None
    sizes = [SHAPE[0] * SHAPE[1]] * len(cases)
    before = value_of(gap_of(pixel_gaps(cases), sizes), len(cases))
    after = value_of(gap_of(pixel_gaps(cases, temperature=found), sizes), len(cases))
    assert before is not None
    assert after is not None
    assert after < before / 3


@pytest.mark.parametrize(("probability", "label"), [(0.0, 0), (1.0, 1), (0.5, 0), (0.5, 1)])
def test_where_nothing_can_be_learned_nothing_is_fitted(probability: float, label: int) -> None:
    curves = CaseCurves.measure(
        torch.full((4, 4), probability), torch.full((4, 4), label), index=0, image_probability=0.5
    )
    assert fit_temperature([curves]) is None


def test_a_case_has_the_temperature_that_the_cases_of_other_parts_give() -> None:
    cases = [*too_sure(2.0, count=2), *too_sure(4.0, count=2)]
    found = cross_fitted_temperatures(cases, [1, 0, 0, 2])
    without = {1: cases[1:], 0: [cases[0], cases[3]], 2: cases[:3]}
    assert found == [fit_temperature(without[part]) for part in (1, 0, 0, 2)]
    assert len(set(found)) == 3


def test_where_no_other_part_is_left_probabilities_stay() -> None:
    assert cross_fitted_temperatures(too_sure(2.0), [3, 3, 3, 3]) == [1.0] * 4
