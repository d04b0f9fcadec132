import pickle

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.metrics import DiceMetric
from tests.conftest import make_case
from torch import Tensor

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.scoring.case_curves import count_levels, score_point
from pneumoseg.pipeline.scoring.metrics import (
    CURVES,
    ChallengeMetric,
    MeasureCurves,
    PendingCurves,
    read_curves,
)
from pneumoseg.pipeline.scoring.search import Search
from pneumoseg.transforms.labels.rle import encode_rle
from pneumoseg.transforms.masks import OperatingPoint

CORNERS = [(0, 0), (0, 1), (1, 0), (1, 1)]


def pending(
    probabilities: Tensor, label: Tensor, *, index: int, image_probability: float, finite: bool = True
) -> PendingCurves:
    return PendingCurves(
        index=index,
        levels=count_levels(probabilities, label),
        image_probability=torch.tensor([image_probability]),
        finite=torch.tensor([finite]),
    )


def curves(pred: float, truth: int, index: int = 0, *, finite: bool = True) -> PendingCurves:
    probabilities, label = torch.full((4, 4), float(pred)), torch.full((4, 4), truth)
    return pending(probabilities, label, index=index, image_probability=float(pred), finite=finite)


def prediction(probabilities: Tensor, image_probability: float) -> dict[str, Tensor]:
    return {
        "probabilities": probabilities,
        "image_probability": torch.tensor([image_probability]),
        "finite": torch.tensor([True]),
    }


def run(metric: ChallengeMetric, batches: list[list[PendingCurves]]) -> dict[str, float]:
    """The metrics of an Ignite engine that sees *batches*."""
    engine = Engine(lambda _, batch: [{CURVES: case} for case in batch])
    metric.attach(engine, "challenge")
    metric["dice"].attach(engine, "dice")
    engine.run(batches)
    return engine.state.metrics


def test_the_four_corners_are_as_monai_has_them_when_empty_masks_count() -> None:
    pred = torch.tensor([corner[0] for corner in CORNERS]).reshape(4, 1, 1, 1).expand(4, 1, 4, 4).float()
    label = torch.tensor([corner[1] for corner in CORNERS]).reshape(4, 1, 1, 1).expand(4, 1, 4, 4).float()
    expected = torch.as_tensor(DiceMetric(ignore_empty=False)(pred, label)).flatten().tolist()
    ours = [run(ChallengeMetric(OperatingPoint()), [[curves(*corner)]])["dice"] for corner in CORNERS]
    assert ours == expected == [1.0, 0.0, 0.0, 1.0]


def test_the_score_is_the_mean_over_all_images_of_all_batches() -> None:
    batches = [[curves(0, 0), curves(0, 1), curves(1, 1)], [curves(0, 1)]]
    assert run(ChallengeMetric(OperatingPoint()), batches)["dice"] == 0.5


def test_each_image_is_counted_once_though_two_numbers_are_reported() -> None:
    metric = ChallengeMetric(OperatingPoint())
    run(metric, [[curves(0, 0, 0), curves(1, 1, 1)], [curves(0, 1, 2)]])
    assert [case.index for case in metric.items] == [0, 1, 2]


def test_a_second_run_forgets_the_first() -> None:
    metric = ChallengeMetric(OperatingPoint())
    engine = Engine(lambda _, batch: [{CURVES: case} for case in batch])
    metric.attach(engine, "challenge")
    engine.run([[curves(0, 1)]])
    engine.run([[curves(1, 1)]])
    assert engine.state.metrics["challenge"]["dice"] == 1.0


def test_a_probability_that_is_nan_is_counted_so_that_its_own_error_can_follow() -> None:
    case = curves(float("nan"), 1, finite=False)
    assert case.levels.sum() == 16
    with pytest.raises(JobError, match="for 1 of 1 images"):
        read_curves([case])


def test_logits_that_are_not_finite_are_an_error_when_the_scores_are_read() -> None:
    cases = [curves(0, 0), curves(0, 1, finite=False), curves(1, 1)]
    with pytest.raises(JobError, match="for 1 of 3 images"):
        run(ChallengeMetric(OperatingPoint()), [cases])


def test_the_parts_stand_beside_the_score() -> None:
    found = run(ChallengeMetric(OperatingPoint()), [[curves(p, t) for p, t in CORNERS]])
    assert found["predict_nothing"] == found["sensitivity"] == found["specificity"] == 0.5
    assert found["dice_positive"] == 0.5
    assert found["auc"] == 0.5


def test_without_a_point_the_best_one_is_taken() -> None:
    cases = [curves(0.3, 0), curves(0.6, 1)]
    found = run(ChallengeMetric(), [cases])
    assert found["dice"] == 1.0
    assert found["threshold"] == Search(read_curves(cases)).best_thresholds().threshold


