import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import SHAPE, Collection, draw_case, make_collection, write_radiograph

from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.core.files import sha256_of
from pneumoseg.pipeline.dataset.manifest import image_path, read_manifest
from pneumoseg.pipeline.jobs.prepare import PrepareReport, prepare_manifest
from pneumoseg.transforms.labels.rle import decode_rle
from pneumoseg.transforms.reader.radiograph import read_radiograph
from pneumoseg.transforms.reader.reasons import Outcome, Reason


@pytest.fixture
def copy(tmp_path: Path) -> Collection:
    """A collection that a test may change."""
    return make_collection(tmp_path / "set")


def prepare(collection: Collection, *labels: Path, **changes: Any) -> PrepareReport:
    """Prepare anew into another file; grouped by the groups file unless told otherwise."""
    output = changes.pop("output", collection.folder / "again.json")
    options = {"groups": collection.groups, "folds": 3, "label_shape": SHAPE, "workers": 0, **changes}
    return prepare_manifest(
        collection.images, labels or [collection.labels], output, **{"overwrite": True, **options}
    )


def add_rows(collection: Collection, *rows: str) -> None:
    with collection.labels.open("a") as file:
        file.writelines(row + "\n" for row in rows)


def test_every_labelled_image_is_a_case_and_the_positives_are_counted(copy: Collection) -> None:
    report = prepare(copy)
    assert (report.manifest.size, report.positive, report.exit_code) == (12, 6, 0)


def test_a_case_holds_what_the_file_says_of_itself(copy: Collection) -> None:
    case = prepare(copy).manifest.training[2]
    assert (case.id, case.group, case.shape, case.spacing_mm) == ("case02", "p2", SHAPE, (0.5, 0.25))
    assert (case.view, case.sex, case.age) == ("PA", "F", 58)
    assert case.sha256 == sha256_of(copy.images / "case02.dcm")
    assert image_path(copy.manifest_path, case) == copy.images / "case02.dcm"


def test_labels_are_handed_on_as_they_are(copy: Collection) -> None:
    for number, case in enumerate(prepare(copy).manifest.training):
        mask = draw_case(number, positive=number < 6)[1]
        np.testing.assert_array_equal(decode_rle(case.label, SHAPE), mask)
        assert case.area_px == mask.sum()


def test_the_same_input_gives_the_same_bytes(copy: Collection, tmp_path: Path) -> None:
    prepare(copy)
    moved = tmp_path / "elsewhere"
    shutil.copytree(copy.folder, moved)
    other = Collection(moved, moved / "images", moved / "labels.csv", moved / "groups.csv", moved / "m.json")
    prepare(other)
    assert (copy.folder / "again.json").read_bytes() == (moved / "again.json").read_bytes()


@pytest.mark.slow
def test_any_number_of_workers_writes_the_same_bytes(copy: Collection) -> None:
    (copy.images / "broken.dcm").write_bytes(b"broken")
    manifests = set()
    for workers in (0, 1, 2):
        prepare(copy, workers=workers)
        manifests.add((copy.folder / "again.json").read_bytes())
    assert len(manifests) == 1


def test_no_patient_is_in_two_folds(copy: Collection) -> None:
    manifest = prepare(copy).manifest
    assert len({(case.group, case.fold) for case in manifest.training}) == 6


