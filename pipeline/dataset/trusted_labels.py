"""Label files for jobs: an invalid file ends the job before any work is done."""

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
