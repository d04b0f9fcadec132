import csv
import errno
import gzip
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from tests.conftest import (
    SHAPE,
    Collection,
    bright_pixel_network,
    draw_case,
    write_model,
    write_radiograph,
)
from torch import Tensor

from pneumoseg.models import AttentionUNet, NetworkOutputs
from pneumoseg.pipeline.cli.summaries import predict_summary
from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.core.files import locked
from pneumoseg.pipeline.jobs.predict import PredictReport, predict_folder
from pneumoseg.pipeline.model.card import save_description
from pneumoseg.pipeline.model.description import (
    ObjectivePoint,
    OperatingPointSearch,
    TunedPoint,
    read_description,
)
from pneumoseg.pipeline.phantom.draw import draw_phantom
from pneumoseg.pipeline.results.output_folder import claimed
from pneumoseg.pipeline.results.planning import Part
from pneumoseg.pipeline.results.settings import KINDS
from pneumoseg.transforms import decode_rle
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters


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


def searched_model(folder: Path, temperature: float | None = None) -> Path:
    """The model of bright blocks, with a search that knows a point which calls nothing, and a temperature."""
    model = write_model(folder, bright_pixel_network())
    blind = TunedPoint(threshold=0.5, min_area_fraction=0.9)
    search = OperatingPointSearch(
        cases=4,
        objectives={"specificity": ObjectivePoint(point=blind, dice=0.5, sensitivity=0.0, specificity=1.0)},
        curve=(),
        cross_fitted=None,
        temperature=temperature,
    )
    save_description(model, read_description(model).model_copy(update={"operating_point_search": search}))
    return model


def files(folder: Path) -> list[str]:
    """All results; not the receipts, the report and the log that are there in any case."""
    paths = [path.relative_to(folder / "out") for path in (folder / "out").rglob("*") if path.is_file()]
    return sorted(
        path.as_posix() for path in paths
        if not path.name.startswith((".", "run", "report")) and path.parts[0] not in {"receipts", ".parts"}
    )  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / "out" / name).read_bytes() for name in files(folder)}


def test_every_image_has_a_row_in_the_order_of_the_folder(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    report, rows = predict(model_folder, images, tmp_path)
    assert [row["image"] for row in rows] == ["case00.dcm", "case01.dcm", "case06.dcm", "case07.dcm"]
    assert [row["decision"] for row in rows] == ["positive", "positive", "negative", "negative"]
    assert (report.segmented, report.predicted_positive, report.exit_code) == (4, 2, 0)


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
    [
        (["csv"], set()),
        (["json"], {"predictions.json"}),
        (["png"], {"masks"}),
        (["nifti", "overlay"], {"nifti", "overlays"}),
        (["seg", "sr", "sc"], {"seg", "sr", "sc"}),
        (["attention", "probability"], {"attention", "probabilities"}),
    ],
)
def test_only_what_is_asked_for_is_written(
    model_folder: Path, images: Path, tmp_path: Path, kinds: list[str], folders: set[str]
) -> None:
    predict(model_folder, images, tmp_path, kinds=kinds)
    assert {name.partition("/")[0] for name in files(tmp_path)} == {"predictions.csv", *folders}


def test_an_unknown_kind_is_a_usage_error_that_says_what_would_fit(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        UsageError, match="csv, json, png, nifti, seg, sr, sc, overlay, attention, probability"
    ):
        predict(model_folder, images, tmp_path, kinds=["dicom"])


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
    _, rows = predict(model_folder, images, tmp_path, acceptance=AcceptanceFilters(allow_burned_in=True))
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
        results.add(tuple(contents(tmp_path).items()))
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


