import csv
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from tests.conftest import SHAPE, Collection, draw_case, write_radiograph

from pneumoseg.pipeline.errors import JobError, UsageError
from pneumoseg.pipeline.predict import PredictReport, predict_folder
from pneumoseg.transforms.gates import Gates


@pytest.fixture
def images(collection: Collection, tmp_path: Path) -> Path:
    """Radiographs that a test may add to: cases 0 and 1 with, 6 and 7 without a pneumothorax."""
    (tmp_path / "images").mkdir()
    for number in (0, 1, 6, 7):
        shutil.copy(collection.images / f"case{number:02}.dcm", tmp_path / "images")
    return tmp_path / "images"


def predict(
    model: Path, images: Path, folder: Path, **options: Any
) -> tuple[PredictReport, list[dict[str, str]]]:
    options = {"device": "cpu", "workers": 0, **options}
    report = predict_folder(model, images, folder / "out", **options)
    with (folder / "out" / "predictions.csv").open(newline="") as file:
        return report, list(csv.DictReader(file))


def files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder / "out").as_posix()
        for path in (folder / "out").rglob("*") if path.is_file() and not path.name.startswith(".pneumoseg")
    )  # fmt: skip


def test_every_image_has_a_row_in_the_order_of_the_folder(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    report, rows = predict(model_folder, images, tmp_path)
    assert [row["image"] for row in rows] == ["case00.dcm", "case01.dcm", "case06.dcm", "case07.dcm"]
    assert [row["decision"] for row in rows] == ["positive", "positive", "negative", "negative"]
    assert (report.segmented, report.called_positive, report.exit_code) == (4, 2, 0)


def test_a_row_has_area_and_spacing(model_folder: Path, images: Path, tmp_path: Path) -> None:
    _, rows = predict(model_folder, images, tmp_path)
    assert (rows[0]["area_px"], rows[0]["area_mm2"]) == ("80", "10")  # 80 pixels of 0.5 x 0.25 mm
    assert (rows[0]["rows"], rows[0]["columns"]) == ("48", "32")
    assert (rows[0]["spacing_row_mm"], rows[0]["spacing_column_mm"]) == ("0.5", "0.25")
    assert rows[2]["area_px"] == "0"


def test_the_probability_agrees_with_the_decision(model_folder: Path, images: Path, tmp_path: Path) -> None:
    _, rows = predict(model_folder, images, tmp_path)
    assert [float(row["probability"]) > 0.5 for row in rows] == [True, True, False, False]


def test_an_image_has_a_mask_a_nifti_file_and_an_overlay(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    _, rows = predict(model_folder, images, tmp_path)
    name, mask = rows[0]["name"], draw_case(0, positive=True)[1]
    with Image.open(tmp_path / "out" / "masks" / f"{name}.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), mask * 255)
    nifti = np.asarray(
        nib.nifti1.Nifti1Image.from_filename(tmp_path / "out" / "nifti" / f"{name}.nii.gz").dataobj
    )
    np.testing.assert_array_equal(nifti[:, 0, :].T, mask)
    with Image.open(tmp_path / "out" / "overlays" / f"{name}.png") as picture:
        assert picture.size == (SHAPE[1], SHAPE[0])


@pytest.mark.parametrize(
    ("kinds", "folders"),
    [(["csv"], set()), (["png"], {"masks"}), (["nifti", "overlay"], {"nifti", "overlays"})],
)
def test_only_what_is_asked_for_is_written(
    model_folder: Path, images: Path, tmp_path: Path, kinds: list[str], folders: set[str]
) -> None:
    predict(model_folder, images, tmp_path, kinds=kinds)
    assert {name.partition("/")[0] for name in files(tmp_path)} == {"predictions.csv", *folders}


def test_an_unknown_kind_is_a_usage_error_that_says_what_would_fit(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="csv, png, nifti, overlay"):
        predict(model_folder, images, tmp_path, kinds=["seg"])


def test_a_refused_file_has_a_row_with_its_reason(model_folder: Path, images: Path, tmp_path: Path) -> None:
    (images / "broken.dcm").write_bytes(b"broken")
    report, rows = predict(model_folder, images, tmp_path)
    row = rows[0]
    assert (row["image"], row["status"], row["reason"]) == ("broken.dcm", "refused", "NOT_DICOM")
    assert (row["decision"], row["probability"]) == ("", "")
    assert (report.segmented, report.refused, report.exit_code) == (4, 1, 3)


def test_a_lateral_view_is_skipped_with_its_reason(model_folder: Path, images: Path, tmp_path: Path) -> None:
    write_radiograph(images / "lateral.dcm", draw_case(0, positive=True)[0], ViewPosition="LL")
    report, rows = predict(model_folder, images, tmp_path)
    assert (rows[-1]["status"], rows[-1]["reason"]) == ("skipped", "WRONG_VIEW")
    assert (report.refused, report.exit_code) == (0, 0)


def test_one_uid_in_two_files_gives_two_results(model_folder: Path, images: Path, tmp_path: Path) -> None:
    write_radiograph(images / "other" / "a.dcm", draw_case(4, positive=True)[0], SOPInstanceUID="1.2.0")
    _, rows = predict(model_folder, images, tmp_path, kinds=["png"])
    same = [row for row in rows if row["sop_instance_uid"] == "1.2.0"]
    assert [row["name"] for row in same] == ["1.2.0", "1.2.0-2"]
    for row, number in zip(same, (0, 4), strict=True):
        with Image.open(tmp_path / "out" / "masks" / f"{row['name']}.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture) // 255, draw_case(number, positive=True)[1])


def test_names_that_differ_in_case_only_do_not_meet(model_folder: Path, images: Path, tmp_path: Path) -> None:
    for name in ("scan", "SCAN", "scan-2"):
        Image.fromarray(draw_case(0, positive=True)[0]).save(images / f"{name}.png")
    _, rows = predict(model_folder, images, tmp_path)
    names = [row["name"].casefold() for row in rows]
    assert len(set(names)) == len(names) == 7


def test_a_hostile_file_name_stays_in_its_folder_and_in_its_cell(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    Image.fromarray(draw_case(0, positive=True)[0]).save(images / "=cmd|' & ..\n.png")
    _, rows = predict(model_folder, images, tmp_path)
    row = next(row for row in rows if "cmd" in row["image"])
    assert row["image"].startswith("'=")
    assert "\n" not in row["image"]
    assert (tmp_path / "out" / "masks" / f"{row['name']}.png").is_file()


def test_a_file_name_that_is_not_unicode_has_its_row(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    shutil.copy(bytes(images / "case00.dcm"), bytes(images) + b"/caf\xe9.dcm")
    _, rows = predict(model_folder, images, tmp_path)
    assert any(row["image"] == "caf\\udce9.dcm" and row["status"] == "segmented" for row in rows)


def test_no_picture_is_made_of_an_image_with_text_in_it(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    write_radiograph(
        images / "named.dcm",
        draw_case(2, positive=True)[0],
        SOPInstanceUID="1.2.77",
        BurnedInAnnotation="YES",
    )
    _, rows = predict(model_folder, images, tmp_path)
    assert "BURNED_IN" in rows[-1]["reason"].split()
    assert not (tmp_path / "out" / "overlays" / "1.2.77.png").exists()
    assert (tmp_path / "out" / "masks" / "1.2.77.png").exists()


def test_a_picture_is_made_of_text_that_is_said_to_be_harmless(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    pixels = draw_case(2, positive=True)[0]
    write_radiograph(images / "named.dcm", pixels, SOPInstanceUID="1.2.77", BurnedInAnnotation="YES")
    _, rows = predict(model_folder, images, tmp_path, gates=Gates(allow_burned_in=True))
    assert "BURNED_IN" not in rows[-1]["reason"].split()
    assert (tmp_path / "out" / "overlays" / "1.2.77.png").exists()


def test_results_inside_the_folder_are_not_segmented_themselves(model_folder: Path, images: Path) -> None:
    for _ in range(2):
        report, rows = predict(model_folder, images, images, overwrite=True)
    assert (report.segmented, len(rows)) == (4, 4)


def test_a_folder_cannot_hold_its_own_results(model_folder: Path, images: Path) -> None:
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"not empty|not an earlier result"):
            predict_folder(model_folder, images, images, workers=0, overwrite=overwrite)


def test_any_number_of_workers_writes_the_same_bytes(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    (images / "broken.dcm").write_bytes(b"broken")
    results = set()
    for workers in (0, 1, 2):
        predict(model_folder, images, tmp_path, workers=workers, overwrite=True)
        results.add(tuple((name, (tmp_path / "out" / name).read_bytes()) for name in files(tmp_path)))
    assert len(results) == 1


def test_a_single_file_can_be_predicted(model_folder: Path, images: Path, tmp_path: Path) -> None:
    _, rows = predict(model_folder, images / "case00.dcm", tmp_path)
    assert [row["image"] for row in rows] == ["case00.dcm"]


def test_no_patient_id_gets_into_the_results(model_folder: Path, images: Path, tmp_path: Path) -> None:
    write_radiograph(
        images / "named.dcm", draw_case(2, positive=True)[0], PatientID="SECRET7", PatientName="DOE^J"
    )
    predict(model_folder, images, tmp_path)
    for name in files(tmp_path):
        content = (tmp_path / "out" / name).read_bytes()
        assert b"SECRET7" not in content
        assert b"DOE" not in content


def test_a_folder_without_radiographs_is_an_error_and_makes_no_folder(
    model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(JobError, match="no DICOM or PNG"):
        predict(model_folder, tmp_path / "empty", tmp_path)
    assert not (tmp_path / "out").exists()


def test_earlier_results_are_not_written_over(model_folder: Path, images: Path, tmp_path: Path) -> None:
    predict(model_folder, images, tmp_path)
    with pytest.raises(UsageError, match="--overwrite"):
        predict(model_folder, images, tmp_path)
