from collections.abc import Sequence
from pathlib import Path

import pytest

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.dataset.groups import (
    Grouping,
    GroupsFile,
    PatientCount,
    group_cases,
    keep_twins_together,
)

IDS = [("a", "a.dcm", "1.2"), ("b", "b.dcm", "1.3"), ("c", "c.dcm")]
NO_IDS = (None, None, None)


def groups_file(folder: Path, content: str | bytes) -> Path:
    path = folder / "groups.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "content",
    [
        "ImageId,PatientGroup\na,p\nb,q\n",
        "\ufeffImageId, PatientGroup\r\na, p\r\nb, q\r\n",
        "PatientGroup,other,ImageId\np,x,a\nq,y,b\n",
        "ImageId,PatientGroup\na,p\nb,q\na,p\n,\nc,\n",
        "imageid,PATIENTGROUP\na,p\nb,q\n",
        "ImageId,PatientGroup\na,p\nb,q\nc,nan\n",
        "ImageId,PatientGroup\na,p\na,NaN\nb,q\nc,None\n",
        "ImageId,PatientGroup\n/data/a.dcm,p\nimages/b.DCM,q\n",
        "ImageId,PatientGroup\nC:\\data\\a.dcm,p\nb.png,q\n",
    ],
)
def test_columns_case_folders_suffixes_and_unknown_groups(tmp_path: Path, content: str) -> None:
    assert GroupsFile(groups_file(tmp_path, content)).find(IDS) == ["p", "q", None]


def test_images_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    path = groups_file(tmp_path, "ImageId,PatientGroup\ndata/1/x.dcm,p\ndata/2/x.dcm,q\n")
    assert GroupsFile(path).find([("x", "../2/x.dcm"), ("x", "images/1/x.dcm"), ("x", "x.dcm")]) == [
        "q",
        "p",
        None,
    ]


def test_a_uid_keeps_its_last_component(tmp_path: Path) -> None:
    path = groups_file(tmp_path, "ImageId,PatientGroup\n1.2.3,p\n1.2.4.dcm,q\n")
    assert GroupsFile(path).find([("1.2.3",), ("1.2.4",), ("1.2",)]) == ["p", "q", None]


@pytest.mark.parametrize("content", ["ImageId,PatientGroup\n", "ImageId,PatientGroup\na,nan\nb,\n"])
def test_a_file_without_a_group_is_an_error(tmp_path: Path, content: str) -> None:
    with pytest.raises(JobError, match="holds no group"):
        GroupsFile(groups_file(tmp_path, content))


def test_a_file_that_matches_no_image_is_an_error_that_names_both_sides(tmp_path: Path) -> None:
    found = GroupsFile(groups_file(tmp_path, "ImageId,PatientGroup\nx,p\ny,p\n"))
    with pytest.raises(JobError, match=r"none of 3 images .* called like a, its ids like x$"):
        group_cases(IDS, ["s", "s", "t"], found)


@pytest.mark.parametrize("row", ["1.23457E+17,p", "a,1.2E+08", "a,9e+15"])
def test_ids_that_a_spreadsheet_rounded_are_an_error_with_their_line(tmp_path: Path, row: str) -> None:
    with pytest.raises(JobError, match=r"line 2: .* was rounded by a spreadsheet"):
        GroupsFile(groups_file(tmp_path, f"ImageId,PatientGroup\n{row}\n"))


def test_long_numbers_that_match_nothing_may_be_rounded(tmp_path: Path) -> None:
    path = groups_file(tmp_path, "ImageId,PatientGroup\n123456789012345000,p\n")
    with pytest.raises(JobError, match="did a spreadsheet round them"):
        GroupsFile(path).find([("123456789012345678",)])


def test_a_group_that_looks_like_an_unknown_patient_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="cannot begin with image:"):
        GroupsFile(groups_file(tmp_path, "ImageId,PatientGroup\na,image:a\n"))


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="no column PatientGroup, only 'ImageId', 'Patient'"):
        GroupsFile(groups_file(tmp_path, "ImageId,Patient\na,p\n"))


def test_an_image_of_two_groups_is_an_error_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="line 4: a is in group q here and in p above"):
        GroupsFile(groups_file(tmp_path, "ImageId,PatientGroup\na,p\nb,p\na,q\n"))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x01", b"ImageId,PatientGroup\na,\xff\n"])
def test_a_file_that_is_no_table_is_an_error_of_one_line(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(JobError) as caught:
        GroupsFile(groups_file(tmp_path, content))
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="cannot be read"):
        GroupsFile(tmp_path / "nowhere.csv")


def grouped(folder: Path, rows: str, patients: Sequence[str | None] = NO_IDS) -> Grouping:
    return group_cases(IDS, patients, GroupsFile(groups_file(folder, f"ImageId,PatientGroup\n{rows}\n")))


def test_a_groups_file_may_call_an_image_by_any_of_its_names(tmp_path: Path) -> None:
    grouping = grouped(tmp_path, "a,p\n1.3,p\nc.dcm,q")
    assert grouping.names == ("p", "p", "q")
    assert grouping.leakage == "no patient in two folds: 2 groups by groups file"


