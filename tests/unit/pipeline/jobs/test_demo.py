import numpy as np
import pytest

from pneumoseg.pipeline.jobs.demo import choose_example
from pneumoseg.pipeline.jobs.score import SubmissionScore
from pneumoseg.pipeline.scoring.challenge import summarise
from pneumoseg.pipeline.scoring.headline import ScoredImages


@pytest.mark.parametrize(
    ("pred_px", "shared_px", "chosen"),
    [
        ([9, 0, 30, 20], [0, 0, 25, 20], "c"),  # the largest label, b, is missed, and a is a false alarm
        ([9, 70, 0, 20], [0, 0, 0, 0], "b"),  # no mask overlaps its label
    ],
)
def test_the_picture_shows_the_largest_label_that_was_found(
    pred_px: list[int], shared_px: list[int], chosen: str
) -> None:
    images = ScoredImages(
        groups=list("abcd"),
        pred_px=np.array(pred_px),
        true_px=np.array([0, 90, 40, 20]),
        shared_px=np.array(shared_px),
    )
    score = summarise(images.pred_px, images.true_px, images.shared_px)
    submission = SubmissionScore(score=score, ids=tuple("abcd"), images=images, unscored=())
    assert choose_example(submission) == chosen
