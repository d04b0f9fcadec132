"""The challenge's own files, where they are at hand."""

from pathlib import Path

import numpy as np
import pytest

from pneumoseg.pipeline.dataset.manifest import image_path, manifest_sha256
from pneumoseg.pipeline.inference.segmentation import load_predictor
from pneumoseg.pipeline.jobs.prepare import PrepareReport, prepare_manifest
from pneumoseg.pipeline.jobs.score import score_submission
from pneumoseg.pipeline.model.catalogue import find_model
from pneumoseg.pipeline.model.description import image_digest, read_description

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def manifest_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("siim") / "manifest.json"


@pytest.fixture(scope="module")
def report(shared_data: Path, manifest_path: Path) -> PrepareReport:
    folder = shared_data / "siim-acr"
    return prepare_manifest(
        folder, [folder / "stage_2_train.csv"], manifest_path, groups=folder / "patients.csv"
    )


def test_all_images_are_found(report: PrepareReport) -> None:
    manifest = report.manifest
    assert (manifest.size, report.positive, len(manifest.unlabelled)) == (970, 219, 3)


def test_nothing_is_refused(report: PrepareReport) -> None:
    assert report.exit_code == 0


def test_no_patient_is_in_two_folds(report: PrepareReport) -> None:
    folds: dict[str, set[int]] = {}
    for case in report.manifest.training:
        folds.setdefault(case.group, set()).add(case.fold)
    assert {len(found) for found in folds.values()} == {1}


def test_positives_are_spread_evenly_over_the_folds(report: PrepareReport) -> None:
    positives = [
        sum(case.is_positive for case in report.manifest.training if case.fold == fold) for fold in range(5)
    ]
    assert max(positives) - min(positives) <= 2


def test_predicting_nothing_scores_the_share_of_the_negatives(shared_data: Path) -> None:
    folder = shared_data / "siim-acr"
    scored = score_submission(folder / "sample_submission.csv", folder / "stage_2_train.csv")
    assert scored.score.dice == pytest.approx(1 - 219 / 970)  # 0.7742, of the data's own description


def test_both_generations_of_the_label_file_give_the_same_manifest(
    shared_data: Path, report: PrepareReport, tmp_path: Path
) -> None:
    folder = shared_data / "siim-acr"
    other = prepare_manifest(
        folder, [folder / "train-rle.csv"], tmp_path / "manifest.json", groups=folder / "patients.csv"
    )
    assert [case.area_px for case in other.manifest.training] == [
        case.area_px for case in report.manifest.training
    ]


def test_png_files_are_matched_by_the_column_that_names_them(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "nih-png"
    found = prepare_manifest(
        folder, [folder / "rle.csv"], tmp_path / "manifest.json", id_column="NIH_ID", folds=2
    )
    assert (found.manifest.size, found.positive) == (4, 2)


def test_the_reference_model_knows_that_it_has_seen_all_of_them(report: PrepareReport) -> None:
    description = read_description(find_model("reference"))
    assert description.trained_on.manifest_sha256 == manifest_sha256(report.manifest)
    assert description.held_out_folds == ()
    digests = {image_digest(case.sha256) for case in report.manifest.training}
    assert description.seen_digests() == digests
    assert description.operating_point_search is not None
    assert (
        set(description.operating_point_search.image_digests) == digests
    )  # out of fold, by the cross-validation
    assert not description.trained_on.epoch_chosen


def test_the_reference_model_tells_positives_from_negatives(
    report: PrepareReport, manifest_path: Path
) -> None:
    """By the image probability; it was trained on these images, so that this checks its files and not its score."""
    predictor = load_predictor("reference", "cpu", runtime="torch")
    some = [case for case in report.manifest.training if case.fold == 0]
    found = {
        positive: [
            predictor.predict(image_path(manifest_path, case)).probability
            for case in [each for each in some if each.is_positive == positive][:12]
        ]
        for positive in (True, False)
    }
    auc = np.mean([[a > b for b in found[False]] for a in found[True]])
    assert auc > 0.6