def test_the_results_of_another_command_are_not_written_over(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep me")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="not an earlier result"):
            predict(model_folder, images, tmp_path, overwrite=overwrite)
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep me"


def test_a_model_inside_the_results_is_not_deleted_with_them(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    predict(model_folder, images, tmp_path)
    shutil.copytree(model_folder, tmp_path / "out" / "model")
    with pytest.raises(UsageError, match="would be emptied"):
        predict(tmp_path / "out" / "model", images, tmp_path, overwrite=True)


# what is written


def test_the_run_lengths_are_those_of_the_mask(model_folder: Path, images: Path, tmp_path: Path) -> None:
    _, rows = predict(model_folder, images, tmp_path)
    np.testing.assert_array_equal(decode_rle(rows[0]["rle"], SHAPE), draw_case(0, positive=True)[1])
    assert rows[2]["rle"] == "-1"


def test_the_manifest_of_a_run_tells_of_what_and_how(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    (images / "broken.dcm").write_bytes(b"broken")
    predict(model_folder, images, tmp_path, kinds=["json", "png"])
    told = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert (told["statuses"], told["reasons"]) == ({"refused": 1, "segmented": 4}, {"NOT_DICOM": 1})
    assert told["operating_point"]["threshold"] == 0.5
    image = told["images"][1]
    assert image["input_sha256"] == hashlib.sha256((images / "case00.dcm").read_bytes()).hexdigest()
    mask = tmp_path / "out" / "masks" / f"{image['name']}.png"
    assert image["outputs"] == {f"masks/{image['name']}.png": hashlib.sha256(mask.read_bytes()).hexdigest()}
    # 8 rows of 10 pixels, from (4, 2), of 0.5 x 0.25 mm
    (component,) = image["components"]
    assert (component["area_mm2"], component["width_mm"], component["height_mm"]) == (10, 2.5, 4)
    assert component["box"] == [4, 2, 12, 12]
    assert image["side"] == "right"
    assert "longest horizontal run" in told["methods"]["width"]
    assert str(tmp_path) not in (tmp_path / "out" / "predictions.json").read_text()


def test_segmentations_hold_the_same_mask(model_folder: Path, images: Path, tmp_path: Path) -> None:
    _, rows = predict(model_folder, images, tmp_path, kinds=["seg", "sr", "sc"])
    for row, number in ((rows[0], 0), (rows[2], 6)):
        segmentation = hd.seg.segread(tmp_path / "out" / "seg" / f"{row['name']}.dcm")
        mask = draw_case(number, positive=number < 6)[1]
        np.testing.assert_array_equal(segmentation.pixel_array, mask)
        assert hd.sr.srread(tmp_path / "out" / "sr" / f"{row['name']}.dcm").PatientID == "id" + str(number)
        assert dcmread(tmp_path / "out" / "sc" / f"{row['name']}.dcm").pixel_array.shape == (*SHAPE, 3)


def test_probabilities_and_attention_have_the_size_of_the_image(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    _, rows = predict(model_folder, images, tmp_path, kinds=["probability", "attention"])
    with Image.open(tmp_path / "out" / "probabilities" / f"{rows[0]['name']}.png") as picture:
        probabilities = np.asarray(picture) / 65535
    np.testing.assert_array_equal(probabilities > 0.5, draw_case(0, positive=True)[1])
    with Image.open(tmp_path / "out" / "attention" / f"{rows[0]['name']}.png") as picture:
        assert (picture.size, picture.mode) == ((SHAPE[1], SHAPE[0]), "RGB")


def test_an_aim_of_the_model_decides(collection: Collection, images: Path, tmp_path: Path) -> None:
    model = searched_model(tmp_path / "model")
    assert predict(model, images, tmp_path)[0].predicted_positive == 2
    report, _ = predict(model, images, tmp_path, aim="specificity")
    assert (report.predicted_positive, report.kept) == (0, 0)
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["settings"]["aim"] == "specificity"


def test_augmentations_make_all_anew(model_folder: Path, images: Path, tmp_path: Path) -> None:
    predict(model_folder, images, tmp_path)
    assert predict(model_folder, images, tmp_path, tta=["flip"])[0].kept == 0
    assert predict(model_folder, images, tmp_path, tta=["flip"])[0].kept == 4


def test_calibrated_probabilities_are_at_the_models_temperature_and_masks_stay(
    images: Path, tmp_path: Path
) -> None:
    model = searched_model(tmp_path / "model", temperature=2.0)
    kinds = ["csv", "png", "probability"]
    _, plain = predict(model, images, tmp_path / "plain", kinds=kinds)
    _, rows = predict(model, images, tmp_path, kinds=kinds, calibrated=True)
    for row, before in zip(rows, plain, strict=True):
        odds = [float(each["probability"]) / (1 - float(each["probability"])) for each in (row, before)]
        assert odds[0] ** 2 == pytest.approx(odds[1], rel=1e-2)  # a logit halved
        assert (row["rle"], row["decision"]) == (before["rle"], before["decision"])
        highest, at_one = (
            np.asarray(Image.open(folder / "out" / "probabilities" / f"{row['name']}.png")).max() / 65535
            for folder in (tmp_path, tmp_path / "plain")
        )
        assert float(row["probability"]) == pytest.approx(highest, abs=1e-4)
        assert float(before["probability"]) == pytest.approx(at_one, abs=1e-4)


def test_a_model_without_a_temperature_cannot_be_calibrated(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="--calibrated"):
        predict(model_folder, images, tmp_path, calibrated=True)


def test_dropout_gives_each_image_a_number_and_a_map_of_how_unsure_it_is(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    kinds = ["csv", "json", "uncertainty"]
    _, rows = predict(model_folder, images, tmp_path, kinds=kinds, dropout_passes=4)
    told = json.loads((tmp_path / "out" / "predictions.json").read_text())
    for row, image in zip(rows, told["images"], strict=True):
        assert 0 <= float(row["uncertainty"]) < 0.71
        assert image["uncertainty"] == pytest.approx(float(row["uncertainty"]), rel=1e-5)
        picture = np.asarray(Image.open(tmp_path / "out" / "uncertainty" / f"{row['name']}.png"))
        assert picture.shape == SHAPE
        if row["decision"] == "positive":  # a bright pixel is dropped in one pass and found in another
            assert picture.max() > 20
    assert "standard deviation" in told["methods"]["uncertainty"]


def test_uncertainty_does_not_depend_on_what_else_lies_in_the_folder(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    kinds = ["uncertainty", "probability"]
    predict(model_folder, images, tmp_path / "all", kinds=kinds, dropout_passes=3)
    (images / "case00.dcm").unlink()
    (images / "broken.dcm").write_bytes(b"broken")
    predict(model_folder, images, tmp_path, kinds=kinds, dropout_passes=3)
    less, more = contents(tmp_path), contents(tmp_path / "all")
    pictures = [name for name in less if name.endswith(".png")]
    assert len(pictures) == 6
    assert all(less[name] == more[name] for name in pictures)


def test_without_dropout_there_is_no_uncertainty(model_folder: Path, images: Path, tmp_path: Path) -> None:
    assert {row["uncertainty"] for row in predict(model_folder, images, tmp_path)[1]} == {""}
    with pytest.raises(UsageError, match="--type uncertainty needs --dropout-passes"):
        predict(model_folder, images, tmp_path, kinds=["uncertainty"])


def test_a_png_has_no_dicom_result_and_its_row_says_why(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.fromarray(draw_case(0, positive=True)[0]).save(tmp_path / "images" / "scan.png")
    report, rows = predict(model_folder, tmp_path / "images", tmp_path, kinds=["seg", "sr", "png"])
    assert rows[0]["left_out"] == "seg: the image is not DICOM; sr: the image is not DICOM"
    assert (rows[0]["area_mm2"], rows[0]["width_mm"]) == ("", "")
    assert files(tmp_path) == ["masks/scan.png", "predictions.csv"]
    assert report.left_out.total() == 2
    assert "1 images without sr: the image is not DICOM" in predict_summary(report)


# going on


def test_a_second_run_keeps_what_is_there(model_folder: Path, images: Path, tmp_path: Path) -> None:
    (images / "broken.dcm").write_bytes(b"broken")
    first, _ = predict(model_folder, images, tmp_path)
    before = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in files(tmp_path)}
    second, rows = predict(model_folder, images, tmp_path)
    assert (first.kept, second.kept, second.segmented, second.exit_code) == (0, 4, 4, 3)
    assert "4 of them had their results from an earlier run" in predict_summary(second)
    assert len(rows) == 5
    changed = [name for name in before if (tmp_path / "out" / name).stat().st_mtime_ns != before[name]]
    assert changed == ["predictions.csv", "predictions.json"]


@pytest.mark.parametrize("damage", ["cut", "gone", "receipt"])
def test_a_result_that_is_not_whole_is_made_again(
    model_folder: Path, images: Path, tmp_path: Path, damage: str
) -> None:
    _, rows = predict(model_folder, images, tmp_path)
    good = contents(tmp_path)
    mask = tmp_path / "out" / "masks" / f"{rows[1]['name']}.png"
    if damage == "cut":
        mask.write_bytes(mask.read_bytes()[:-1])
    elif damage == "gone":
        mask.unlink()
    else:
        (tmp_path / "out" / "receipts" / f"{rows[1]['name']}.json").write_text("{")
    report, _ = predict(model_folder, images, tmp_path)
    assert report.kept == 3
    assert contents(tmp_path) == good


def test_a_changed_file_is_segmented_again(model_folder: Path, images: Path, tmp_path: Path) -> None:
    predict(model_folder, images, tmp_path)
    write_radiograph(images / "case01.dcm", draw_case(3, positive=True)[0], SOPInstanceUID="1.2.1")
    report, rows = predict(model_folder, images, tmp_path)
    assert report.kept == 3
    with Image.open(tmp_path / "out" / "masks" / f"{rows[1]['name']}.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture) // 255, draw_case(3, positive=True)[1])


def test_another_threshold_or_other_settings_do_all_again(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    predict(model_folder, images, tmp_path)
    other = write_model(
        tmp_path / "model", bright_pixel_network(), point=TunedPoint(threshold=0.25, min_area_fraction=0)
    )
    assert predict(other, images, tmp_path)[0].kept == 0
    assert predict(other, images, tmp_path)[0].kept == 4
    assert predict(other, images, tmp_path, acceptance=AcceptanceFilters(any_view=True))[0].kept == 0


def test_results_of_kinds_and_files_that_are_not_asked_for_any_more_are_gone(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    predict(model_folder, images, tmp_path, kinds=["png", "nifti"])
    (images / "case07.dcm").unlink()
    _, rows = predict(model_folder, images, tmp_path, kinds=["png"])
    assert files(tmp_path) == [*sorted(f"masks/{row['name']}.png" for row in rows), "predictions.csv"]


def test_tables_of_other_settings_are_gone_before_the_first_result_changes(
    model_folder: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(model_folder, images, tmp_path, kinds=["csv", "json"])

    def stop(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "stopped")

    monkeypatch.setattr("pneumoseg.pipeline.jobs.predict.withdraw", stop)  # of the first result
    with pytest.raises(OSError, match="stopped"):
        predict(model_folder, images, tmp_path, kinds=["csv"])
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert not left & {"predictions.csv", "predictions.json", "report.html"}


def test_a_table_that_is_not_asked_for_any_more_is_gone(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    predict(model_folder, images, tmp_path, kinds=["csv", "json"])
    predict(model_folder, images, tmp_path, kinds=["csv"])
    assert files(tmp_path) == ["predictions.csv"]


def test_a_part_with_another_threshold_leaves_no_table_of_the_first(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    predict(model_folder, images, tmp_path)
    point = TunedPoint(threshold=0.25, min_area_fraction=0)
    other = write_model(tmp_path / "model", bright_pixel_network(), point=point)
    predict_folder(other, images, tmp_path / "out", device="cpu", workers=0, part=Part(0, 2))
    assert not (tmp_path / "out" / "predictions.csv").exists()


def test_a_folder_in_use_is_refused(model_folder: Path, images: Path, tmp_path: Path) -> None:
    predict(model_folder, images, tmp_path)
    for overwrite in (False, True):
        with locked(tmp_path / "out"), pytest.raises(JobError, match="in use by another process"):
            predict(model_folder, images, tmp_path, overwrite=overwrite)


def test_a_full_disk_is_told_and_leaves_nothing_half_written(
    model_folder: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(model_folder, images, tmp_path / "whole")
    really, room = os.fsync, iter(range(7))

    def fsync(descriptor: int) -> None:
        if next(room, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        really(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left"):
        predict(model_folder, images, tmp_path)
    monkeypatch.undo()
    whole = contents(tmp_path / "whole")
    half = contents(tmp_path)
    assert 0 < len(half) < len(whole)
    assert half.items() <= whole.items()
    predict(model_folder, images, tmp_path)
    assert contents(tmp_path) == whole


def test_what_a_killed_run_was_writing_is_removed(model_folder: Path, images: Path, tmp_path: Path) -> None:
    predict(model_folder, images, tmp_path)
    (tmp_path / "out" / "masks" / ".writing-0123.png").write_bytes(b"half")
    predict(model_folder, images, tmp_path)
    assert not list((tmp_path / "out").rglob(".writing*"))


# parts


def test_parts_make_together_what_one_run_makes(model_folder: Path, images: Path, tmp_path: Path) -> None:
    (images / "broken.dcm").write_bytes(b"broken")
    write_radiograph(images / "other" / "a.dcm", draw_case(4, positive=True)[0], SOPInstanceUID="1.2.0")
    predict(model_folder, images, tmp_path / "whole", kinds=KINDS, dropout_passes=2)
    reports = []
    for number in (2, 0, 1):
        assert not (tmp_path / "out" / "predictions.csv").exists()
        reports.append(
            predict_folder(
                model_folder,
                images,
                tmp_path / "out",
                device="cpu",
                workers=0,
                kinds=KINDS,
                dropout_passes=2,
                part=Part(number, 3),
            )
        )
    assert contents(tmp_path) == contents(tmp_path / "whole")
    assert [report.has_tables for report in reports] == [False, False, True]
    assert [report.segmented for report in reports] == [2, 1, 2]
    assert [report.exit_code for report in reports] == [0, 3, 0]


def test_neither_a_part_runs_twice_nor_beside_a_run_of_the_whole(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with claimed(out, part=Part(0, 2), overwrite=False, inputs=[]):
        with (
            pytest.raises(JobError, match="in use"),
            claimed(out, part=Part(0, 2), overwrite=False, inputs=[]),
        ):
            pass
        with pytest.raises(JobError, match="in use"):
            predict(model_folder, images, tmp_path)
        with claimed(out, part=Part(1, 2), overwrite=False, inputs=[]):
            pass
    predict(model_folder, images, tmp_path)


def test_parts_of_another_number_do_not_run_beside_each_other(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict_folder(model_folder, images, out, device="cpu", workers=0, part=Part(0, 2))
    with locked(out / ".parts" / "0-of-2"), pytest.raises(JobError, match="in use by part 0-of-2"):
        predict_folder(model_folder, images, out, device="cpu", workers=0, part=Part(0, 3))


def test_the_last_part_removes_what_a_killed_one_was_writing(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict_folder(model_folder, images, out, device="cpu", workers=0, part=Part(0, 2))
    (out / "masks" / ".writing-0123.png").write_bytes(b"half")
    predict_folder(model_folder, images, out, device="cpu", workers=0, part=Part(1, 2))
    assert not list(out.rglob(".writing*"))


@pytest.mark.parametrize(("number", "count"), [(2, 2), (-1, 2), (0, 0)])
def test_a_part_that_there_is_not_is_a_usage_error(number: int, count: int) -> None:
    with pytest.raises(UsageError, match="--part-id"):
        Part(number, count)


def test_a_part_does_not_delete_what_others_have_made(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="leave it out"):
        predict(model_folder, images, tmp_path, part=Part(0, 2), overwrite=True)


# research


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
    assert {name.partition("/")[0] for name in found - named} == {"seg", "sr", "sc"}
    result = dcmread(tmp_path / "out" / "seg" / "1.2.0.dcm")
    assert (result.PatientID, result.StudyDate, result.AccessionNumber) == (
        "PLANTED02",
        "19870605",
        "PLANTED07",
    )
    text = str(result)
    assert not any(
        f"PLANTED{number:02}" in text for number in (3, 4, 5, 6, 10, 11, 12, 13, 14, 15, 16, 20, 21)
    )


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
def test_a_picture_that_looks_turned_is_segmented_and_said_to_be_in_doubt(
    model_folder: Path, tmp_path: Path, research: bool
) -> None:
    upside_down = (255 * draw_phantom(0, size=128).image[::-1]).round().astype(np.uint8)
    write_radiograph(tmp_path / "images" / "a.dcm", upside_down, PixelSpacing=[1.2, 1.2])
    _, (row,) = predict(model_folder, tmp_path / "images", tmp_path, kinds=[], research=research)
    assert (row["status"], row["reason"]) == ("segmented", "LOOKS_TURNED")
    assert row["sentence"].endswith("In doubt, for the image looks turned.")
    assert ("upside down" in row["detail"]) != research


# images that the model was trained on


def test_images_that_the_model_was_trained_on_are_counted_and_marked(images: Path, tmp_path: Path) -> None:
    first = min(images.rglob("*.dcm"))
    digest = hashlib.sha256(first.read_bytes()).hexdigest()
    model = write_model(tmp_path / "model", bright_pixel_network(), image_digests=(digest[:16],))
    report, _ = predict(model, images, tmp_path)
    told = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert (report.trained_on, told["trained_on"]) == (1, 1)
    marked = {row["image"] for row in told["images"] if row["trained_on"]}
    assert marked == {str(first.relative_to(images))}
    assert predict(model, images, tmp_path)[0].trained_on == 1  # all are kept from the run before


def test_of_other_images_none_is_counted(model_folder: Path, images: Path, tmp_path: Path) -> None:
    assert predict(model_folder, images, tmp_path)[0].trained_on == 0


def test_attention_runs_each_network_once(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    outputs = AttentionUNet.outputs

    def counted(network: AttentionUNet, image: Tensor) -> NetworkOutputs:
        passes.append(len(image))
        return outputs(network, image)

    monkeypatch.setattr(AttentionUNet, "outputs", counted)
    model = write_model(tmp_path / "model", bright_pixel_network())
    predict(model, images, tmp_path, kinds=["csv", "attention"], batch_size=8)
    assert passes == [8]
