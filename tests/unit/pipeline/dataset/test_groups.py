from pathlib import Path

import pytest

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.dataset.groups import (
    Grouping,
    group_by_file,
    group_by_patient_id,
    keep_twins_together,
    read_groups,
)

IDS = [("a", "a.dcm", "1.2"), ("b", "b.dcm", "1.3"), ("c", "c.dcm", None)]


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
    ],
)
def test_columns_are_found_by_name_and_spaces_mean_nothing(tmp_path: Path, content: str) -> None:
    assert read_groups(groups_file(tmp_path, content)) == {"a": "p", "b": "q"}


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="no column PatientGroup, only 'ImageId', 'Patient'"):
        read_groups(groups_file(tmp_path, "ImageId,Patient\na,p\n"))


def test_an_image_of_two_groups_is_an_error_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="line 4: a is in group q here and in p above"):
        read_groups(groups_file(tmp_path, "ImageId,PatientGroup\na,p\nb,p\na,q\n"))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x01", b"ImageId,PatientGroup\na,\xff\n"])
def test_a_file_that_is_no_table_is_an_error_of_one_line(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(JobError) as caught:
        read_groups(groups_file(tmp_path, content))
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="cannot be read"):
        read_groups(tmp_path / "nowhere.csv")


def test_a_groups_file_may_call_an_image_by_any_of_its_names() -> None:
    grouping = group_by_file(IDS, {"a": "p", "1.3": "p", "c.dcm": "q"})
    assert grouping.names == ("p", "p", "q")
    assert grouping.alone == 0


def test_an_image_without_a_group_is_a_group_of_its_own_and_counted() -> None:
    grouping = group_by_file(IDS, {"a": "p"})
    assert len(set(grouping.names)) == 3
    assert grouping.alone == 2
    assert "2 images without a group" in grouping.leakage


def test_a_groups_file_lets_no_patient_be_in_two_folds() -> None:
    leakage = group_by_file(IDS, {"a": "p", "b": "p", "c": "q"}).leakage
    assert leakage == "no patient in two folds: 2 groups by groups file"


def test_a_patient_id_of_several_files_groups_them() -> None:
    grouping = group_by_patient_id(IDS, ["x", "y", "x"])
    assert grouping.names[0] == grouping.names[2] != grouping.names[1]
    assert grouping.source == "PatientID"
    assert grouping.leakage.startswith("no patient in two folds")


def test_a_patient_id_itself_is_written_nowhere() -> None:
    names = group_by_patient_id(IDS, ["DOE^JANE", "y", "DOE^JANE"]).names
    assert not any("DOE" in name for name in names)


def test_patient_ids_that_all_differ_say_nothing_of_patients() -> None:
    grouping = group_by_patient_id(IDS, ["x", "y", "z"])
    assert grouping.source == "nothing"
    assert len(set(grouping.names)) == 3
    assert grouping.leakage == "PatientID is unique per file: leakage cannot be checked, give --groups"


@pytest.mark.parametrize("missing", [None, ""])
def test_images_without_a_patient_id_are_not_one_patient(missing: str | None) -> None:
    grouping = group_by_patient_id([*IDS, ("d",), ("e",)], ["x", "x", "y", missing, missing])
    assert len(set(grouping.names)) == 4
    assert grouping.alone == 2


def test_no_patient_id_at_all_says_nothing_of_patients() -> None:
    assert group_by_patient_id(IDS, [None, None, ""]).source == "nothing"


def test_one_image_under_two_names_joins_the_groups_of_both() -> None:
    grouping = Grouping(("p", "q", "r", "q", "s", "r"), "groups file", alone=0)
    joined = keep_twins_together(grouping, ["1", "2", "3", "1", "4", "2"])  # p and q by 1, q and r by 2
    assert joined.names == ("p", "p", "p", "p", "s", "p")
    assert joined.leakage == (
        "no patient in two folds: 2 groups by groups file; 2 images have the pixels of another, and its group"
    )


def test_groups_without_twins_stay_as_they_are() -> None:
    grouping = Grouping(("p", "q", "p"), "PatientID", alone=0)
    assert keep_twins_together(grouping, ["1", "2", "3"]) == grouping
