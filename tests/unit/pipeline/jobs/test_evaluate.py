import csv
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from tests.conftest import Collection, bright_pixel_network, make_collection, write_model
from tests.unit.pipeline.jobs.evaluations import evaluate, gallery

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.core.files import sha256_of
from pneumoseg.pipeline.dataset.manifest import manifest_sha256
from pneumoseg.pipeline.jobs.prepare import prepare_manifest
from pneumoseg.pipeline.model.card import save_description
from pneumoseg.pipeline.model.description import (
    Calibration,
    CrossFittedPoints,
    ObjectivePoint,
    OperatingPointSearch,
    TunedPoint,
    image_digest,
    read_description,
)
from pneumoseg.pipeline.reporting.charts import Ranked
from pneumoseg.pipeline.reporting.content import Chart, Tiles
from pneumoseg.pipeline.reporting.evaluation import evaluation_page
from pneumoseg.pipeline.scoring.calibration import calibrate
from pneumoseg.pipeline.scoring.case_curves import CaseCurves
from pneumoseg.pipeline.scoring.cross_fitting import inner_fold_of
from pneumoseg.pipeline.scoring.platt import fit_calibration

pytestmark = pytest.mark.usefixtures("plain_charts")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts are thought out, but not written, but for what a fixture of the whole module does."""
    monkeypatch.setattr("pneumoseg.pipeline.reporting.charts.to_svg", lambda *_, name: f"<svg>{name}</svg>")


def test_a_model_that_finds_every_block_scores_1(
    model_folder: Path, collection: Collection, tmp_path: Path
) -> None:
    report, _ = evaluate(model_folder, collection, tmp_path, all_folds=True)
    score = report.scores.score
    assert (score.dice, score.dice_positive, score.sensitivity, score.specificity) == (1.0, 1.0, 1.0, 1.0)
    assert (score.predict_nothing, score.images, score.positives) == (0.5, 12, 6)
    assert report.scores.auc == 1.0


def test_the_scores_are_written_with_what_they_are_of(
    model_folder: Path, collection: Collection, tmp_path: Path
) -> None:
    evaluate(model_folder, collection, tmp_path, all_folds=True)
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert (scores["fold"], scores["threshold"], scores["images"], scores["positives"]) == (None, 0.5, 12, 6)
    assert scores["model_weights_sha256"] == [sha256_of(model_folder / "weights" / "fold0.safetensors")]


def test_patients_that_are_not_known_are_not_counted(
    model_folder: Path, collection: Collection, tmp_path: Path
) -> None:
    unknown = tmp_path / "manifest.json"
    prepare_manifest(
        collection.images, [collection.labels], unknown, folds=3, label_shape=(48, 32), workers=0
    )
    evaluate(model_folder, replace(collection, manifest_path=unknown), tmp_path, all_folds=True)
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert (scores["patients"], scores["unknown_patients"], scores["leakage_unchecked"]) == (None, 12, 12)
    with (tmp_path / "out" / "subgroups.csv").open(newline="") as file:
        assert {row["patients"] for row in csv.DictReader(file)} == {""}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Leakage cannot be checked for 12 images" in page
    assert "12 images, 6 with a pneumothorax" in page


@pytest.mark.slow
def test_any_number_of_workers_writes_the_same_bytes(
    model_folder: Path, collection: Collection, tmp_path: Path
) -> None:
    results = set()
    for workers in (0, 1, 2):
        evaluate(model_folder, collection, tmp_path, workers=workers, overwrite=True)
        results.add(tuple((tmp_path / "out" / name).read_bytes() for name in ("cases.csv", "scores.json")))
    assert len(results) == 1


@pytest.mark.parametrize("fold", [0, 1, 2])
def test_the_fold_that_the_model_never_saw_is_scored(
    collection: Collection, tmp_path: Path, fold: int
) -> None:
    sha256 = manifest_sha256(collection.manifest)
    model = write_model(tmp_path / "model", bright_pixel_network(), fold=fold, manifest_sha256=sha256)
    report, rows = evaluate(model, collection, tmp_path)
    expected = [case.id for case in collection.manifest.training if case.fold == fold]
    assert [row["id"] for row in rows] == expected
    assert report.fold == fold


def test_every_case_of_a_manifest_that_the_model_was_not_trained_on_is_scored(
    model_folder: Path, collection: Collection, tmp_path: Path
) -> None:
    report, rows = evaluate(model_folder, collection, tmp_path)
    assert (report.fold, len(rows)) == (None, 12)


def test_another_fold_can_be_asked_for(model_folder: Path, collection: Collection, tmp_path: Path) -> None:
    report, rows = evaluate(model_folder, collection, tmp_path, fold=2)
    assert {row["fold"] for row in rows} == {"2"}
    assert report.fold == 2


def test_a_fold_that_there_is_not_is_a_usage_error(
    model_folder: Path, collection: Collection, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="folds 0 to 2"):
        evaluate(model_folder, collection, tmp_path, fold=7)
    assert not (tmp_path / "out").exists()


def test_cases_that_the_model_was_trained_on_are_marked(collection: Collection, tmp_path: Path) -> None:
    seen = collection.manifest.training[3].sha256[:16], collection.manifest.training[8].sha256[:16]
    model = write_model(tmp_path / "model", bright_pixel_network(), image_digests=seen)
    report, rows = evaluate(model, collection, tmp_path, all_folds=True)
    assert report.trained_on == 2
    assert [row["id"] for row in rows if row["trained_on"] == "1"] == ["case03", "case08"]


def test_a_case_has_its_areas_and_its_dice(
    model_folder: Path, collection: Collection, tmp_path: Path
) -> None:
    _, rows = evaluate(model_folder, collection, tmp_path, all_folds=True)
    positive, negative = rows[0], rows[6]
    assert (positive["label_area_px"], positive["area_px"], positive["dice"]) == ("80", "80", "1")
    assert (positive["positive"], positive["predicted_positive"]) == ("1", "1")
    assert (negative["label_area_px"], negative["area_px"], negative["dice"]) == ("0", "0", "1")
    assert (negative["positive"], negative["predicted_positive"]) == ("0", "0")


def test_the_models_own_operating_point_decides(collection: Collection, tmp_path: Path) -> None:
    point = TunedPoint(threshold=0.5, min_area_fraction=0.9)
    model = write_model(tmp_path / "model", bright_pixel_network(), point=point)
    report, _ = evaluate(model, collection, tmp_path, all_folds=True)
    score = report.scores.score
    assert (score.dice, score.predicted_positive) == (score.predict_nothing, 0)


@pytest.mark.parametrize("batch_size", [1, 5, 50])
def test_the_batch_size_changes_nothing(
    model_folder: Path, collection: Collection, tmp_path: Path, batch_size: int
) -> None:
    report, rows = evaluate(model_folder, collection, tmp_path, all_folds=True, batch_size=batch_size)
    assert report.scores.score.dice == 1.0
    assert [row["id"] for row in rows] == [f"case{number:02}" for number in range(12)]


def test_an_image_that_changed_is_an_error_that_names_it(model_folder: Path, tmp_path: Path) -> None:
    changed = make_collection(tmp_path / "set")
    (changed.images / "case05.dcm").write_bytes((changed.images / "case06.dcm").read_bytes())
    with pytest.raises(JobError, match=r"case05\.dcm: is not the file"):
        evaluate(model_folder, changed, tmp_path, all_folds=True)


def test_an_earlier_evaluation_is_not_written_over_which_is_told_at_once(
    model_folder: Path, collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(model_folder, collection, tmp_path)
    # choosing a runtime takes a minute
    monkeypatch.delattr("pneumoseg.pipeline.jobs.evaluate.choose_runtime")
    with pytest.raises(UsageError, match="--overwrite"):
        evaluate(model_folder, collection, tmp_path)


# numbers with intervals


def test_every_number_has_its_interval_and_what_predicting_nothing_has(
    model_folder: Path, collection: Collection, tmp_path: Path
) -> None:
    evaluate(model_folder, collection, tmp_path, all_folds=True)
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert scores["scores"]["dice"] == {"value": 1.0, "low": None, "high": None}  # of six patients
    assert scores["scores"]["surface_dice"]["value"] == 1.0
    assert scores["scores"]["hausdorff95_mm"]["value"] == 0.0
    assert scores["scores"]["false_positive_px"]["value"] == 0.0
    assert set(scores["predict_nothing"]) == set(scores["scores"])
    assert (scores["patients"], scores["in_sample"], scores["operating_point"]) == (6, None, "fixed")
    assert sum(each["count"] for each in scores["reliability"]["images"]) == 12
    assert sum(each["count"] for each in scores["reliability"]["pixels"]) == 12 * 48 * 32


def test_a_case_has_its_distances_in_mm_where_there_are_any(
    model_folder: Path, collection: Collection, tmp_path: Path
) -> None:
    _, rows = evaluate(model_folder, collection, tmp_path, all_folds=True)
    positive, negative = rows[0], rows[6]
    assert (positive["iou"], positive["surface_dice"], positive["hausdorff95_mm"]) == ("1", "1", "0")
    assert (negative["iou"], negative["surface_dice"], negative["hausdorff95_mm"]) == ("1", "", "")
    assert (positive["spacing_row_mm"], positive["spacing_column_mm"]) == ("0.5", "0.25")


def test_subgroups_are_written(model_folder: Path, collection: Collection, tmp_path: Path) -> None:
    evaluate(model_folder, collection, tmp_path, all_folds=True)
    with (tmp_path / "out" / "subgroups.csv").open(newline="") as file:
        rows = {(row["subgroup"], row["value"]): row for row in csv.DictReader(file)}
    assert rows["view", "PA"]["images"] == "12"
    assert rows["mask_area", "no pneumothorax"]["specificity"] == "1"
    assert (rows["mask_area", "quartile 1"]["dice"], rows["age", "40 to 60"]["patients"]) == ("1", "6")


BLIND = TunedPoint(threshold=0.5, min_area_fraction=0.9)
SHARP = TunedPoint(threshold=0.5, min_area_fraction=0.0)
HALVED = Calibration(slope=0.5, intercept=0.0)


def model_with_a_search(
    folder: Path,
    collection: Collection,
    *points: TunedPoint,
    network: AttentionUNet | None = None,
    calibration: Calibration | None = None,
) -> Path:
    sha256 = manifest_sha256(collection.manifest)
    model = write_model(folder, network or bright_pixel_network(), fold=1, manifest_sha256=sha256)
    search = OperatingPointSearch(
        cases=4,
        objectives={"screening": ObjectivePoint(point=BLIND, dice=0.5, sensitivity=0.0, specificity=1.0)},
        curve=(),
        cross_fitted=CrossFittedPoints(points=points, dice=0.75),
        calibration=calibration,
    )
    save_description(model, read_description(model).model_copy(update={"operating_point_search": search}))
    return model


def test_each_case_is_also_scored_at_the_operating_point_that_was_tuned_without_its_patient(
    collection: Collection, tmp_path: Path
) -> None:
    model = model_with_a_search(tmp_path / "model", collection, BLIND, SHARP)
    report, rows = evaluate(model, collection, tmp_path)
    assert report.operating_point == "cross-fitted"
    for row in rows:
        blind = inner_fold_of(row["group"], 2) == 0
        expected = "0" if blind and row["positive"] == "1" else "1"
        assert (row["cross_fitted_dice"], row["dice"]) == (expected, "1")
        assert row["cross_fitted_predicted_positive"] == ("0" if blind else row["positive"])
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    dices = [float(row["cross_fitted_dice"]) for row in rows]
    assert scores["scores"]["dice"]["value"] == pytest.approx(sum(dices) / len(dices))
    assert (scores["operating_point"], scores["in_sample"]["dice"]["value"]) == ("cross-fitted", 1.0)
    assert scores["scores"].keys() == scores["in_sample"].keys()


def test_an_image_threshold_decides_as_well(collection: Collection, tmp_path: Path) -> None:
    """The mean of the brightest 0.1 % of the pixels is more than 0.9 where there is a block."""
    high = TunedPoint(threshold=0.5, min_area_fraction=0.0, image_threshold=0.999999)
    model = model_with_a_search(tmp_path / "model", collection, SHARP, high)
    _, rows = evaluate(model, collection, tmp_path)
    for row in rows:
        accepted = inner_fold_of(row["group"], 2) == 0 or float(row["probability"]) > 0.999999
        assert row["cross_fitted_predicted_positive"] == str(int(row["positive"] == "1" and accepted))
    point = TunedPoint(threshold=0.5, min_area_fraction=0.0, image_threshold=0.999999)
    blind = write_model(tmp_path / "blind", bright_pixel_network(), point=point)
    report, rows = evaluate(blind, collection, tmp_path, all_folds=True, overwrite=True)
    assert report.scores.score.predicted_positive == sum(float(row["probability"]) > 0.999999 for row in rows)
    surface = json.loads((tmp_path / "out" / "score_surface.json").read_text())
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert (surface["image_threshold"], scores["image_threshold"]) == (0.999999, 0.999999)
    assert surface["sensitivity"][0][128] == pytest.approx(scores["scores"]["sensitivity"]["value"], abs=1e-6)


def unsure_network() -> AttentionUNet:
    """A network that tells every block, with probabilities that are not near 0 and 1."""
    network = bright_pixel_network()
    with torch.no_grad():
        dict(network.named_parameters())["head.weight"][0, 0] = 0.4
        dict(network.named_parameters())["head.bias"][0] = -0.6
    return network


def test_every_auc_is_that_of_the_image_probabilities_of_the_cases(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores, in-sample and cross-fitted, calibrated or not; subgroups; tile and curve of the report."""
    drawn: dict[str, Any] = {}

    def roc_chart(curves: Mapping[str, Ranked], *, note: str, at: str) -> Chart:
        (only,) = curves.values()
        drawn.update(curve=roc_auc_score(only.positive, only.probabilities), note=note)
        return Chart("ROC", "<svg/>")

    monkeypatch.setattr("pneumoseg.pipeline.reporting.charts.roc_chart", roc_chart)
    given = dict(
        zip([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [0.3, 0.4, 0.8] * 2 + [0.5, 0.6, 0.2] * 2, strict=True)
    )
    from_levels = CaseCurves.from_levels
    monkeypatch.setattr(
        CaseCurves,
        "from_levels",
        lambda levels, index, image_probability: from_levels(
            levels, index=index, image_probability=given[index]
        ),
    )
    model = model_with_a_search(
        tmp_path / "model", collection, BLIND, SHARP, network=unsure_network(), calibration=HALVED
    )
    for calibrated in (False, True):
        report, rows = evaluate(model, collection, tmp_path, calibrated=calibrated, overwrite=True)
        scores = json.loads((tmp_path / "out" / "scores.json").read_text())
        expected = roc_auc_score(
            [int(row["positive"]) for row in rows], [float(row["probability"]) for row in rows]
        )
        with (tmp_path / "out" / "subgroups.csv").open(newline="") as file:
            (view,) = [row for row in csv.DictReader(file) if row["subgroup"] == "view"]
        page = evaluation_page(tmp_path / "out")
        (tile,) = [
            tile
            for block in page.sections[0].blocks
            if isinstance(block, Tiles)
            for tile in block.tiles
            if tile.name.startswith("AUC")
        ]
        found = [
            scores["scores"]["auc"]["value"],
            scores["in_sample"]["auc"]["value"],
            report.scores.auc,
            drawn["curve"],
            float(view["auc"]),
        ]
        assert found == pytest.approx([expected] * len(found), abs=1e-5)
        assert tile.value == f"{expected:.4f}"
        assert drawn["note"] == f"AUC {expected:.4f}."
        assert 0 < expected < 1
        precisions = {scores[name]["average_precision"]["value"] for name in ("scores", "in_sample")}
        assert len(precisions) == 1


def test_an_operating_point_is_not_cross_fitted_on_cases_that_it_was_not_tuned_on(
    collection: Collection, tmp_path: Path
) -> None:
    model = model_with_a_search(tmp_path / "model", collection, BLIND, SHARP)
    other_fold = evaluate(model, collection, tmp_path, fold=0)[0]
    assert (other_fold.cross_fitted, other_fold.operating_point) == (None, "fixed")
    every_fold = evaluate(model, collection, tmp_path, all_folds=True, overwrite=True)[0]
    assert (every_fold.cross_fitted, every_fold.operating_point) == (None, "in-sample")


def test_images_of_the_search_are_in_sample_in_another_manifest_too(
    collection: Collection, tmp_path: Path
) -> None:
    model = model_with_a_search(tmp_path / "model", collection, BLIND, SHARP)
    found = read_description(model)
    assert found.operating_point_search is not None
    held_out = [case for case in collection.manifest.training if case.fold == 1]
    digests = tuple(image_digest(case.sha256) for case in held_out)
    search = found.operating_point_search.model_copy(update={"image_digests": digests})
    save_description(model, found.model_copy(update={"operating_point_search": search}))
    again = replace(collection, manifest_path=tmp_path / "manifest.json")
    options: dict[str, Any] = {"folds": 12, "label_shape": (48, 32), "workers": 0}
    prepared = prepare_manifest(collection.images, [collection.labels], again.manifest_path, **options)
    for case in prepared.manifest.training:
        report, _ = evaluate(model, again, tmp_path, fold=case.fold, overwrite=True)
        assert report.cross_fitted is None
        expected = "in-sample" if case.id in {each.id for each in held_out} else "fixed"
        assert (report.operating_point, report.trained_on) == (expected, 0)


def test_another_operating_point_decides_otherwise(collection: Collection, tmp_path: Path) -> None:
    model = model_with_a_search(tmp_path / "model", collection, BLIND, SHARP)
    report, _ = evaluate(model, collection, tmp_path, operating_point="screening")
    assert (report.scores.score.predicted_positive, report.operating_point) == (0, "in-sample")
    with pytest.raises(UsageError, match="--operating-point beauty: screening"):
        evaluate(model, collection, tmp_path, operating_point="beauty", overwrite=True)


def test_a_mask_is_scored_at_its_segmentation_threshold(collection: Collection, tmp_path: Path) -> None:
    """A segmentation threshold of 0 gives the whole image."""
    point = TunedPoint(threshold=0.5, min_area_fraction=0.0, segmentation_threshold=0.0)
    model = write_model(tmp_path / "model", bright_pixel_network(), point=point)
    report, rows = evaluate(model, collection, tmp_path, all_folds=True)
    assert rows[0]["area_px"] == str(48 * 32)
    assert float(rows[0]["dice"]) == pytest.approx(2 * 80 / (80 + 48 * 32), rel=1e-5)
    assert report.scores.areas[0] == 48 * 32


def test_test_time_augmentation_is_applied_and_recorded(
    model_folder: Path, collection: Collection, tmp_path: Path
) -> None:
    report, _ = evaluate(model_folder, collection, tmp_path, all_folds=True, tta=("flip",), examples=1)
    assert report.scores.score.dice == 1.0  # the network knows no sides
    assert [len(case["panels"]) for case in gallery(tmp_path / "out")] == [9, 9, 9]
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["tta"] == ["flip"]


# calibration and uncertainty


def test_calibrated_probabilities_stand_beside_those_of_the_model_and_masks_stay(
    collection: Collection, tmp_path: Path
) -> None:
    """The calibration at another objective is in-sample; that at the model's own operating point is cross-fitted."""
    plain = model_with_a_search(tmp_path / "plain", collection, BLIND, SHARP)
    with pytest.raises(UsageError, match="--calibrated"):
        evaluate(plain, collection, tmp_path, calibrated=True)
    model = model_with_a_search(
        tmp_path / "model", collection, BLIND, SHARP, network=unsure_network(), calibration=HALVED
    )
    _, before = evaluate(model, collection, tmp_path, operating_point="screening")
    assert {row["calibrated_probability"] for row in before} == {""}
    _, rows = evaluate(
        model, collection, tmp_path, operating_point="screening", calibrated=True, overwrite=True
    )
    for row, earlier in zip(rows, before, strict=True):
        assert (row["probability"], row["area_px"]) == (earlier["probability"], earlier["area_px"])
        odds = [
            float(row[name]) / (1 - float(row[name])) for name in ("calibrated_probability", "probability")
        ]
        assert odds[0] ** 2 == pytest.approx(odds[1], rel=1e-3)
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["calibration"] == HALVED.model_dump()


def test_calibrated_probabilities_are_fitted_without_the_patient(
    collection: Collection, tmp_path: Path
) -> None:
    model = model_with_a_search(
        tmp_path / "model", collection, BLIND, SHARP, network=unsure_network(), calibration=HALVED
    )
    report, rows = evaluate(model, collection, tmp_path, calibrated=True)
    assert report.cross_fitted is not None
    assert report.cross_fitted.calibrated is not None
    assert [float(row["calibrated_probability"]) for row in rows] == pytest.approx(
        report.cross_fitted.calibrated.tolist(), rel=1e-4
    )
    for row in rows:
        others = [each for each in rows if inner_fold_of(each["group"]) != inner_fold_of(row["group"])]
        fitted = fit_calibration(
            [float(each["probability"]) for each in others], [each["positive"] == "1" for each in others]
        )
        expected = calibrate(float(row["probability"]), fitted)
        assert float(row["calibrated_probability"]) == pytest.approx(float(expected), abs=1e-3)


def test_a_calibration_that_has_seen_these_images_is_warned_of_where_there_is_no_other(
    collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another objective has no cross-fitted operating points."""
    model = model_with_a_search(tmp_path / "model", collection, BLIND, SHARP, calibration=HALVED)
    evaluate(model, collection, tmp_path, calibrated=True)
    assert "calibration" not in capsys.readouterr().err
    evaluate(model, collection, tmp_path, calibrated=True, operating_point="screening", overwrite=True)
    assert "the calibration was fitted on these images" in capsys.readouterr().err


def test_dropout_shows_how_unsure_the_network_is_of_images_and_pixels(
    model_folder: Path, collection: Collection, tmp_path: Path
) -> None:
    _, rows = evaluate(model_folder, collection, tmp_path, fold=0, dropout_passes=4)
    assert all(0 <= float(row["uncertainty"]) < 0.71 for row in rows)
    picture = np.asarray(Image.open(tmp_path / "out" / "uncertainty" / f"{rows[0]['id']}.png"))
    assert picture.shape == (48, 32)
    assert 20 < picture.max() <= 255  # a bright pixel is dropped in one pass and found in another
    assert len(list((tmp_path / "out" / "uncertainty").iterdir())) == len(rows)


def test_without_dropout_there_is_no_uncertainty(
    model_folder: Path, collection: Collection, tmp_path: Path
) -> None:
    _, rows = evaluate(model_folder, collection, tmp_path, fold=0)
    assert {row["uncertainty"] for row in rows} == {""}
    assert not (tmp_path / "out" / "uncertainty").exists()
    with pytest.raises(UsageError, match="--dropout-passes: 1 Monte-Carlo"):
        evaluate(model_folder, collection, tmp_path, dropout_passes=1, overwrite=True)


def test_the_scores_of_held_out_images_are_written_into_the_model_card(
    collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sha256 = manifest_sha256(collection.manifest)
    model = write_model(tmp_path / "model", bright_pixel_network(), fold=1, manifest_sha256=sha256)
    card = model / "MODEL_CARD.md"
    before = card.read_text()
    evaluate(model, collection, tmp_path, card=True)
    assert "95 % interval" not in before
    assert "95 % interval" in card.read_text()
    seen = tuple(image_digest(case.sha256) for case in collection.manifest.training)
    model = write_model(tmp_path / "seen", bright_pixel_network(), image_digests=seen)
    card = model / "MODEL_CARD.md"
    evaluate(model, collection, tmp_path, card=True, overwrite=True)
    assert "95 % interval" not in card.read_text()
    assert "the model card stays as it is: 12 of the images" in capsys.readouterr().err
