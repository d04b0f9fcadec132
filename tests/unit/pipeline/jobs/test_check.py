import csv
import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.conftest import write_radiograph

from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.jobs.check import CheckReport, check_folder
from pneumoseg.transforms.reader.quality import read_template
from pneumoseg.transforms.reader.radiograph import AcceptanceFilters

# of the size and the look of a chest
PIXELS = np.kron(120 + 800 * read_template(), np.ones((5, 6))).clip(0, 255).astype(np.uint8)
OTHER = PIXELS // 2
HEADER = (
    "file,status,reason,detail,rows,columns,bits_stored,photometric_interpretation,transfer_syntax,modality,view,"
    "spacing_mm,sop_instance_uid,pixel_sha256"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a test puts its files; the table lies beside it."""
    (tmp_path / "images").mkdir()
    return tmp_path / "images"


def write(path: Path, pixels: NDArray[np.uint8], **elements: Any) -> Path:
    """Write a radiograph that nothing is to be said against."""
    return write_radiograph(path, pixels, **{"PixelSpacing": [1.4, 1.4], **elements})


def check(
    folder: Path, *, acceptance: AcceptanceFilters | None = None, workers: int = 0
) -> tuple[CheckReport, list[dict[str, str]]]:
    output = folder.parent / "check.csv"
    report = check_folder(folder, output, acceptance=acceptance, workers=workers, overwrite=True)
    with output.open(encoding="utf-8", newline="") as file:
        return report, list(csv.DictReader(file))


def verdicts(folder: Path) -> dict[str, tuple[str, str]]:
    return {row["file"]: (row["status"], row["reason"]) for row in check(folder)[1]}


def test_the_columns_are_those_that_were_promised(folder: Path) -> None:
    write(folder / "a.dcm", PIXELS)
    check(folder)
    assert (folder.parent / "check.csv").read_text().splitlines()[0] == HEADER


def test_an_accepted_file_is_told_of_in_full(folder: Path) -> None:
    write(folder / "a" / "b.dcm", PIXELS)
    report, (row,) = check(folder)
    assert list(row.values()) == [
        *("a/b.dcm", "accepted", "", "", "80", "96", "8", "MONOCHROME2", "1.2.840.10008.1.2.1", "DX", "PA"),
        *("1.4 1.4", "1.2.3.4", hashlib.sha256(PIXELS.tobytes()).hexdigest()),
    ]
    assert (report.statuses, report.reasons, report.exit_code) == ({"accepted": 1}, {}, 0)


def test_spacing_is_between_rows_then_between_columns(folder: Path) -> None:
    write(folder / "a.dcm", PIXELS, PixelSpacing=[0.5, 0.25])
    assert check(folder)[1][0]["spacing_mm"] == "0.5 0.25"


def test_a_refused_file_has_its_reason_and_is_a_failure(folder: Path) -> None:
    (folder / "a.dcm").touch()
    report, (row,) = check(folder)
    assert list(row.values()) == ["a.dcm", "refused", "EMPTY_FILE", "0 bytes", *[""] * 10]
    assert (report.statuses, report.reasons, report.exit_code) == ({"refused": 1}, {"EMPTY_FILE": 1}, 3)


def test_a_skipped_file_has_its_reason_and_is_no_failure(folder: Path) -> None:
    write(folder / "a.dcm", PIXELS, ViewPosition="LL")
    report, (row,) = check(folder)
    assert (row["status"], row["reason"]) == ("skipped", "WRONG_VIEW")
    assert report.exit_code == 0


def test_a_file_with_several_warnings_names_them_all(folder: Path) -> None:
    write(folder / "a.dcm", PIXELS, PixelSpacing=None, BurnedInAnnotation="YES")
    report, (row,) = check(folder)
    assert (row["status"], row["reason"]) == (
        "warned",
        "BURNED_IN NO_SPACING LOW_RESOLUTION LOOKS_UNLIKE_CHEST",
    )
    assert row["detail"].split("; ")[:2] == [
        "BurnedInAnnotation is YES",
        "there is neither PixelSpacing nor ImagerPixelSpacing",
    ]
    assert row["pixel_sha256"]
    assert report.reasons == {"BURNED_IN": 1, "NO_SPACING": 1, "LOW_RESOLUTION": 1, "LOOKS_UNLIKE_CHEST": 1}


def test_every_file_has_one_row_sorted_by_path(folder: Path) -> None:
    for number, name in enumerate(["b.dcm", "a/z.dcm", "a-b.dcm", "a/B/c", "A.dcm"]):
        write(folder / name, PIXELS, SOPInstanceUID=f"1.2.{number}")
    (folder / "a" / "broken.png").write_text("x")
    assert [row["file"] for row in check(folder)[1]] == [
        *("A.dcm", "a-b.dcm", "a/B/c", "a/broken.png", "a/z.dcm", "b.dcm"),
    ]


def test_other_files_are_counted_and_have_no_row(folder: Path) -> None:
    write(folder / "a.dcm", PIXELS)
    (folder / "notes.txt").write_text("x")
    (folder / "archive.zip").write_bytes(b"PK\3\4")
    report, rows = check(folder)
    assert (report.other_files, len(rows), report.exit_code) == (2, 1, 0)


def test_a_png_has_a_row_like_others(folder: Path) -> None:
    Image.fromarray(PIXELS).save(folder / "a.png")
    (row,) = check(folder)[1]
    assert (row["rows"], row["columns"], row["modality"]) == ("80", "96", "")
    assert (row["status"], row["reason"]) == (
        "warned",
        "LOW_RESOLUTION LOOKS_UNLIKE_CHEST",
    )  # as a whole chest it would be


def test_the_same_uid_with_the_same_pixels_is_skipped_and_names_the_first(folder: Path) -> None:
    write(folder / "a.dcm", PIXELS)
    write(folder / "b.dcm", PIXELS, PatientAge="059Y")  # another file
    report, (first, second) = check(folder)
    assert first["status"] == "accepted"
    assert (second["status"], second["reason"]) == ("skipped", "DUPLICATE_UID")
    assert second["detail"] == "the same image as a.dcm"
    assert report.exit_code == 0


def test_the_same_uid_with_other_pixels_is_refused_and_names_the_first(folder: Path) -> None:
    write(folder / "a.dcm", PIXELS)
    write(folder / "b.dcm", OTHER)
    report, (first, second) = check(folder)
    assert first["status"] == "accepted"
    assert (second["status"], second["reason"]) == ("refused", "DUPLICATE_UID")
    assert second["detail"] == "a.dcm has other pixels"
    assert report.exit_code == 3


def test_the_same_pixels_under_another_uid_are_counted_and_change_no_row(folder: Path) -> None:
    write(folder / "a.dcm", PIXELS, SOPInstanceUID="1.2.1")
    write(folder / "b.dcm", PIXELS, SOPInstanceUID="1.2.2")
    report, (first, second) = check(folder)
    assert (first["status"], second["status"]) == ("accepted", "accepted")
    assert first["pixel_sha256"] == second["pixel_sha256"]
    assert report.reasons == {"DUPLICATE_IMAGE": 1}


def test_files_without_a_uid_are_no_duplicates_of_each_other(folder: Path) -> None:
    for name, pixels in {"a.dcm": PIXELS, "b.dcm": OTHER}.items():
        path = write(folder / name, pixels)
        path.write_bytes(path.read_bytes().replace(b"1.2.3.4", b"../../x"))
    assert verdicts(folder) == {"a.dcm": ("warned", "BAD_UID"), "b.dcm": ("warned", "BAD_UID")}


def test_a_file_that_is_not_read_makes_no_other_a_duplicate(folder: Path) -> None:
    write(folder / "a.dcm", PIXELS, ViewPosition="LL")
    write(folder / "b.dcm", PIXELS)
    assert verdicts(folder)["b.dcm"] == ("accepted", "")


def test_acceptance_filters_can_be_opened(folder: Path) -> None:
    write(folder / "a.dcm", PIXELS, Modality="MR", ViewPosition="LL", BodyPartExamined="HAND")
    acceptance = AcceptanceFilters(any_modality=True, any_view=True, any_body_part=True)
    assert check(folder, acceptance=acceptance)[1][0]["status"] == "accepted"


def test_names_cannot_be_formulas_or_send_control_characters(folder: Path) -> None:
    for name in ["=1+1.dcm", "@x.dcm", "a\nb\x1b[2J.dcm", os.fsdecode(b"caf\xe9.dcm")]:
        (folder / name).touch()
    report, rows = check(folder)
    assert [row["file"] for row in rows] == [
        *("'=1+1.dcm", "'@x.dcm", "a\\nb\\x1b[2J.dcm", "caf\\udce9.dcm"),
    ]
    assert report.statuses == Counter(refused=4)


def test_a_table_inside_of_the_folder_is_not_taken_for_one_of_its_files(folder: Path) -> None:
    write(folder / "a.dcm", PIXELS)
    for name in ("check.csv", "table.dcm"):
        for _ in range(2):
            report = check_folder(folder, folder / name, workers=0, overwrite=True)
            assert (report.statuses.total(), report.other_files) == (1, 0)
        (folder / name).unlink()


def test_a_single_file_may_be_checked(folder: Path) -> None:
    path = write(folder / "a.dcm", PIXELS)
    report = check_folder(path, folder.parent / "check.csv", workers=0)
    assert report.statuses == {"accepted": 1}


@pytest.mark.slow
def test_any_number_of_workers_writes_the_same_bytes(folder: Path) -> None:
    for number in range(30):
        write(folder / f"{number}.dcm", PIXELS + number, SOPInstanceUID=f"1.2.{number}")
    for number in range(0, 30, 4):
        path = folder / f"{number}.dcm"
        path.write_bytes(path.read_bytes()[: 40 * number])
    tables = set()
    for workers in (0, 1, 2):
        check(folder, workers=workers)
        tables.add((folder.parent / "check.csv").read_bytes())
    assert len(tables) == 1


def test_an_earlier_table_is_not_written_over(folder: Path) -> None:
    write(folder / "a.dcm", PIXELS)
    (folder.parent / "check.csv").write_text("mine")
    with pytest.raises(UsageError, match="--overwrite"):
        check_folder(folder, folder.parent / "check.csv", workers=0)


def test_a_folder_without_radiographs_is_an_error_and_leaves_no_table(folder: Path) -> None:
    with pytest.raises(JobError, match="no DICOM or PNG"):
        check_folder(folder, folder.parent / "check.csv", workers=0)
    assert not (folder.parent / "check.csv").exists()