def test_folds_without_a_pneumothorax_are_warned_of(
    copy: Collection, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(copy)
    assert "folds hold no pneumothorax" not in capsys.readouterr().err
    header, first, *rows = copy.labels.read_text().splitlines()
    negatives = [f"{row.split(',')[0]}, -1" for row in rows]
    copy.labels.write_text("\n".join([header, first, *negatives]) + "\n")
    prepare(copy)
    assert "2 of 3 folds hold no pneumothorax" in capsys.readouterr().err


def test_one_image_under_two_names_is_in_one_fold(copy: Collection) -> None:
    for number in (1, 2, 3):  # patients 1, 2 and 3 with the image of case 0
        pixels = draw_case(0, positive=True)[0]
        write_radiograph(copy.images / f"case0{number}.dcm", pixels, SOPInstanceUID=f"1.2.{number}")
    report = prepare(copy)
    fold_of = {case.id: case.fold for case in report.manifest.training}
    assert len({fold_of[name] for name in ("case00", "case01", "case02", "case03", "case07")}) == 1
    assert "3 images have the pixels of another" in report.grouping.leakage


def test_one_image_under_two_names_with_opposite_labels_is_warned_of(
    copy: Collection, capsys: pytest.CaptureFixture[str]
) -> None:
    write_radiograph(copy.images / "case07.dcm", draw_case(0, positive=True)[0], SOPInstanceUID="1.2.7")
    write_radiograph(copy.images / "case02.dcm", draw_case(1, positive=True)[0], SOPInstanceUID="1.2.2")
    prepare(copy)
    said = capsys.readouterr().err
    assert "images with the pixels of another and the opposite label: 1\n" in said
    assert "case07 has the pixels of case00, but only one of them has a mask" in said


def test_a_groups_file_is_said_to_prevent_leakage(copy: Collection) -> None:
    assert prepare(copy).grouping.leakage == "no patient in two folds: 6 groups by groups file"


def test_patient_ids_that_all_differ_are_said_to_prove_nothing(copy: Collection) -> None:
    report = prepare(copy, groups=None)
    assert report.grouping.leakage == (
        "leakage cannot be checked for 12 images, whose patients are unknown; give --groups"
    )
    assert report.manifest.grouped_by == "nothing"


def test_a_patient_id_is_written_nowhere(copy: Collection) -> None:
    prepare(copy, groups=None)
    assert '"id3"' not in (copy.folder / "again.json").read_text()


def test_an_image_without_a_row_is_unlabelled_and_not_negative(copy: Collection) -> None:
    write_radiograph(copy.images / "new.dcm", draw_case(3, positive=False)[0])
    report = prepare(copy)
    assert [entry.id for entry in report.manifest.unlabelled] == ["new"]
    assert report.manifest.size == 12


def test_an_empty_cell_leaves_its_image_unlabelled(copy: Collection) -> None:
    write_radiograph(copy.images / "new.dcm", draw_case(3, positive=False)[0])
    add_rows(copy, "new,")
    assert [entry.id for entry in prepare(copy).manifest.unlabelled] == ["new"]


def test_several_rows_of_an_image_are_the_union(copy: Collection) -> None:
    add_rows(copy, "case00,0 5", "case00,3 4")
    case = prepare(copy).manifest.training[0]
    assert len(case.label) == 3
    assert case.area_px == 80 + 7  # pixels 0 to 6 of the first column lie outside of the block


def test_two_label_files_add_up(copy: Collection) -> None:
    second = copy.folder / "more.csv"
    second.write_text(" ImageId, EncodedPixels\nextra, -1\ncase00, 0 5\n")
    write_radiograph(copy.images / "extra.dcm", draw_case(8, positive=False)[0])
    report = prepare(copy, copy.labels, second)
    cases = {case.id: case for case in report.manifest.training}
    assert (cases["case00"].area_px, cases["extra"].label) == (85, ())


def test_a_mask_in_one_file_and_none_in_another_is_a_conflict_that_drops_the_image(copy: Collection) -> None:
    second = copy.folder / "more.csv"
    second.write_text("ImageId,EncodedPixels\ncase00,-1\n")
    report = prepare(copy, copy.labels, second)
    assert "CONFLICT" in report.label_problems[0]
    assert [entry.id for entry in report.manifest.unlabelled] == ["case00"]
    assert report.exit_code == 3


def test_a_label_file_of_absolute_starts_is_an_error_though_some_of_its_masks_fit(copy: Collection) -> None:
    rows = [f"case0{number},100 5 200 5 300 5 400 5 500 5 600 5" for number in range(4)]
    copy.labels.write_text("\n".join(["ImageId,EncodedPixels", *rows, "case05,100 5", "case06,100 5 200 5"]))
    with pytest.raises(JobError, match=r"labels\.csv, line 2: LOOKS_ABSOLUTE: 4 of 5 masks"):
        prepare(copy)
    assert not (copy.folder / "again.json").exists()


def test_a_row_that_cannot_be_trusted_drops_its_image_and_is_named_by_file_and_line(copy: Collection) -> None:
    add_rows(copy, "case07,5 -3")
    report = prepare(copy)
    assert report.label_problems[0].startswith("labels.csv, line 14: ")
    assert "case07" not in {case.id for case in report.manifest.training}
    assert report.exit_code == 3


def test_a_row_of_a_second_file_that_cannot_be_trusted_drops_the_image_too(copy: Collection) -> None:
    second = copy.folder / "more.csv"
    second.write_text("ImageId,EncodedPixels\ncase07,5 -3\n")
    assert "case07" not in {case.id for case in prepare(copy, second, copy.labels).manifest.training}


def test_a_refused_file_is_listed_with_its_reason(copy: Collection) -> None:
    path = copy.images / "case04.dcm"
    path.write_bytes(path.read_bytes()[:-500])
    report = prepare(copy)
    (entry,) = report.manifest.refused
    assert (entry.image, entry.reason) == ("images/case04.dcm", "TRUNCATED")
    assert report.reasons(Outcome.REFUSED).total() == 1
    assert report.exit_code == 3


def test_a_lateral_view_is_skipped_which_is_no_failure(copy: Collection) -> None:
    write_radiograph(copy.images / "lateral.dcm", draw_case(0, positive=False)[0], ViewPosition="LL")
    report = prepare(copy)
    assert report.reasons(Outcome.SKIPPED) == {"WRONG_VIEW": 1}
    assert report.exit_code == 0


def test_an_image_of_another_size_than_the_labels_are_counted_over_is_refused(copy: Collection) -> None:
    write_radiograph(copy.images / "small.dcm", np.arange(256, dtype=np.uint8).reshape(16, 16))
    add_rows(copy, "small,-1")
    (entry,) = prepare(copy).manifest.refused
    assert (entry.reason, "16x16" in entry.detail) == ("CONFLICTING_SIZE", True)


def test_two_files_of_one_name_are_one_case_and_one_refusal(copy: Collection) -> None:
    write_radiograph(copy.images / "twice" / "case00.dcm", draw_case(0, positive=False)[0])
    report = prepare(copy)
    (entry,) = report.manifest.refused
    assert entry.image == "images/twice/case00.dcm"
    assert "images/case00.dcm" in entry.detail
    assert report.manifest.size == 12


def test_a_label_may_call_an_image_by_its_uid(copy: Collection) -> None:
    write_radiograph(copy.images / "new.dcm", draw_case(3, positive=False)[0], SOPInstanceUID="1.2.99")
    add_rows(copy, "1.2.99,-1")
    assert "1.2.99" in {case.id for case in prepare(copy).manifest.training}


def test_a_file_that_is_called_by_a_uid_alone_is_found_by_all_of_it(copy: Collection) -> None:
    for number in (1, 2):
        pixels = draw_case(3 + number, positive=False)[0]
        write_radiograph(copy.images / f"1.2.99.{number}", pixels, SOPInstanceUID=f"1.2.98.{number}")
    add_rows(copy, "1.2.99.1,-1")
    manifest = prepare(copy).manifest
    assert "1.2.99.1" in {case.id for case in manifest.training}
    assert [entry.id for entry in manifest.unlabelled] == ["1.2.99.2"]


def test_labels_under_several_names_of_an_image_add_up_or_are_a_conflict(copy: Collection) -> None:
    for number in range(2):
        image = draw_case(3 + number, positive=False)[0]
        write_radiograph(copy.images / f"new{number}.dcm", image, SOPInstanceUID=f"1.2.9{number}")
    add_rows(copy, "new0,0 5", "new0.dcm,10 5", "new1,-1", "1.2.91,0 5")
    report = prepare(copy)
    cases = {case.id: case for case in report.manifest.training}
    assert (cases["new0"].area_px, "new1" in cases, report.exit_code) == (10, False, 3)
    assert report.label_problems == (
        "images/new1.dcm: CONFLICT: its names new1 and 1.2.91 have a mask and -1",
    )


def test_another_column_may_hold_the_file_names_with_their_ending(copy: Collection) -> None:
    table = copy.folder / "other.csv"
    table.write_text("ImageId,file,EncodedPixels\nx,case00.dcm,0 5\ny,case01.dcm,-1\nz,case02.dcm,-1\n")
    report = prepare(copy, table, id_column="file")
    assert [case.id for case in report.manifest.training] == ["case00.dcm", "case01.dcm", "case02.dcm"]
    assert report.manifest.training[0].group == "p0"


def test_labels_without_an_image_are_told(copy: Collection) -> None:
    add_rows(copy, "nowhere,-1")
    assert prepare(copy).labels_without_image == ("nowhere",)


def test_other_files_are_counted_and_not_refused(copy: Collection) -> None:
    (copy.images / "readme.txt").write_text("x")
    report = prepare(copy)
    assert (report.other_files, report.exit_code) == (1, 0)


def test_nothing_that_matches_is_an_error_that_shows_both_kinds_of_names(copy: Collection) -> None:
    table = copy.folder / "other.csv"
    table.write_text("ImageId,EncodedPixels\nscan-17,-1\n")
    with pytest.raises(JobError, match=r"case00\.dcm.*scan-17.*--id-column") as caught:
        prepare(copy, table)
    assert len(str(caught.value).splitlines()) == 1


def test_labels_of_which_none_can_be_used_are_an_error_that_shows_the_first_problem(copy: Collection) -> None:
    copy.labels.write_text("ImageId,EncodedPixels\n=case00,-1\n")
    with pytest.raises(JobError, match=r"no row of the labels can be used: labels\.csv, line 2: BAD_ID"):
        prepare(copy)
    copy.labels.write_text("ImageId,EncodedPixels\n")
    with pytest.raises(JobError, match=r"no row of the labels can be used$"):
        prepare(copy)


def test_an_earlier_manifest_is_not_written_over(copy: Collection) -> None:
    with pytest.raises(UsageError, match="--overwrite"):
        prepare(copy, output=copy.manifest_path, overwrite=False)


def test_a_manifest_elsewhere_finds_its_images(copy: Collection, tmp_path: Path) -> None:
    output = tmp_path / "lists" / "m.json"
    prepare(copy, output=output)
    assert all(image_path(output, case).is_file() for case in read_manifest(output).training)


def test_the_manifest_names_no_place_of_this_machine(copy: Collection) -> None:
    prepare(copy)
    assert str(copy.folder) not in (copy.folder / "again.json").read_text()


def test_a_file_name_that_is_not_unicode_is_refused_and_stops_nothing(copy: Collection) -> None:
    path = os.fsencode(copy.images) + b"/caf\xe9.dcm"
    shutil.copy(bytes(copy.images / "case00.dcm"), path)
    manifest = prepare(copy).manifest
    assert manifest.size == 12
    assert [entry.image for entry in manifest.refused] == ["images/caf\\udce9.dcm"]


def test_a_labelled_image_that_looks_odd_is_trained_on(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128), dtype=np.uint8)
    path = write_radiograph(tmp_path / "images" / "a.dcm", noise)
    assert Reason.LOOKS_UNLIKE_CHEST in dict(read_radiograph(path).warnings)
    write_radiograph(tmp_path / "images" / "b.dcm", noise[::-1], SOPInstanceUID="1.2.5", PatientID="P2")
    (tmp_path / "labels.csv").write_text("ImageId,EncodedPixels\na,-1\nb,-1\n")
    report = prepare_manifest(
        tmp_path / "images",
        [tmp_path / "labels.csv"],
        tmp_path / "manifest.json",
        folds=2,
        label_shape=(128, 128),
        workers=0,
    )
    assert (report.manifest.size, report.exit_code) == (2, 0)


