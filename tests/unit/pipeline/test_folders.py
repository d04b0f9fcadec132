from pathlib import Path

import numpy as np
import pytest
from tests.conftest import write_radiograph

from pneumoseg.pipeline.errors import JobError, UsageError
from pneumoseg.pipeline.folders import find_radiographs

PIXELS = np.zeros((16, 16), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_radiograph(tmp_path / "b" / "two.dcm", PIXELS)
    write_radiograph(tmp_path / "a" / "one.dcm", PIXELS)
    write_radiograph(tmp_path / "a" / "without_ending", PIXELS)
    (tmp_path / "a" / "notes.txt").write_text("x")
    (tmp_path / "a" / "DICOMDIR.bak").write_bytes(b"")
    (tmp_path / "broken.png").write_text("not a picture")
    return tmp_path


def names(folder: Path, *leave_out: Path) -> list[str]:
    return [
        path.relative_to(folder).as_posix() for path in find_radiographs(folder, leave_out=leave_out).images
    ]


def test_files_are_found_by_content_or_by_name_sorted_by_path(folder: Path) -> None:
    assert names(folder) == ["a/one.dcm", "a/without_ending", "b/two.dcm", "broken.png"]


def test_other_files_are_counted(folder: Path) -> None:
    assert find_radiographs(folder).others == 2


def test_a_folder_that_is_left_out_is_not_looked_into(folder: Path) -> None:
    assert names(folder, folder / "a") == ["b/two.dcm", "broken.png"]


def test_a_folder_is_left_out_by_what_it_is_and_not_by_how_it_is_written(folder: Path) -> None:
    assert names(folder, folder / "b" / ".." / "a") == ["b/two.dcm", "broken.png"]


def test_links_are_not_followed(folder: Path) -> None:
    (folder / "link.dcm").symlink_to(folder / "a" / "one.dcm")
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    assert len(names(folder)) == 4


def test_a_single_file_is_taken(folder: Path) -> None:
    assert find_radiographs(folder / "a" / "one.dcm").images == (folder / "a" / "one.dcm",)


def test_a_folder_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        find_radiographs(tmp_path / "nowhere")


def test_a_folder_without_a_radiograph_is_an_error_that_counts_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(JobError, match="no DICOM or PNG file among 1 files"):
        find_radiographs(tmp_path)
