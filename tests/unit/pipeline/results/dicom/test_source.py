from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import CTImageStorage
from tests.conftest import SHAPE
from tests.unit.pipeline.results.dicom.conftest import make_source

from pneumoseg.pipeline.results.dicom.source import NoDicomResultError, read_source
from pneumoseg.transforms.reader.radiograph import read_radiograph


def test_a_png_has_no_dicom_result(tmp_path: Path) -> None:
    Image.fromarray(np.zeros(SHAPE, dtype=np.uint8)).save(tmp_path / "a.png")
    radiograph = read_radiograph(tmp_path / "a.png")
    with pytest.raises(NoDicomResultError, match="not DICOM"):
        read_source(radiograph)


def test_another_kind_of_image_has_no_dicom_result(tmp_path: Path) -> None:
    with pytest.raises(NoDicomResultError, match="SOP class"):
        make_source(tmp_path, SOPClassUID=CTImageStorage)


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_what_has_no_study_or_series_cannot_be_referred_to(tmp_path: Path, keyword: str) -> None:
    elements: dict[str, Any] = {keyword: "../../x"}
    with pytest.raises(NoDicomResultError, match=keyword):
        make_source(tmp_path, **elements)


def test_without_identity_only_uids_and_sex_are_left(tmp_path: Path) -> None:
    source = make_source(tmp_path, with_identity=False)
    header = source.header
    empty = (
        "PatientName", "PatientID", "PatientBirthDate", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
        "ReferringPhysicianName",
    )  # fmt: skip
    assert [header[keyword].value or "" for keyword in empty] == [""] * len(empty)
    assert header.StudyInstanceUID == "1.2.3"
    assert header.PatientIdentityRemoved == "YES"


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize(("given", "kept"), [("20201301", ""), ("2020.3.4", ""), ("20200304", "20200304")])
def test_a_date_that_is_none_is_left_out(tmp_path: Path, given: str, kept: str) -> None:
    assert make_source(tmp_path, StudyDate=given).header.StudyDate == kept


@pytest.mark.parametrize(
    ("given", "named"), [("CHEST", "CHEST"), ("", "CHEST"), ("THORAX", "CHEST"), ("ANKLE", "ANKLE")]
)
def test_the_body_part_is_the_chest_unless_the_file_says_otherwise(
    tmp_path: Path, given: str, named: str
) -> None:
    assert make_source(tmp_path, BodyPartExamined=given).header.BodyPartExamined == named


@pytest.mark.filterwarnings("ignore:The (value|PN component) length")
def test_a_name_may_be_cut_and_a_number_may_not(tmp_path: Path) -> None:
    assert str(make_source(tmp_path, PatientName="A" * 60_000).header.PatientName) == "A" * 64
    source = make_source(tmp_path, PatientID="1" * 65)
    assert source.header.PatientID == ""
    assert source.changes == ("PatientID dropped, it has more than 64 characters",)


@pytest.mark.parametrize(
    ("charset", "name"),
    [("ISO_IR 100", "Müller^Jörg"), ("ISO_IR 192", "山田^太郎"), ("ISO_IR 144", "Люкceмбypг")],
)
def test_names_keep_their_letters(tmp_path: Path, charset: str, name: str) -> None:
    source = make_source(tmp_path, SpecificCharacterSet=charset, PatientName=name, ReferringPhysicianName="")
    assert str(source.header.PatientName) == name
    assert source.header.SpecificCharacterSet == "ISO_IR 192"