def test_label_problems_are_printed_although_nothing_matches(
    copy: Collection, capsys: pytest.CaptureFixture[str]
) -> None:
    copy.labels.write_text("ImageId,EncodedPixels\ncase00,0\nother,1 2\ncase01,-1 -1\ncase02,nan\n")
    with pytest.raises(JobError, match="none of 12 images has a label"):
        prepare(copy)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == [
        "warning: label rows that are refused: 2",
        "  labels.csv, line 2: ODD_TOKENS: '0' is not a run; no pneumothorax is written -1",
    ]
    assert lines[2].startswith("  labels.csv, line 4: NEGATIVE_START")
    assert lines[3:5] == [
        "warning: label rows with a warning: 1",
        "  labels.csv, line 5: EMPTY: 'nan' says nothing about the image; no pneumothorax is written -1",
    ]


def test_too_few_labels_for_the_folds_are_counted_after_what_is_wrong_with_them(
    copy: Collection, capsys: pytest.CaptureFixture[str]
) -> None:
    copy.labels.write_text("ImageId,EncodedPixels\ncase00,0 5\ncase01,nan\n")
    with pytest.raises(UsageError, match="1 labelled images in 1 groups"):
        prepare(copy)
    assert "line 3: EMPTY: 'nan'" in capsys.readouterr().err


