"""Replay the leaderboard: score submissions against the truth, on runs instead of pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.dataset.groups import GroupsFile, group_cases
from pneumoseg.pipeline.dataset.trusted_labels import read_trusted_labels
from pneumoseg.pipeline.scoring.challenge import ChallengeScore, dice_from_counts, summarise
from pneumoseg.pipeline.scoring.headline import ScoredImages
from pneumoseg.pipeline.scoring.submission import CHALLENGE_SHAPE, InvalidSubmissionError, read_submission
from pneumoseg.transforms.labels.challenge_csv import LabelIssue, Labels
from pneumoseg.transforms.labels.runs import area_px, overlap_px


@dataclass(frozen=True, eq=False, kw_only=True)
class SubmissionScore:
    """Score of a submission, and the pixel counts of each image from which it is computed.

    Attributes:
        score: The challenge's metric and its parts.
        ids: Scored images, in the order of the truth.
        images: Their patients and pixel counts, for numbers with intervals; an image of an unknown patient is a group
            of its own.
        unscored: Rows of the truth that cannot be trusted; their images are left out.
    """

    score: ChallengeScore
    ids: tuple[str, ...]
    images: ScoredImages
    unscored: tuple[LabelIssue, ...]

    @property
    def dice(self) -> NDArray[np.float64]:
        """Dice of each image, shape (images,)."""
        return dice_from_counts(self.images.pred_px, self.images.true_px, self.images.shared_px)

    @property
    def exit_code(self) -> int:
        """0, or 3 if rows of the truth were refused."""
        return 3 if self.unscored else 0


def score_submission(
    submission: str | Path,
    truth: str | Path,
    *,
    groups: str | Path | None = None,
    shape: tuple[int, int] = CHALLENGE_SHAPE,
) -> SubmissionScore:
    """Score a submission against a truth, both label CSVs of any generation.

    Args:
        submission: CSV with one row for each image of the truth.
        truth: CSV of the true masks; an image with several masks may have several rows.
        groups: CSV of the patient of each image; without it, confidence intervals are too narrow.
        shape: Size of every image as ``(rows, columns)``.

    Raises:
        InvalidSubmissionError: If the submission has any fault.
        JobError: If the truth cannot be read or trusted.
    """
    [result] = score_submissions([submission], truth, groups=groups, shape=shape)
    if isinstance(result, InvalidSubmissionError):
        raise result
    return result


def score_submissions(
    submissions: Sequence[str | Path],
    truth: str | Path,
    *,
    groups: str | Path | None = None,
    shape: tuple[int, int] = CHALLENGE_SHAPE,
) -> list[SubmissionScore | InvalidSubmissionError]:
    """Score several submissions against one truth.

    Args:
        submissions: CSVs as `score_submission` takes them.
        truth: CSV of the true masks.
        groups: CSV of the patient of each image; without it, confidence intervals are too narrow.
        shape: Size of every image as ``(rows, columns)``.

    Returns: For each submission, in order, its score or the error that lists its faults.
    Raises: JobError: If the truth cannot be read or trusted.
    """
    labels = _read_truth(Path(truth), shape)
    patients = group_cases(
        [[name] for name in labels.images],
        [None] * len(labels.images),
        None if groups is None else GroupsFile(Path(groups)),
    ).names
    results: list[SubmissionScore | InvalidSubmissionError] = []
    for submission in submissions:
        try:
            results.append(_score(Path(submission), labels, patients, shape))
        except InvalidSubmissionError as error:
            results.append(error)
    return results


def _score(
    submission: Path, labels: Labels, patients: tuple[str, ...], shape: tuple[int, int]
) -> SubmissionScore:
    unscored = {issue.image_id for issue in labels.errors}
    predictions = read_submission(submission, labels.images, tolerated=unscored, shape=shape)
    ids = tuple(labels.images)
    pairs = [(predictions.images[name].runs, labels.images[name].runs) for name in ids]
    images = ScoredImages(
        groups=patients,
        pred_px=np.array([area_px(pred) for pred, _ in pairs]),
        true_px=np.array([area_px(true) for _, true in pairs]),
        shared_px=np.array([overlap_px(pred, true) for pred, true in pairs]),
    )
    score = summarise(images.pred_px, images.true_px, images.shared_px)
    return SubmissionScore(score=score, ids=ids, images=images, unscored=tuple(labels.errors))


def _read_truth(path: Path, shape: tuple[int, int]) -> Labels:
    labels = read_trusted_labels(path, shape=shape)
    if not labels.images:
        reason = f"; its first fault is on {labels.errors[0]}" if labels.errors else ""
        raise JobError(f"{path} holds no image to score against{reason}")
    return labels
