"""Replay the leaderboard: check a submission, then score it against the truth, on runs instead of pixels."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.files import write_csv
from pneumoseg.pipeline.dataset.groups import group_by_file, read_groups
from pneumoseg.pipeline.dataset.trusted_labels import read_trusted_labels
from pneumoseg.pipeline.scoring.challenge import ChallengeScore, dice_from_counts, summarise
from pneumoseg.pipeline.scoring.headline import ScoredImages
from pneumoseg.transforms.labels.challenge_csv import LabelIssue, Labels, read_labels
from pneumoseg.transforms.labels.runs import area_px, overlap_px
from pneumoseg.transforms.labels.text_table import LabelFileError

CHALLENGE_SHAPE = (1024, 1024)
SHOWN_PER_KIND = 3
FAULT_COLUMNS = ("submission", "line", "id", "kind", "detail")


@dataclass(frozen=True, slots=True)
class Fault:
    """One reason why a submission is not valid.

    Attributes:
        kind: ``MISSING``, ``EXTRA``, ``TWICE``, ``OVERLAP``, ``LOOKS_ABSOLUTE``, or a kind of `RLEError`,
            `LabelIssue` or `LabelFileError`.
        message: What was found.
        image_id: The image, if it is about one.
        line: The line of the file, 0 if it is about no line.
    """

    kind: str
    message: str
    image_id: str = ""
    line: int = 0

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f"{where}{self.kind}: {self.message}"


class InvalidSubmissionError(JobError):
    """A submission that cannot be scored; `faults` says all that is wrong with it, the message some of each kind."""

    def __init__(self, path: Path, faults: list[Fault]) -> None:
        lines: list[str] = []
        for kind, count in Counter(fault.kind for fault in faults).items():
            lines += [str(fault) for fault in faults if fault.kind == kind][:SHOWN_PER_KIND]
            if count > SHOWN_PER_KIND:
                lines.append(f"... and {count - SHOWN_PER_KIND} more {kind}")
        super().__init__(f"{path} is not a valid submission; faults: {len(faults)}", details=lines)
        self.path = path
        self.faults = faults


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SubmissionScore:
    """A submission's score, and the counts of each image that it comes from.

    Attributes:
        score: The challenge's metric and its parts.
        ids: The images that were scored, in the order of the truth.
        pred_px: Pixels of each predicted mask, shape (images,).
        true_px: Pixels of each true mask, shape (images,).
        shared_px: Pixels that are in both, shape (images,).
        groups: The patient of each image; None where none are known, and each image counts as a patient.
        unscored: Rows of the truth that cannot be trusted; their images count for nothing.
    """

    score: ChallengeScore
    ids: tuple[str, ...]
    pred_px: NDArray[np.int64]
    true_px: NDArray[np.int64]
    shared_px: NDArray[np.int64]
    groups: tuple[str, ...] | None
    unscored: tuple[LabelIssue, ...]

    @property
    def images(self) -> ScoredImages:
        """The counts of all images, for numbers with intervals."""
        return ScoredImages(
            groups=self.groups or self.ids,
            pred_px=self.pred_px,
            true_px=self.true_px,
            shared_px=self.shared_px,
        )

    @property
    def dice(self) -> NDArray[np.float64]:
        """Dice of each image, shape (images,)."""
        return dice_from_counts(self.pred_px, self.true_px, self.shared_px)

    @property
    def exit_code(self) -> int:
        """0, or 3 if rows of the truth were refused."""
        return 3 if self.unscored else 0


def score_submission(
    submission: Path, truth: Path, *, groups: Path | None = None, shape: tuple[int, int] = CHALLENGE_SHAPE
) -> SubmissionScore:
    """Score a submission against a truth, both label CSVs of any generation.

    Args:
        submission: One row for each image of the truth.
        truth: The masks of an image may have a row each.
        groups: CSV that says which patient an image is of; intervals are too narrow without it.
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
    submissions: Sequence[Path],
    truth: Path,
    *,
    groups: Path | None = None,
    shape: tuple[int, int] = CHALLENGE_SHAPE,
) -> list[SubmissionScore | InvalidSubmissionError]:
    """Score several submissions against one truth: see `score_submission`.

    Returns: In the same order; one with faults has these instead of a score, and does not keep the others from theirs.
    """
    labels = _read_truth(truth, shape)
    patients = (
        None
        if groups is None
        else group_by_file([[name] for name in labels.images], read_groups(groups)).names
    )
    results: list[SubmissionScore | InvalidSubmissionError] = []
    for submission in submissions:
        try:
            results.append(_score(submission, labels, patients, shape))
        except InvalidSubmissionError as error:
            results.append(error)
    return results