def test_ids_that_a_spreadsheet_rounded_are_refused_by_line(copy: Collection) -> None:
    add_rows(copy, "1.23457E+17,-1")
    assert prepare(copy).label_problems == (
        "labels.csv, line 14: BAD_ID: id 1.23457E+17 was rounded by a spreadsheet; save the column as text",
    )


def test_digits_that_a_spreadsheet_may_have_rounded_are_named_where_nothing_matches(copy: Collection) -> None:
    copy.labels.write_text("ImageId,EncodedPixels\n123456789012345000,-1\n")
    with pytest.raises(JobError, match="did a spreadsheet round the ids"):
        prepare(copy)


def test_images_of_unknown_patients_are_counted_in_the_manifest(copy: Collection) -> None:
    copy.groups.write_text("imageid,patientgroup\n/old/case00.dcm,p\n/old/case01.dcm,nan\n")
    report = prepare(copy)
    assert report.manifest.unknown_patients == 11
    assert "leakage cannot be checked for 11 images" in report.grouping.leakage
    assert report.manifest.grouped_by == "groups file"


def test_a_label_file_that_matches_no_image_is_named(
    copy: Collection, capsys: pytest.CaptureFixture[str]
) -> None:
    other = copy.folder / "other.csv"
    other.write_text("ImageId,EncodedPixels\nx,-1\ny,-1\n")
    assert prepare(copy, copy.labels, other).manifest.size == 12
    assert f"{other}: none of its 2 ids is that of an image" in capsys.readouterr().err


