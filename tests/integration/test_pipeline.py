"""From a folder of radiographs to a submission, each job on what the one before it wrote."""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from tests.integration.conftest import SIZE, Workshop

from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.jobs.evaluate import evaluate_model
from pneumoseg.pipeline.jobs.predict import predict_folder
from pneumoseg.pipeline.jobs.score import score_submission
from pneumoseg.pipeline.jobs.submit import write_submission
from pneumoseg.pipeline.scoring.submission import check_submission
from pneumoseg.transforms import decode_rle

pytestmark = pytest.mark.slow


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_the_files_that_the_design_names(workshop: Workshop) -> None:
    wanted = {
        "config.yaml",
        "metrics.csv",
        "progress.png",
        "summary.json",
        "checkpoints",
        "tensorboard",
        "model",
    }
    assert wanted <= {path.name for path in workshop.run.iterdir()}


def test_a_run_has_a_row_for_each_epoch(workshop: Workshop) -> None:
    assert [row["epoch"] for row in rows_of(workshop.run / "metrics.csv")] == ["1", "2"]


def test_each_validation_stands_beside_predicting_nothing(workshop: Workshop) -> None:
    rows = rows_of(workshop.run / "metrics.csv")
    held_out = [case for case in json.loads(workshop.manifest.read_text())["training"] if case["fold"] == 0]
    negative = sum(not case["label"] for case in held_out) / len(held_out)
    assert all(float(row["predict_nothing"]) == pytest.approx(negative, abs=1e-5) for row in rows)


def test_evaluation_of_the_held_out_fold_gives_the_scores_of_training(
    workshop: Workshop, tmp_path: Path
) -> None:
    report = evaluate_model(
        workshop.model,
        workshop.manifest,
        tmp_path / "evaluation",
        runtime=Runtime(device="cpu", batch_size=4),
    )
    trained = json.loads((workshop.model / "model.json").read_text())["validation"]
    assert report.scores.as_dict() == pytest.approx(trained)


def test_evaluation_marks_the_images_that_were_trained_on(workshop: Workshop, tmp_path: Path) -> None:
    report = evaluate_model(
        workshop.model,
        workshop.manifest,
        tmp_path / "evaluation",
        runtime=Runtime(device="cpu"),
        all_folds=True,
    )
    rows = rows_of(tmp_path / "evaluation" / "cases.csv")
    assert report.trained_on == sum(row["trained_on"] == "1" for row in rows)
    assert {row["fold"] for row in rows if row["trained_on"] == "0"} == {"0"}


@pytest.fixture
def submission(workshop: Workshop, tmp_path: Path) -> Path:
    path = tmp_path / "submission.csv"
    write_submission(
        workshop.model,
        workshop.phantoms.test_images,
        path,
        runtime=Runtime(device="cpu"),
        sample=workshop.phantoms.sample_submission,
        shape=(SIZE, SIZE),
    )
    return path


def test_a_submission_has_the_rows_of_the_sample_in_its_order(workshop: Workshop, submission: Path) -> None:
    sample = rows_of(workshop.phantoms.sample_submission)
    assert [row["ImageId"] for row in rows_of(submission)] == [row["ImageId"] for row in sample]


def test_a_submission_has_no_fault(workshop: Workshop, submission: Path) -> None:
    ids = [row["ImageId"] for row in rows_of(workshop.phantoms.sample_submission)]
    assert check_submission(submission, ids, shape=(SIZE, SIZE)) == []


def test_submission_and_masks_of_prediction_agree(
    workshop: Workshop, submission: Path, tmp_path: Path
) -> None:
    predict_folder(
        workshop.model, workshop.phantoms.test_images, tmp_path / "predictions", runtime=Runtime(device="cpu")
    )
    for row in rows_of(submission):
        mask = np.asarray(Image.open(tmp_path / "predictions" / "masks" / f"{row['ImageId']}.png"))
        assert np.array_equal(mask // 255, decode_rle(row["EncodedPixels"], mask.shape))


def test_nifti_and_png_hold_the_same_mask(workshop: Workshop, tmp_path: Path) -> None:
    predict_folder(
        workshop.model, workshop.phantoms.test_images, tmp_path / "predictions", runtime=Runtime(device="cpu")
    )
    for path in (tmp_path / "predictions" / "masks").iterdir():
        volume = nib.nifti1.Nifti1Image.from_filename(
            tmp_path / "predictions" / "nifti" / f"{path.stem}.nii.gz"
        )
        assert np.array_equal(np.asarray(volume.dataobj)[:, 0, :].T, np.asarray(Image.open(path)) // 255)


def test_score_reads_what_submit_wrote(workshop: Workshop, submission: Path) -> None:
    scored = score_submission(submission, workshop.phantoms.test_labels, shape=(SIZE, SIZE))
    assert scored.score.images == workshop.phantoms.test
