import errno
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from tests.conftest import draw_case, write_radiograph
from tests.unit.pipeline.jobs.predictions import predict

from pneumoseg.pipeline.phantom.rendering import render_phantom
from pneumoseg.pipeline.results.settings import CLINICAL_KINDS, KINDS

pytestmark = pytest.mark.usefixtures("plain_charts")

PLANTED: dict[str, Any] = {
    "PatientName": "PLANTED01^A",
    "PatientID": "PLANTED02",
    "OtherPatientIDs": "PLANTED03",
    "PatientComments": "PLANTED04",
    "StudyDescription": "PLANTED05",
    "SeriesDescription": "PLANTED06",
    "AccessionNumber": "PLANTED07",
    "StudyID": "PLANTED08",
    "ReferringPhysicianName": "PLANTED09",
    "InstitutionName": "PLANTED10",
    "OperatorsName": "PLANTED11",
    "StationName": "PLANTED12",
    "ImageComments": "PLANTED13",
    "RequestedProcedureDescription": "PLANTED14",
    "DeviceSerialNumber": "PLANTED15",
    "PatientAddress": "PLANTED16",
    "IssuerOfPatientID": "PLANTED17",
    "PatientBirthDate": "19230405",
    "StudyDate": "19870605",
    "StudyTime": "135724",
}
SECRETS = ("PLANTED", "19230405", "19870605", "135724")


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """Radiographs that say PLANTED in 20 tags, a private one, their names and their folder; one is refused for it."""
    folder = tmp_path / "PLANTED18" / "images"
    pixels = draw_case(0, positive=True)[0]
    path = write_radiograph(folder / "PLANTED19.dcm", pixels, SOPInstanceUID="1.2.0", **PLANTED)
    data = dcmread(path)
    data.private_block(0x0011, "PLANTED20", create=True).add_new(1, "LO", "PLANTED21")
    data.save_as(path)
    write_radiograph(folder / "PLANTED22.dcm", pixels, **{**PLANTED, "ViewPosition": "PLANTED23"})
    write_radiograph(folder / "PLANTED24.dcm", pixels, SOPInstanceUID="1.2.1", **PLANTED, PixelSpacing=[0, 0])
    Image.fromarray(pixels).save(folder / "PLANTED25.png")
    (folder / "PLANTED26.dcm").write_bytes(b"PLANTED27")
    write_radiograph(
        folder / "PLANTED28.dcm", pixels, SOPInstanceUID="1.2.2", BurnedInAnnotation="YES", **PLANTED
    )
    return folder


def found_in(folder: Path) -> set[str]:
    """Where a planted string stands: in a name, in content, in what gzip has packed."""
    found = set()
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        if path.suffix == ".gz":
            content += gzip.decompress(content)
        if any(secret in path.name or secret.encode() in content for secret in SECRETS):
            found.add(path.relative_to(folder).as_posix())
    return found


