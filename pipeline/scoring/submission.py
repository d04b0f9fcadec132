"""The rules of a valid submission: one good row of run lengths for each expected image, and no other row."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.files import write_csv
from pneumoseg.transforms.labels.challenge_csv import Labels, read_labels
from pneumoseg.transforms.labels.text_table import LabelFileError

CHALLENGE_SHAPE: Final = (1024, 1024)
"""Rows and columns of every image of the challenge."""
SHOWN_PER_KIND: Final = 3
FAULT_COLUMNS: Final = ("submission", "line", "id", "kind", "detail")


@dataclass(frozen=True, slots=True)
class Fault:
    """One reason why a submission is not valid.

    Attributes:
        kind: ``MISSING``, ``EXTRA``, ``TWICE``, ``OVERLAP``, ``LOOKS_ABSOLUTE``, or a kind of `RLEError`,
            `LabelIssue` or `LabelFileError`.
        message: What was found.
        image_id: Image that the fault concerns; empty if it concerns none.
        line: Line of the file that the fault concerns; 0 if it concerns none.
    """

    kind: str
    message: str
    image_id: str = ""
    line: int = 0

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f"{where}{self.kind}: {self.message}"


class InvalidSubmissionError(JobError):
    """A submission that cannot be scored: `faults` lists all of its faults, the message some of each kind."""

    def __init__(self, path: Path, faults: list[Fault]) -> None:
        lines: list[str] = []
        for kind, count in Counter(fault.kind for fault in faults).items():
            lines += [str(fault) for fault in faults if fault.kind == kind][:SHOWN_PER_KIND]
            if count > SHOWN_PER_KIND:
                lines.append(f"... and {count - SHOWN_PER_KIND} more {kind}")
        super().__init__(f"{path} is not a valid submission; faults: {len(faults)}", details=lines)
        self.path = path
        self.faults = faults


def read_submission(
    path: Path,
    expected_ids: Collection[str],
    *,
    tolerated: Collection[str] = frozenset(),
    shape: tuple[int, int] = CHALLENGE_SHAPE,
) -> Labels:
    """Read a submission that has no fault.

    Args:
        path: Label CSV of any generation.
        expected_ids: Images that must have a row each.
        tolerated: Further images that may have a row, which is not used.
        shape: Size of every image as ``(rows, columns)``.

    Raises: InvalidSubmissionError: If the submission has any fault.
    """
    try:
        predictions = read_labels(path, shape=shape)
    except LabelFileError as error:
        raise InvalidSubmissionError(path, [Fault(error.kind, str(error))]) from None
    if faults := _find_faults(predictions, expected_ids, tolerated):
        raise InvalidSubmissionError(path, faults)
    return predictions


def check_submission(
    path: Path, expected_ids: Iterable[str], *, shape: tuple[int, int] = CHALLENGE_SHAPE
) -> list[Fault]:
    """List the faults of a submission.

    Args:
        path: Label CSV of any generation.
        expected_ids: Images that must have a row each; no other image may have one.
        shape: Size of every image as ``(rows, columns)``.

    Returns: The faults, those of the file's lines first; none if the submission is valid.
    """
    try:
        read_submission(path, tuple(expected_ids), shape=shape)
    except InvalidSubmissionError as error:
        return error.faults
    return []


def write_faults(path: Path, results: Sequence[object]) -> None:
    """Write a table with a row for each fault; without faults it has no rows.

    Args:
        path: CSV file to write.
        results: Results of `score_submissions`; those that are no `InvalidSubmissionError` are passed over.
    """
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


def _find_faults(labels: Labels, expected_ids: Collection[str], tolerated: Collection[str]) -> list[Fault]:
    """List the faults of the rows that were read; images of *tolerated* may be present or not."""
    expected = set(expected_ids)
    faults = [
        Fault(issue.kind, issue.message, issue.image_id, issue.line)
        for issue in (*labels.errors, *labels.warnings)
    ]
    for name, label in labels.images.items():
        if len(label.lines) > 1:
            message = f"{name} has {len(label.lines)} rows; give one row with all of its runs"
            faults.append(Fault("TWICE", message, name, label.lines[1]))
        if name not in expected and name not in tolerated:
            faults.append(Fault("EXTRA", f"{name} is not expected", name, label.lines[0]))
    faults.sort(key=lambda fault: (fault.kind != "LOOKS_ABSOLUTE", fault.line))
    present = labels.images.keys() | {issue.image_id for issue in labels.errors}
    faults += [
        Fault("MISSING", f"{name} has no row", name)
        for name in dict.fromkeys(expected_ids)
        if name not in present
    ]
    return faults
