"""Label files for jobs: what cannot be read, or trusted, as a whole ends the job before it has done anything."""

from pathlib import Path

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.transforms.labels.challenge_csv import Labels, read_labels
from pneumoseg.transforms.labels.text_table import LabelFileError


def read_trusted_labels(
    path: Path, *, shape: tuple[int, int] = (1024, 1024), id_column: str = "ImageId"
) -> Labels:
    """Read a label file; a bad row does not raise, and is among the errors of what is returned.

    Args:
        path: CSV, or CSV in gzip.
        shape: Size of every image as ``(rows, columns)``.
        id_column: Name of the column with the ids.

    Raises: JobError: If the file cannot be read, or if its runs are counted as in other challenges: then some of
        its masks fit all the same, in a wrong place.
    """
    try:
        labels = read_labels(path, shape=shape, id_column=id_column)
    except LabelFileError as error:
        raise JobError(str(error)) from None
    for issue in labels.warnings:
        if issue.kind == "LOOKS_ABSOLUTE":
            raise JobError(f"{path}, {issue}")
    return labels