def write_faults(path: Path, results: Sequence[SubmissionScore | InvalidSubmissionError]) -> None:
    """Write a row for each fault of each submission; a table without rows where there is none."""
    rows = [
        {
            "submission": str(result.path),
            "line": fault.line or None,
            "id": fault.image_id,
            "kind": fault.kind,
            "detail": fault.message,
        }
        for result in results
        if isinstance(result, InvalidSubmissionError)
        for fault in result.faults
    ]
    write_csv(path, rows, FAULT_COLUMNS)


def _score(
    submission: Path, labels: Labels, patients: tuple[str, ...] | None, shape: tuple[int, int]
) -> SubmissionScore:
    unscored = {issue.image_id for issue in labels.errors}
    try:
        predictions = read_labels(submission, shape=shape)
    except LabelFileError as error:
        raise InvalidSubmissionError(submission, [Fault(error.kind, str(error))]) from None
    if faults := _find_faults(predictions, labels.images, tolerated=unscored):
        raise InvalidSubmissionError(submission, faults)

    ids = tuple(labels.images)
    pairs = [(predictions.images[name].runs, labels.images[name].runs) for name in ids]
    pred_px = np.array([area_px(pred) for pred, _ in pairs])
    true_px = np.array([area_px(true) for _, true in pairs])
    shared_px = np.array([overlap_px(pred, true) for pred, true in pairs])
    return SubmissionScore(
        score=summarise(pred_px, true_px, shared_px),
        ids=ids,
        pred_px=pred_px,
        true_px=true_px,
        shared_px=shared_px,
        groups=patients,
        unscored=tuple(labels.errors),
    )


def check_submission(
    path: Path, expected_ids: Iterable[str], *, shape: tuple[int, int] = CHALLENGE_SHAPE
) -> list[Fault]:
    """List what is wrong with a submission: a valid one has one good row for each expected id, and no other.

    Returns: The faults, those of the file's lines first; none if the submission is valid.
    """
    try:
        return _find_faults(read_labels(path, shape=shape), tuple(expected_ids))
    except LabelFileError as error:
        return [Fault(error.kind, str(error))]


def _read_truth(path: Path, shape: tuple[int, int]) -> Labels:
    labels = read_trusted_labels(path, shape=shape)
    if not labels.images:
        reason = f"; its first fault is on {labels.errors[0]}" if labels.errors else ""
        raise JobError(f"{path} holds no image to score against{reason}")
    return labels


def _find_faults(
    labels: Labels, expected_ids: Collection[str], *, tolerated: Collection[str] = frozenset()
) -> list[Fault]:
    """List what is wrong with rows that were read; images of `tolerated` may be there or not."""
    expected = set(expected_ids)
    faults = [
        Fault(issue.kind, issue.message, issue.image_id, issue.line)
        for issue in (*labels.errors, *labels.warnings)
    ]
    for name, label in labels.images.items():
        if len(label.lines) > 1:
            message = f"{name} has {len(label.lines)} rows; one with all of its runs would fit"
            faults.append(Fault("TWICE", message, name, label.lines[1]))
        if name not in expected and name not in tolerated:
            faults.append(Fault("EXTRA", f"{name} is not asked for", name, label.lines[0]))
    faults.sort(key=lambda fault: (fault.kind != "LOOKS_ABSOLUTE", fault.line))
    present = labels.images.keys() | {issue.image_id for issue in labels.errors}
    faults += [
        Fault("MISSING", f"{name} has no row", name)
        for name in dict.fromkeys(expected_ids)
        if name not in present
    ]
    return faults
