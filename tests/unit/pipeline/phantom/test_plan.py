"""Patients and findings of a set: their numbers against the challenge's."""

from collections import defaultdict

import numpy as np
import pytest

from pneumoseg.pipeline.phantom.plan import plan_cases


@pytest.fixture(scope="module")
def areas_px() -> list[float]:
    """Mask areas at 1024 of the default set, training and test."""
    masks = [case.scene().masks(512) for case in plan_cases() if case.pneumothorax]
    return [4.0 * int(np.maximum.reduce(rows).sum()) for rows in masks if rows]


def test_another_seed_makes_other_images() -> None:
    cases, other = plan_cases(), plan_cases(seed=1)
    assert not {case.id for case in cases} & {case.id for case in other}


def test_images_of_a_patient_show_the_same_patient() -> None:
    patients = defaultdict(set)
    for case in plan_cases(count=30, test_count=10):
        patients[case.group].add(case.scene().patient)
    assert all(len(shown) == 1 for shown in patients.values())


def test_a_tenth_is_monochrome1_and_most_are_jpeg() -> None:
    kinds = [case.encoding for case in plan_cases(count=98, test_count=0)]
    assert kinds.count("monochrome1") == 10
    assert kinds.count("jpeg") == 80


def test_prevalence_of_the_default_set_is_that_of_the_challenge() -> None:
    labelled = [case for case in plan_cases() if case.labelled]
    assert sum(case.pneumothorax is not None for case in labelled) / len(labelled) == pytest.approx(
        0.225, abs=0.005
    )


@pytest.mark.parametrize(("quantile", "area"), [(0.05, 1_362), (0.5, 8_630), (0.95, 45_772)])
@pytest.mark.slow
def test_mask_areas_of_the_default_set_are_those_of_the_challenge(
    areas_px: list[float], quantile: float, area: float
) -> None:
    assert np.quantile(areas_px, quantile) == pytest.approx(area, rel=0.35)


@pytest.mark.slow
def test_the_smallest_mask_is_tiny_and_the_largest_fills_most_of_a_lung(areas_px: list[float]) -> None:
    assert min(areas_px) < 500
    assert max(areas_px) > 90_000
