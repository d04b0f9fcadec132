"""Dates, identity and completeness of the DICOM results of a folder."""

from datetime import UTC, datetime
from errno import ENOSPC
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from tests.conftest import bright_pixel_network, draw_case, write_model, write_radiograph
from tests.unit.pipeline.jobs.predictions import contents, predict

from pneumoseg.pipeline.cli.summaries import predict_summary
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.model.description import TunedPoint
from pneumoseg.pipeline.results.receipts import read_receipt

pytestmark = pytest.mark.usefixtures("plain_charts")

DICOM = ["seg", "sr", "sc"]
DATES = ("InstanceCreationDate", "ContentDate", "SeriesDate")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, datetime]:
    """A clock whose time is set under ``now``."""
    time = {"now": datetime(2026, 3, 4, 10, 20, 30, tzinfo=UTC)}
    monkeypatch.setattr("pneumoseg.pipeline.results.receipts.now", lambda: time["now"])
    return time


def results(folder: Path, kind: str) -> list[Dataset]:
    return [dcmread(path) for path in sorted((folder / "out" / kind).glob("*.dcm"))]


def other_model(folder: Path) -> Path:
    """The same network with another threshold."""
    point = TunedPoint(threshold=0.25, min_area_fraction=0)
    return write_model(folder / "other", bright_pixel_network(), point=point)


def test_results_carry_the_time_of_the_analysis(
    model_folder: Path, images: Path, tmp_path: Path, clock: dict[str, datetime]
) -> None:
    predict(model_folder, images, tmp_path, kinds=DICOM)
    for kind in DICOM:
        for result in results(tmp_path, kind):
            assert {result[keyword].value for keyword in DATES} == {"20260304"}
            assert (result.InstanceCreationTime, result.SeriesTime, result.ContentTime) == ("102030",) * 3
            assert result.TimezoneOffsetFromUTC == "+0000"
            assert not result.StudyDate  # the source has none
            assert "ContributingEquipmentSequence" in result


@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"kinds": [*DICOM, "png"]}])
def test_a_rerun_keeps_the_time_of_the_first(
    model_folder: Path, images: Path, tmp_path: Path, clock: dict[str, datetime], options: dict[str, Any]
) -> None:
    predict(model_folder, images, tmp_path, kinds=DICOM)
    first = contents(tmp_path)
    clock["now"] = datetime(2027, 1, 1, tzinfo=UTC)
    next((tmp_path / "out" / "seg").iterdir()).write_bytes(b"damaged")
    report, _ = predict(model_folder, images, tmp_path, **{"kinds": DICOM, **options})
    assert report.kept < 4
    again = contents(tmp_path)
    assert {name: again[name] for name in first if name.endswith(".dcm")} == {
        name: content for name, content in first.items() if name.endswith(".dcm")
    }


def test_a_changed_image_is_a_new_analysis(
    model_folder: Path, images: Path, tmp_path: Path, clock: dict[str, datetime]
) -> None:
    predict(model_folder, images, tmp_path, kinds=DICOM)
    write_radiograph(images / "case01.dcm", draw_case(3, positive=True)[0], SOPInstanceUID="1.2.1")
    clock["now"] = datetime(2027, 1, 1, tzinfo=UTC)
    predict(model_folder, images, tmp_path, kinds=DICOM)
    assert [result.ContentDate for result in results(tmp_path, "sr")].count("20270101") == 1
    assert not any("PredecessorDocumentsSequence" in result for result in results(tmp_path, "sr"))


def test_a_report_of_another_model_replaces_the_former_and_names_it(
    model_folder: Path, images: Path, tmp_path: Path, clock: dict[str, datetime]
) -> None:
    predict(model_folder, images, tmp_path, kinds=["sr"])
    former = results(tmp_path, "sr")
    clock["now"] = datetime(2027, 1, 1, tzinfo=UTC)
    model = other_model(tmp_path)
    for overwrite in (False, True):  # the second of which makes the same again
        predict(model, images, tmp_path, kinds=["sr"], overwrite=overwrite)
        for before, after in zip(former, results(tmp_path, "sr"), strict=True):
            series = after.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
            assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == before.SOPInstanceUID
            assert series.SeriesInstanceUID == before.SeriesInstanceUID
            for keyword in ("SeriesDescription", "SeriesNumber", "SeriesInstanceUID", "SOPInstanceUID"):
                assert before[keyword].value != after[keyword].value
            assert after.ContentDate == "20270101"


