from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian
from tests.conftest import draw_case, write_radiograph

from pneumoseg.pipeline.reading.duplicates import find_duplicates
from pneumoseg.pipeline.reading.folders import find_radiographs, look_for_uids
from pneumoseg.transforms.reader.reasons import Outcome


def write(folder: Path, name: str, number: int, uid: str) -> Path:
    return write_radiograph(folder / name, draw_case(number, positive=True)[0], SOPInstanceUID=uid)


def found_in(folder: Path) -> dict[str, tuple[Outcome, str]]:
    images = find_radiographs(folder).images
    errors = find_duplicates(images, look_for_uids(images), folder, workers=0)
    return {
        path.relative_to(folder).as_posix(): (error.outcome, error.detail) for path, error in errors.items()
    }


def test_later_files_of_a_uid_are_refused_with_other_pixels_and_skipped_with_the_same(tmp_path: Path) -> None:
    for name, number, uid in (
        ("b/1", 0, "1.1"),
        ("a/2", 1, "1.1"),
        ("c/3", 1, "1.1"),
        ("d", 0, "1.2"),
        ("e", 2, "1.1"),
    ):
        write(tmp_path, f"{name}.dcm", number, uid)
    assert found_in(tmp_path) == {
        "b/1.dcm": (Outcome.REFUSED, "a/2.dcm has other pixels"),
        "c/3.dcm": (Outcome.SKIPPED, "the same image as a/2.dcm"),
        "e.dcm": (Outcome.REFUSED, "a/2.dcm has other pixels"),
    }


def test_the_encoding_does_not_matter_and_no_file_hides_its_uid_by_it(tmp_path: Path) -> None:
    write(tmp_path, "a.dcm", 0, "1.1")
    for name, number in (("b.dcm", 0), ("c.dcm", 1)):
        data = dcmread(write(tmp_path, name, number, "1.1"))
        data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        data.save_as(tmp_path / name)
    assert {name: outcome for name, (outcome, _) in found_in(tmp_path).items()} == {
        "b.dcm": Outcome.SKIPPED,
        "c.dcm": Outcome.REFUSED,
    }


def test_a_file_that_is_not_accepted_is_no_first_one(tmp_path: Path) -> None:
    write_radiograph(
        tmp_path / "a.dcm", draw_case(0, positive=True)[0], SOPInstanceUID="1.1", ViewPosition="LL"
    )
    content = write(tmp_path, "b.dcm", 1, "1.1").read_bytes()
    (tmp_path / "b.dcm").write_bytes(content[:-100])
    write(tmp_path, "c.dcm", 2, "1.1")
    assert found_in(tmp_path) == {}


def test_files_without_a_uid_are_no_duplicates(tmp_path: Path) -> None:
    for name in ("a.dcm", "b.dcm"):
        write_radiograph(tmp_path / name, np.zeros((16, 16), dtype=np.uint8), SOPInstanceUID=None)
    assert found_in(tmp_path) == {}


def test_no_file_is_read_where_no_two_share_a_uid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        write(tmp_path, f"{number}.dcm", number, f"1.{number}")
    images = find_radiographs(tmp_path).images
    uids = look_for_uids(images)

    def read(_: object) -> bytes:
        raise AssertionError

    monkeypatch.setattr(Path, "read_bytes", read)
    assert find_duplicates(images, uids, tmp_path, workers=0) == {}