@pytest.mark.slow
def test_nothing_of_a_person_gets_into_research_results(
    model_folder: Path, planted: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for workers in (0, 1):
        report, rows = predict(
            model_folder,
            planted,
            tmp_path,
            kinds=KINDS,
            dropout_passes=2,
            research=True,
            workers=workers,
            overwrite=True,
        )
        assert (report.segmented, report.refused, len(rows)) == (4, 1, 6)
        assert found_in(tmp_path / "out") == set()
    assert not any(secret in text for text in capfd.readouterr() for secret in SECRETS)
    by_name = {row["name"]: row for row in rows}
    assert {row["image"] for row in rows} >= {"1.2.0", "1.2.1", "1.2.2"}
    assert (tmp_path / "out" / "seg" / "1.2.0.dcm").is_file()
    assert set(by_name["1.2.2"]["left_out"].split("; ")) == {
        f"{kind}: text is burned into the image" for kind in ("sc", "overlay", "attention")
    }


def test_otherwise_the_dicom_results_alone_keep_what_filing_needs(
    model_folder: Path, planted: Path, tmp_path: Path
) -> None:
    predict(model_folder, planted, tmp_path, kinds=KINDS, dropout_passes=2)
    found = found_in(tmp_path / "out")
    # tables name the files by their paths, and quote the view that was refused, as receipts do
    named = {
        name for name in found if name.startswith(("predictions", "receipts", "report")) or "PLANTED" in name
    }
    assert {name.partition("/")[0] for name in found - named} == set(CLINICAL_KINDS)
    result = dcmread(tmp_path / "out" / "seg" / "1.2.0.dcm")
    assert (result.PatientID, result.StudyDate, result.AccessionNumber) == (
        "PLANTED02",
        "19870605",
        "PLANTED07",
    )
    text = str(result)
    assert not any(f"PLANTED{number:02}" in text for number in (3, 4, 6, 11, 12, 13, 14, 15, 16, 20, 21))


def test_the_log_holds_no_identifier(model_folder: Path, planted: Path, tmp_path: Path) -> None:
    predict(model_folder, planted, tmp_path)
    log = (tmp_path / "out" / "run.log").read_text()
    assert "PLANTED" not in log
    assert "1.2.0" not in log
    assert "segmented 4" in log
    assert log.rstrip().endswith("end")


def test_the_log_tells_how_a_run_ended(
    model_folder: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "PLANTED")

    monkeypatch.setattr("pneumoseg.pipeline.jobs.predict.write_tables", fail)
    with pytest.raises(OSError, match="PLANTED"):
        predict(model_folder, images, tmp_path)
    log = (tmp_path / "out" / "run.log").read_text()
    assert log.rstrip().endswith("ended by OSError")
    assert "PLANTED" not in log


@pytest.mark.parametrize("research", [False, True])
def test_a_picture_that_looks_turned_is_to_be_reviewed_and_not_negative(
    model_folder: Path, tmp_path: Path, research: bool
) -> None:
    upside_down = (255 * render_phantom(0, size=128).image[::-1]).round().astype(np.uint8)
    write_radiograph(tmp_path / "images" / "a.dcm", upside_down, PixelSpacing=[1.2, 1.2])
    report, (row,) = predict(model_folder, tmp_path / "images", tmp_path, kinds=[], research=research)
    assert (row["status"], row["decision"], row["rle"]) == ("review", "indeterminate", "-1")
    assert (report.segmented, report.review, report.exit_code) == (1, 1, 3)
    assert row["reason"] == "LOOKS_TURNED"
    assert row["sentence"].endswith("To be reviewed by a person, since the image looks turned.")
    again, _ = predict(model_folder, tmp_path / "images", tmp_path, kinds=[], research=research)
    assert (again.kept, again.review, again.exit_code) == (1, 1, 3)
    assert ("upside down" in row["detail"]) != research


def test_a_turned_picture_with_the_right_tag_needs_no_review(model_folder: Path, tmp_path: Path) -> None:
    upside_down = (255 * render_phantom(0, size=128).image[::-1, ::-1]).round().astype(np.uint8)
    file = tmp_path / "images" / "a.dcm"
    write_radiograph(file, upside_down, PixelSpacing=[1.2, 1.2], PatientOrientation=["R", "H"])
    _, (row,) = predict(model_folder, tmp_path / "images", tmp_path, kinds=[])
    assert (row["status"], row["reason"]) == ("segmented", "")


def test_an_outline_upon_a_turned_picture_is_positive_and_to_be_reviewed(
    model_folder: Path, tmp_path: Path
) -> None:
    upside_down = (180 * render_phantom(0, size=128).image[::-1]).round().astype(np.uint8)
    upside_down[60:80, 20:40] = 250  # what the network takes for a pneumothorax
    write_radiograph(tmp_path / "images" / "a.dcm", upside_down, PixelSpacing=[1.2, 1.2])
    _, (row,) = predict(model_folder, tmp_path / "images", tmp_path, kinds=[])
    assert (row["status"], row["decision"]) == ("review", "positive")
    assert row["sentence"].startswith("Pneumothorax suspected")