def test_the_name_of_the_folder_is_not_that_of_the_collection(copy: Collection) -> None:
    """It may identify a hospital or a person, and the name of the collection goes into models and reports."""
    images = copy.images.rename(copy.folder / "DOE_JANE")
    report = prepare_manifest(
        images, [copy.labels], copy.folder / "m.json", folds=3, label_shape=SHAPE, workers=0
    )
    assert report.manifest.name == f"images {report.manifest.made_from.images_sha256[:8]}"


def test_of_two_files_with_one_uid_the_first_is_used(copy: Collection) -> None:
    other, same = copy.images / "case00b.dcm", copy.images / "case01b.dcm"
    write_radiograph(other, draw_case(3, positive=True)[0], SOPInstanceUID="1.2.0")
    shutil.copy(copy.images / "case01.dcm", same)
    add_rows(copy, "case00b,-1", "case01b,-1")
    report = prepare(copy)
    told = {entry.image: (entry.outcome, entry.reason, entry.detail) for entry in report.manifest.refused}
    assert told == {
        "images/case00b.dcm": ("refused", "DUPLICATE_UID", "images/case00.dcm has other pixels"),
        "images/case01b.dcm": ("skipped", "DUPLICATE_UID", "the same image as images/case01.dcm"),
    }
    assert report.manifest.size == 12
    assert (report.reasons(Outcome.REFUSED).total(), report.reasons(Outcome.SKIPPED).total()) == (1, 1)


def test_images_that_all_have_another_size_are_told_so_with_the_size_that_would_fit(copy: Collection) -> None:
    with pytest.raises(JobError, match="12 images have a label, but none has the size") as caught:
        prepare(copy, label_shape=(1024, 1024))
    assert "--label-shape 48,32 would fit" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_links_to_images_are_counted_or_followed(copy: Collection, tmp_path: Path) -> None:
    (tmp_path / "annex").mkdir()
    for path in copy.images.iterdir():
        path.rename(tmp_path / "annex" / path.name)
        path.symlink_to(tmp_path / "annex" / path.name)
    with pytest.raises(JobError, match="12 links were not followed"):
        prepare(copy)
    report = prepare(copy, follow_links=True)
    assert (report.manifest.size, report.links) == (12, 0)
    assert report.manifest.training[0].image == "images/case00.dcm"
    (copy.images / "case11.dcm").unlink()
    (copy.images / "case11.dcm").symlink_to(tmp_path / "nowhere")
    (copy.images / "loop").symlink_to(copy.images)
    assert prepare(copy, follow_links=True).manifest.size == 11
