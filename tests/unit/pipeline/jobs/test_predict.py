import hashlib
import json
import shutil
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from tests.conftest import SHAPE, Collection, bright_pixel_network, draw_case, write_model, write_radiograph
from tests.unit.pipeline.jobs.predictions import contents, files, predict, searched_model
from torch import Tensor

from pneumoseg.models import AttentionUNet, NetworkOutputs
from pneumoseg.pipeline.cli.summaries import predict_summary
from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.jobs.predict import predict_folder
from pneumoseg.pipeline.model.description import Calibration
from pneumoseg.transforms import decode_rle
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters

pytestmark = pytest.mark.usefixtures("plain_charts")


@pytest.mark.usefixtures("unjudged")
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
        UsageError, match="csv, json, png, nifti, seg, sr, sc, gsps, fhir, overlay, attention, probability"
    ):
        predict(model_folder, images, tmp_path, kinds=["dicom"])


def test_a_refused_file_has_a_row_with_its_reason(model_folder: Path, images: Path, tmp_path: Path) -> None:
    (images / "broken.dcm").write_bytes(b"broken")
    report, rows = predict(model_folder, images, tmp_path)
    row = rows[0]
    assert (row["image"], row["status"], row["reason"]) == ("broken.dcm", "refused", "NOT_DICOM")
    assert (row["decision"], row["probability"]) == ("", "")
    assert (report.segmented, report.refused, report.exit_code) == (4, 1, 3)


@pytest.mark.usefixtures("unjudged")
def test_a_lateral_view_is_skipped_with_its_reason(model_folder: Path, images: Path, tmp_path: Path) -> None:
    write_radiograph(images / "lateral.dcm", draw_case(0, positive=True)[0], ViewPosition="LL")
    report, rows = predict(model_folder, images, tmp_path)
    assert (rows[-1]["status"], rows[-1]["reason"]) == ("skipped", "WRONG_VIEW")
    assert (report.refused, report.exit_code) == (0, 0)


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


@pytest.mark.usefixtures("unjudged")
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
            predict_folder(model_folder, images, images, runtime=Runtime(workers=0), overwrite=overwrite)


@pytest.mark.slow
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


@pytest.mark.usefixtures("unjudged")
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
    assert "left to right" in told["methods"]["width"]
    assert str(tmp_path) not in (tmp_path / "out" / "predictions.json").read_text()


def test_segmentations_hold_the_same_mask(model_folder: Path, images: Path, tmp_path: Path) -> None:
    _, rows = predict(model_folder, images, tmp_path, kinds=["seg", "sr", "sc"])
    for row, number in ((rows[0], 0), (rows[2], 6)):
        segmentation = hd.seg.segread(tmp_path / "out" / "seg" / f"{row['name']}.dcm")
        mask = draw_case(number, positive=number < 6)[1]
        np.testing.assert_array_equal(segmentation.pixel_array, mask)
        assert hd.sr.srread(tmp_path / "out" / "sr" / f"{row['name']}.dcm").PatientID == "id" + str(number)
        assert dcmread(tmp_path / "out" / "sc" / f"{row['name']}.dcm").pixel_array.shape[1:] == (SHAPE[1], 3)


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
    report, _ = predict(model, images, tmp_path, operating_point="specificity")
    assert (report.predicted_positive, report.kept) == (0, 0)
    assert (
        json.loads((tmp_path / "out" / "predictions.json").read_text())["settings"]["objective"]
        == "specificity"
    )


def test_augmentations_make_all_anew(model_folder: Path, images: Path, tmp_path: Path) -> None:
    predict(model_folder, images, tmp_path)
    assert predict(model_folder, images, tmp_path, tta=["flip"])[0].kept == 0
    assert predict(model_folder, images, tmp_path, tta=["flip"])[0].kept == 4


def test_calibrated_probabilities_have_the_models_slope_and_intercept_and_masks_stay(
    images: Path, tmp_path: Path
) -> None:
    model = searched_model(tmp_path / "model", calibration=Calibration(slope=0.5, intercept=0.0))
    kinds = ["csv", "png", "probability"]
    _, plain = predict(model, images, tmp_path / "plain", kinds=kinds)
    _, rows = predict(model, images, tmp_path, kinds=kinds, calibrated=True)
    for row, before in zip(rows, plain, strict=True):
        odds = [float(each["probability"]) / (1 - float(each["probability"])) for each in (row, before)]
        assert odds[0] ** 2 == pytest.approx(odds[1], rel=1e-2)  # a logit halved
        assert (row["rle"], row["decision"]) == (before["rle"], before["decision"])
        maps = [
            (folder / "out" / "probabilities" / f"{row['name']}.png").read_bytes()
            for folder in (tmp_path, tmp_path / "plain")
        ]
        assert maps[0] == maps[1]


def test_a_model_without_a_calibration_cannot_be_calibrated(
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
