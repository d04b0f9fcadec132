"""Label files for jobs: an invalid file ends the job before any work is done; and contradictions among labels."""

from collections.abc import Iterable
from pathlib import Path

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.transforms.labels.challenge_csv import Labels, read_labels
from pneumoseg.transforms.labels.text_table import LabelFileError


def read_trusted_labels(
    path: Path, *, shape: tuple[int, int] = (1024, 1024), id_column: str = "ImageId"
) -> Labels:
    """Read a label file; invalid rows do not raise, and are among the errors of the result.

    Args:
        path: Path of a CSV file, or of one compressed by gzip.
        shape: Size of every image as ``(rows, columns)`` in pixels.
        id_column: Name of the column with the ids.

    Raises: JobError: If the file cannot be read, or if its starts are absolute as in other challenges, since some of
        its masks would then be valid at a wrong position.
    """
    try:
        labels = read_labels(path, shape=shape, id_column=id_column)
    except LabelFileError as error:
        raise JobError(str(error)) from None
    for issue in labels.warnings:
        if issue.kind == "LOOKS_ABSOLUTE":
            raise JobError(f"{path}, {issue}")
    return labels


def find_opposite_twins(cases: Iterable[tuple[str, str, bool]]) -> list[str]:
    """List the cases that have the pixels of an earlier case and the opposite label.

    Args:
        cases: Name, hash of the pixels, and whether there is a pneumothorax.

    Returns: A line for each.
    """
    first: dict[str, tuple[str, bool]] = {}
    lines = []
    for name, pixels, is_positive in cases:
        other, is_other_positive = first.setdefault(pixels, (name, is_positive))
        if is_positive != is_other_positive:
            lines.append(f"{name} has the pixels of {other}, but only one of them has a mask")
    return lines
