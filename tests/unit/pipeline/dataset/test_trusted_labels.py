from pathlib import Path

import pytest

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.dataset.trusted_labels import read_trusted_labels

HEADER = "ImageId,EncodedPixels\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "labels.csv"


def test_a_bad_row_is_for_the_job_to_tell(path: Path) -> None:
    path.write_text(f"{HEADER}a,2 3\nb,2\n")
    labels = read_trusted_labels(path, shape=(3, 4))
    assert (list(labels.images), [issue.line for issue in labels.errors]) == (["a"], [3])


def test_a_file_that_cannot_be_read_ends_the_job(path: Path) -> None:
    with pytest.raises(JobError, match="cannot be read"):
        read_trusted_labels(path)


def test_a_file_of_absolute_starts_ends_the_job_though_one_of_its_masks_fits(path: Path) -> None:
    path.write_text(f"{HEADER}a,2 3 8 2\nb,1 3 9 2\nc,2 3\n")
    with pytest.raises(JobError, match=r"labels\.csv, line 2: LOOKS_ABSOLUTE: 2 of 2 masks"):
        read_trusted_labels(path, shape=(3, 4))