def test_an_image_that_the_file_does_not_list_is_a_group_of_its_own_and_counted(tmp_path: Path) -> None:
    grouping = grouped(tmp_path, "a,p")
    assert grouping.names == ("p", "image:b", "image:c")
    assert grouping.leakage == (
        "leakage cannot be checked for 2 images, whose patients are unknown; complete the groups file; "
        "1 images are in 1 groups by groups file"
    )


def test_images_that_the_file_does_not_list_are_grouped_by_patient_id(tmp_path: Path) -> None:
    """The second image has the PatientID of the first, whose group the file gives."""
    grouping = grouped(tmp_path, "a,p", ["s", "s", "t"])
    assert (grouping.names[:2], grouping.source) == (("p", "p"), "groups file and PatientID")
    assert grouping.leakage == "no patient in two folds: 2 groups by groups file and PatientID"


def test_a_patient_id_that_the_file_divides_identifies_nobody(tmp_path: Path) -> None:
    ids = [*IDS, ("d",)]
    file = GroupsFile(groups_file(tmp_path, "ImageId,PatientGroup\na,p\nb,q\n"))
    assert group_cases(ids, ["s", "s", "s", "t"], file).names == ("p", "q", "image:c", "patient:00001")


def test_a_patient_id_of_several_files_groups_them() -> None:
    grouping = group_cases(IDS, ["x", "y", "x"])
    assert grouping.names[0] == grouping.names[2] != grouping.names[1]
    assert grouping.source == "PatientID"
    assert grouping.leakage == "no patient in two folds: 2 groups by PatientID"


def test_a_patient_id_itself_is_written_nowhere() -> None:
    names = group_cases(IDS, ["DOE^JANE", "y", "DOE^JANE"]).names
    assert not any("DOE" in name for name in names)


@pytest.mark.parametrize("patients", [["x", "y", "z"], ["x", "x", "x"], [None, None, ""]])
def test_patient_ids_that_all_differ_or_are_all_equal_say_nothing_of_patients(
    patients: list[str | None],
) -> None:
    grouping = group_cases(IDS, patients)
    assert (grouping.source, len(set(grouping.names))) == ("nothing", 3)
    assert grouping.leakage == (
        "leakage cannot be checked for 3 images, whose patients are unknown; give --groups"
    )


@pytest.mark.parametrize("missing", [None, ""])
def test_images_without_a_patient_id_are_not_one_patient(missing: str | None) -> None:
    grouping = group_cases([*IDS, ("d",), ("e",)], ["x", "x", "y", missing, missing])
    assert len(set(grouping.names)) == 4
    assert "leakage cannot be checked for 2 images" in grouping.leakage


@pytest.mark.parametrize(
    ("groups", "text", "resampled"),
    [
        (["p", "p", "q"], "3 images of 2 patients", "resampled by patient"),
        (["image:a", "image:b"], "2 images", "resampled by image: give --groups for patients"),
        (
            ["p", "p", "image:b"],
            "3 images of 1 patients; the patients of 1 images are unknown",
            "resampled by patient where it is known: give --groups for patients",
        ),
    ],
)
def test_only_known_patients_are_counted(groups: list[str], text: str, resampled: str) -> None:
    count = PatientCount.of(groups)
    assert (str(count), count.resampled_by) == (text, resampled)


def test_an_image_of_an_unknown_patient_joins_the_known_patient_of_its_twin() -> None:
    grouping = Grouping(("image:a", "p", "q"), "groups file")
    assert keep_twins_together(grouping, ["1", "1", "2"]).names == ("p", "p", "q")


def test_one_image_under_two_names_joins_the_groups_of_both() -> None:
    grouping = Grouping(("p", "q", "r", "q", "s", "r"), "groups file")
    joined = keep_twins_together(grouping, ["1", "2", "3", "1", "4", "2"])  # p and q by 1, q and r by 2
    assert joined.names == ("p", "p", "p", "p", "s", "p")
    assert joined.leakage == (
        "no patient in two folds: 2 groups by groups file; 2 images have the pixels of another, and its group"
    )


def test_groups_without_twins_stay_as_they_are() -> None:
    grouping = Grouping(("p", "q", "p"), "PatientID")
    assert keep_twins_together(grouping, ["1", "2", "3"]) == grouping


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("ImageId,PatientGroup,patientgroup\na,p,q\n", "2 columns PatientGroup in 'ImageId', "),
        ("ImageId,PatientGroup\na,p\nDoe, John,q\n", "line 3: 3 cells under 2 columns"),
    ],
)
def test_a_group_that_may_be_of_another_column_is_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(JobError, match=message):
        GroupsFile(groups_file(tmp_path, content))


def test_a_copy_of_an_image_does_not_make_patient_ids_of_numbers() -> None:
    """As in the challenge, where each file has another PatientID, after one file was copied."""
    ids, patients = [("a",), ("b",), ("c",)], ["x", "y", "x"]
    assert group_cases(ids, patients, pixels=["1", "2", "1"]).source == "nothing"
    assert group_cases(ids, patients, pixels=["1", "2", "3"]).source == "PatientID"