def test_the_image_threshold_of_the_best_point_is_reported() -> None:
    label = torch.zeros(4, 4)
    label[:2] = 1
    cases = [
        pending(label * 0.6, label * (index % 2), index=index, image_probability=0.2 + 0.6 * (index % 2))
        for index in range(10)
    ]
    found = run(ChallengeMetric(), [cases])
    assert (found["dice"], found["auc"]) == (1.0, 1.0)
    assert 0.2 <= found["image_threshold"] < 0.8


def test_dice_of_the_positives_at_a_fixed_threshold_does_not_depend_on_the_search() -> None:
    """Half of the label exceeds 0.5, and of the second positive nothing does."""
    label = torch.zeros(4, 4)
    label[:2] = 1
    half = torch.zeros(4, 4)
    half[0] = 0.6
    cases = [
        pending(half, label, index=0, image_probability=0.1),
        pending(half * 0.5, label, index=1, image_probability=0.1),
        pending(half, label * 0, index=2, image_probability=0.1),
    ]
    for point in (None, OperatingPoint(threshold=0.9), OperatingPoint(image_threshold=0.5)):
        found = run(ChallengeMetric(point), [cases])
        assert found["dice_positive_fixed"] == pytest.approx((2 * 4 / (4 + 8) + 0) / 2)


def test_with_a_point_that_one_is_used_and_reported() -> None:
    found = run(ChallengeMetric(OperatingPoint(threshold=0.75)), [[curves(0.3, 0), curves(0.6, 1)]])
    assert (found["dice"], found["threshold"]) == (0.5, 0.75)


@pytest.mark.parametrize("shape", [(48, 32), (32, 48), (64, 64)])
def test_a_prediction_is_measured_at_the_size_of_the_original_image(shape: tuple[int, int]) -> None:
    mask = np.zeros(shape, dtype=np.uint8)
    mask[8:20, 4:12] = 1
    case = make_case(5, shape=shape, label=(encode_rle(mask),), area_px=96)
    side, (top, left) = max(shape), ((max(shape) - shape[0]) // 2, (max(shape) - shape[1]) // 2)
    probabilities = torch.full((1, side, side), 0.1)
    probabilities[0, top + 8 : top + 20, left + 4 : left + 12] = 0.9
    pred = prediction(probabilities, 0.75)
    data = {"index": torch.tensor(1), "pred": pred, "other": 3}
    measured = MeasureCurves([make_case(0), case])(data)
    assert measured["other"] == 3
    (found,) = read_curves([measured[CURVES]])
    assert (found.index, found.label_area, found.pixels) == (1, 96, shape[0] * shape[1])
    assert found.image_probability == 0.75
    assert score_point([found], OperatingPoint()).dices.tolist() == [1.0]


def test_a_label_of_several_overlapping_rows_is_measured_as_their_union() -> None:
    one, other = np.zeros((48, 32), np.uint8), np.zeros((48, 32), np.uint8)
    one[0:10, 0:4] = 1
    other[5:15, 0:4] = 1
    case = make_case(0, label=(encode_rle(one), encode_rle(other)), area_px=60)
    data = {"index": 0, "pred": prediction(torch.zeros(1, 48, 48), 0.5)}
    (found,) = read_curves([MeasureCurves([case])(data)[CURVES]])
    assert found.label_area == 60


def test_an_upright_prediction_is_measured_against_the_label_of_the_stored_pixels() -> None:
    mask = np.zeros((48, 32), dtype=np.uint8)
    mask[8:20, 4:12] = 1
    case = make_case(5, patient_orientation=("H", "R"), label=(encode_rle(mask),), area_px=96)
    upright = case.orientation.apply(mask)  # 32 rows, 48 columns
    probabilities = torch.full((1, 48, 48), 0.1)
    probabilities[0, 8:40][torch.from_numpy(upright.copy()) == 1] = 0.9
    pred = prediction(probabilities, 0.75)
    (found,) = read_curves([MeasureCurves([case])({"index": 0, "pred": pred})[CURVES]])
    assert score_point([found], OperatingPoint()).dices.tolist() == [1.0]


def test_an_error_of_another_process_ends_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    shared: list[object] = []

    def gather(own: object) -> list[object]:
        shared.append(own)
        return [[], pickle.loads(pickle.dumps(JobError("there")))]  # as it comes from there

    monkeypatch.setattr("pneumoseg.pipeline.scoring.metrics.gather", gather)
    metric = ChallengeMetric()
    metric.update([curves(0, 0)])
    with pytest.raises(JobError, match="there"):
        metric.everywhere()
    metric.update([curves(0, 0, index=1, finite=False)])
    with pytest.raises(JobError):
        metric.everywhere()
    assert isinstance(shared[1], JobError)  # which the others wait for
