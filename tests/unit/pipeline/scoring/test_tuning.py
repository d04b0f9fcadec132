import numpy as np
import pytest
import torch
from tests.conftest import make_case, measured_curves

from pneumoseg.pipeline.dataset.manifest import Case
from pneumoseg.pipeline.model.description import OperatingPointSearch
from pneumoseg.pipeline.scoring.case_curves import CaseCurves, score_point
from pneumoseg.pipeline.scoring.tuning import tune
from pneumoseg.transforms.labels.rle import encode_rle

SHAPE = (32, 32)


def learned(count: int = 40) -> tuple[list[CaseCurves], list[Case]]:
    """What a network said that finds most of what there is, and the manifest's cases, of which it saw two thirds."""
    random = np.random.default_rng(0)
    cases, curves = [], []
    for number in range(count):
        mask = np.zeros(SHAPE, dtype=np.uint8)
        if number % 4 == 0:
            mask[4:20, 6:14] = 1
        label = (encode_rle(mask),) if mask.any() else ()
        cases.append(
            make_case(number, shape=SHAPE, label=label, area_px=int(mask.sum()), group=f"g{number // 2}")
        )
        if number % 3 == 0:
            levels = np.where(mask, random.integers(90, 255), random.integers(0, 140, SHAPE)).astype(np.uint8)
            probabilities = torch.from_numpy(levels / 255)
            curves.append(
                measured_curves(
                    probabilities, torch.from_numpy(mask), index=number, image_probability=levels.max() / 255
                )
            )
    return curves, cases


def test_the_point_is_the_best_for_the_challenge_and_its_score_is_that_of_its_masks() -> None:
    found, cases = learned()
    search = tune(found, cases)
    challenge = search.objectives["challenge"]
    point = challenge.point.as_point()
    assert score_point(found, point).score.dice == pytest.approx(challenge.dice)
    assert challenge.dice >= max(row.dice for row in search.curve) - 1e-9
    assert challenge.dice >= score_point(found, point).score.predict_nothing


def test_all_that_was_found_goes_through_json() -> None:
    found, cases = learned()
    search = tune(found, cases)
    assert search.image_digests == tuple(sorted(cases[each.index].sha256[:16] for each in found))
    assert OperatingPointSearch.model_validate_json(search.model_dump_json()) == search
    assert (search.cases, set(search.objectives)) == (14, {"challenge", "specificity", "screening"})
    assert search.cross_fitted is not None
    assert search.cross_fitted.dice <= search.objectives["challenge"].dice
    assert len(search.cross_fitted.points) == 5
    assert (search.frontier[0].specificity, search.frontier[-1].sensitivity) == (1.0, 1.0)


def test_cases_of_one_patient_are_not_cross_fitted() -> None:
    found, cases = learned()
    alone = [case.model_copy(update={"group": "p"}) for case in cases]
    assert tune(found, alone).cross_fitted is None