def test_another_kind_of_result_makes_no_report_its_own_predecessor(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    predict(model_folder, images, tmp_path, kinds=["sr"])
    before = contents(tmp_path)
    predict(model_folder, images, tmp_path, kinds=["sr", "png"])
    reports = {name: content for name, content in contents(tmp_path).items() if name.startswith("sr/")}
    assert reports == {name: content for name, content in before.items() if name.startswith("sr/")}


def test_what_a_forged_receipt_says_of_a_report_is_not_written(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    _, rows = predict(model_folder, images, tmp_path, kinds=["sr"])
    path = tmp_path / "out" / "receipts" / f"{rows[0]['name']}.json"
    receipt = read_receipt(tmp_path / "out", rows[0]["name"])
    assert receipt is not None
    assert receipt.report is not None
    path.write_text(path.read_text().replace(receipt.report["SOPInstanceUID"], "../../x"))
    predict(other_model(tmp_path), images, tmp_path, kinds=["sr"])
    result = dcmread(tmp_path / "out" / "sr" / f"{rows[0]['name']}.dcm")
    assert "PredecessorDocumentsSequence" not in result


@pytest.mark.parametrize(
    ("root", "start"), [(None, "2.25."), ("1.2.826.0.1.3680043.10.1", "1.2.826.0.1.3680043.10.1.")]
)
def test_uids_are_under_the_root(
    model_folder: Path, images: Path, tmp_path: Path, root: str | None, start: str
) -> None:
    predict(model_folder, images, tmp_path, kinds=DICOM, uid_root=root)
    for kind in DICOM:
        for result in results(tmp_path, kind):
            for uid in (result.SOPInstanceUID, result.SeriesInstanceUID):
                assert uid.startswith(start)
                assert uid.is_valid


@pytest.mark.parametrize("root", ["", "1", "1.02", "1.2.", "x", "1." + "2" * 40])
def test_a_text_that_is_no_root_is_a_usage_error(
    model_folder: Path, images: Path, tmp_path: Path, root: str
) -> None:
    with pytest.raises(UsageError, match="--uid-root"):
        predict(model_folder, images, tmp_path, uid_root=root)


@pytest.mark.usefixtures("unjudged")
def test_an_image_without_a_requested_object_counts_as_a_failure(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    Image.fromarray(draw_case(0, positive=True)[0]).save(images / "scan.png")
    report, _ = predict(model_folder, images, tmp_path, kinds=["seg", "png"])
    assert (report.refused, report.incomplete, report.exit_code) == (0, 1, 3)
    assert "1 images lack a DICOM result that was requested" in predict_summary(report)
    report, _ = predict(model_folder, images, tmp_path, kinds=["png"])
    assert (report.incomplete, report.exit_code) == (0, 0)


@pytest.mark.usefixtures("unjudged")
def test_a_picture_that_research_withholds_is_no_failure(model_folder: Path, tmp_path: Path) -> None:
    pixels = draw_case(0, positive=True)[0]
    write_radiograph(tmp_path / "images" / "a.dcm", pixels, BurnedInAnnotation="YES")
    report, rows = predict(model_folder, tmp_path / "images", tmp_path, kinds=["sc"], research=True)
    assert rows[0]["left_out"] == "sc: text is burned into the image"
    assert (report.incomplete, report.exit_code) == (0, 0)


@pytest.mark.filterwarnings("ignore:The (value|PN component) length")
def test_a_value_that_does_not_fit_is_reported_and_not_quoted(model_folder: Path, tmp_path: Path) -> None:
    pixels = draw_case(0, positive=True)[0]
    elements = {"AccessionNumber": "7" * 17, "PatientName": ["Doe^A", "B"]}
    write_radiograph(tmp_path / "images" / "a.dcm", pixels, **elements)
    report, rows = predict(model_folder, tmp_path / "images", tmp_path, kinds=DICOM)
    assert rows[0]["header"].split("; ") == [
        "PatientName: its backslash replaced by _",
        "AccessionNumber dropped, it has more than 16 characters",
    ]
    assert "1 images: AccessionNumber dropped, it has more than 16 characters" in predict_summary(report)
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file() and path.suffix != ".dcm":
            assert not any(text in path.read_bytes() for text in (b"7777", b"Doe"))
    for kind in DICOM:
        (result,) = results(tmp_path, kind)
        assert (str(result.PatientName), result.AccessionNumber) == ("Doe^A_B", "")


def test_a_character_set_that_is_none_of_dicom_stops_nothing(model_folder: Path, tmp_path: Path) -> None:
    pixels = draw_case(0, positive=True)[0]
    path = write_radiograph(
        tmp_path / "images" / "a.dcm", pixels, SpecificCharacterSet="ISO_IR 100", PatientName="MüLLER"
    )
    path.write_bytes(path.read_bytes().replace(b"ISO_IR 100", b"idna      "))
    report, rows = predict(model_folder, path.parent, tmp_path, kinds=DICOM)
    assert (report.incomplete, rows[0]["left_out"]) == (0, "")
    assert rows[0]["header"] == "PatientName: its letters guessed, SpecificCharacterSet does not fit them"
    assert {str(result.PatientName) for kind in DICOM for result in results(tmp_path, kind)} == {"MüLLER"}


@pytest.mark.parametrize(
    "maker", ["read_source", "dicom.sr.make_sr", "dicom.origin.save_dicom", "fhir.make_fhir"]
)
def test_a_header_that_surprises_costs_its_own_objects_only(
    model_folder: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, maker: str
) -> None:
    predict(model_folder, images, tmp_path, kinds=["sr", "fhir"])
    module = "writing" if maker == "read_source" else maker.rpartition(".")[0]
    name = maker.rpartition(".")[2]
    real = getattr(import_module(f"pneumoseg.pipeline.results.{module}"), name)
    calls = 0

    def fail_once(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise AssertionError("SECRET")
        return real(*arguments, **options)

    monkeypatch.setattr(f"pneumoseg.pipeline.results.{module}.{name}", fail_once)
    report, rows = predict(model_folder, images, tmp_path, kinds=["sr", "fhir"], overwrite=True)
    assert (report.incomplete, report.exit_code, calls > 1) == (1, 3, True)
    (left_out,) = [row["left_out"] for row in rows if row["left_out"]]
    assert "its header cannot be used (AssertionError)" in left_out
    assert "SECRET" not in left_out
    written = len(list((tmp_path / "out").glob("*/*.dcm"))) + len(list((tmp_path / "out" / "fhir").iterdir()))
    assert written == 2 * len(rows) - left_out.count(
        "(AssertionError)"
    )  # no object of the earlier run is left


def test_a_full_disk_is_no_matter_of_a_header(
    model_folder: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr("pneumoseg.pipeline.results.dicom.origin.save_dicom", fail)
    with pytest.raises(OSError, match="No space"):
        predict(model_folder, images, tmp_path, kinds=["sr"])


def test_mask_and_segments_agree(model_folder: Path, images: Path, tmp_path: Path) -> None:
    _, rows = predict(model_folder, images, tmp_path, kinds=["seg", "png"])
    for row, result in zip(rows, results(tmp_path, "seg"), strict=True):
        with Image.open(tmp_path / "out" / "masks" / f"{row['name']}.png") as picture:
            frames = result.pixel_array.reshape(-1, *np.asarray(picture).shape)
            np.testing.assert_array_equal(frames.max(axis=0), np.asarray(picture) // 255)
