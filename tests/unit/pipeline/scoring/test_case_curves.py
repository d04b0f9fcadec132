from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import DiceMetric
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from tests.conftest import measured_curves

from pneumoseg.pipeline.scoring.case_curves import (
    STEPS,
    CaseCurves,
    image_probabilities,
    score_point,
)
from pneumoseg.transforms.masks import OperatingPoint, to_mask

SHAPE = (24, 20)
Maps = list[tuple[NDArray[np.float32], NDArray[np.uint8]]]


def maps(count: int = 8, seed: int = 0) -> Maps:
    """Probability maps and labels; every other label is empty, every third map has no high value."""
    generator = np.random.default_rng(seed)
    made = []
    for number in range(count):
        label = np.zeros(SHAPE, dtype=np.uint8)
        if number % 2:
            label[5:15, 4 : 6 + number] = 1
        probabilities = generator.random(SHAPE, dtype=np.float32) ** 2 * (0.3 if number % 3 == 0 else 0.8)
        probabilities += 0.2 * label * (number % 4 == 1)
        made.append((probabilities, label))
    return made


def curves_of(made: Maps, image_probabilities: Sequence[float] | None = None) -> list[CaseCurves]:
    """Curves of maps whose image probability, unless it is given, is that of the brightest pixel."""
    given = image_probabilities or brightest(made)
    return [
        measured_curves(
            torch.from_numpy(probabilities),
            torch.from_numpy(label),
            index=index,
            image_probability=given[index],
        )
        for index, (probabilities, label) in enumerate(made)
    ]


def brightest(made: Maps) -> list[float]:
    return [float(probabilities.max()) for probabilities, _ in made]


def masks_of(made: Maps, point: OperatingPoint) -> list[NDArray[np.uint8]]:
    return [to_mask(probabilities, point, float(probabilities.max())) for probabilities, _ in made]


def brute_force_dice(made: Maps, point: OperatingPoint) -> list[float]:
    """By MONAI, on the masks themselves, whose own rule is 1 where both are empty with ignore_empty=False."""
    metric = DiceMetric(include_background=True, ignore_empty=False, reduction="none")
    pred = torch.stack([torch.from_numpy(mask) for mask in masks_of(made, point)])
    label = torch.stack([torch.from_numpy(label) for _, label in made])
    dices = torch.as_tensor(metric(pred[:, None].float(), label[:, None].float()))
    return [float(value) for value in dices.flatten()]


@given(
    probabilities=arrays(
        np.float32,
        SHAPE,
        elements=st.one_of(st.floats(0, 1, width=32), st.sampled_from([0.5, 0.25, 1.0, 0.0])),
    )
)
@settings(deadline=None, max_examples=30)
def test_the_curves_are_those_of_thresholding_the_map_to_the_pixel(probabilities: Any) -> None:
    label = np.zeros(SHAPE, dtype=np.uint8)
    label[3:9, 7:19] = 1
    curves = measured_curves(
        torch.from_numpy(probabilities), torch.from_numpy(label), index=0, image_probability=0.5
    )
    for step in range(STEPS):
        mask = to_mask(probabilities, OperatingPoint(threshold=step / STEPS), 0.5)
        assert curves.area[step] == np.count_nonzero(mask)
        assert curves.overlap[step] == np.count_nonzero(mask & label)


def test_a_probability_at_a_threshold_does_not_exceed_it() -> None:
    curves = measured_curves(torch.full((2, 2), 0.5), torch.ones(2, 2), index=0, image_probability=0.5)
    assert (curves.area[127], curves.area[128]) == (4, 0)


def test_a_case_keeps_its_place_its_label_and_its_size() -> None:
    label = torch.zeros(SHAPE)
    label[:2, :3] = 1
    curves = measured_curves(torch.rand(SHAPE), label, index=17, image_probability=0.5)
    assert (curves.index, curves.label_area, curves.pixels) == (17, 6, 24 * 20)
    assert curves.image_probability == 0.5


def test_a_rounding_error_above_1_is_the_highest_level() -> None:
    curves = measured_curves(torch.full((2, 2), 1.0000001), torch.ones(2, 2), index=0, image_probability=0.5)
    assert curves.area.tolist() == [4] * STEPS


def test_every_score_is_that_of_the_masks_by_monai() -> None:
    for fraction in [0.0, 0.002, 0.05]:
        for threshold in [0.0, 0.25, 0.5, 0.75, 255 / 256]:
            point, made = OperatingPoint(threshold=threshold, min_area_fraction=fraction), maps()
            found = score_point(curves_of(made), point)
            assert found.dices.tolist() == pytest.approx(brute_force_dice(made, point))
            assert found.score.dice == pytest.approx(np.mean(brute_force_dice(made, point)))
            assert found.areas.tolist() == [int(mask.sum()) for mask in masks_of(made, point)]


@pytest.mark.parametrize("bottom", [0.0, 0.25, 0.5])
def test_every_score_with_a_segmentation_threshold_is_that_of_the_masks_by_monai(bottom: float) -> None:
    point, made = (
        OperatingPoint(threshold=0.625, min_area_fraction=0.05, segmentation_threshold=bottom),
        maps(),
    )
    found = score_point(curves_of(made), point)
    assert found.dices.tolist() == pytest.approx(brute_force_dice(made, point))
    assert found.areas.tolist() == [int(mask.sum()) for mask in masks_of(made, point)]


@pytest.mark.parametrize("image_threshold", [0.0, 0.25, 0.6, 0.999])
def test_every_score_with_an_image_threshold_is_that_of_the_masks_by_monai(image_threshold: float) -> None:
    point, made = OperatingPoint(threshold=0.1875, image_threshold=image_threshold), maps(12)
    found = score_point(curves_of(made), point)
    assert found.dices.tolist() == pytest.approx(brute_force_dice(made, point))
    assert found.score.predicted_positive == sum(bool(mask.any()) for mask in masks_of(made, point))


def test_the_area_under_the_curve_is_scikit_learns_on_the_image_probabilities() -> None:
    made = maps(20)
    given = np.random.default_rng(1).random(20).tolist()
    found = score_point(curves_of(made, given), OperatingPoint())
    assert found.auc == pytest.approx(roc_auc_score([label.any() for _, label in made], given))
    assert image_probabilities(curves_of(made, given)).tolist() == given


def test_the_area_under_the_curve_does_not_depend_on_the_operating_point() -> None:
    curves = curves_of(maps(20))
    points = [
        OperatingPoint(),
        OperatingPoint(threshold=0.1, min_area_fraction=0.05),
        OperatingPoint(threshold=0.3, image_threshold=0.5),
    ]
    assert len({score_point(curves, point).auc for point in points}) == 1


@pytest.mark.parametrize("kind", [0, 1])
def test_images_of_one_kind_have_no_area_under_the_curve(kind: int) -> None:
    assert (
        score_point(curves_of([case for case in maps(8) if case[1].any() == kind]), OperatingPoint()).auc
        is None
    )


@pytest.mark.parametrize(("pred", "truth", "expected"), [(0, 0, 1.0), (0, 1, 0.0), (1, 0, 0.0), (1, 1, 1.0)])
def test_dice_at_the_four_corners(pred: int, truth: int, expected: float) -> None:
    curves = measured_curves(
        torch.full((4, 4), float(pred)), torch.full((4, 4), truth), index=0, image_probability=0.5
    )
    assert score_point([curves], OperatingPoint()).dices.tolist() == [expected]
