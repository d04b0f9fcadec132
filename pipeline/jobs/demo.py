"""Run the whole pipeline on phantoms, from rendering them to a scored submission, in minutes."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from rich.table import Table

from pneumoseg.pipeline.core.claims import claim_folder
from pneumoseg.pipeline.core.config import DataConfig, NetworkConfig, OptimizationConfig, TrainConfig
from pneumoseg.pipeline.core.console import console, say
from pneumoseg.pipeline.core.files import write_text
from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.drawing.figures import make_case_figure, save_figure
from pneumoseg.pipeline.inference.segmentation import load_predictor
from pneumoseg.pipeline.jobs.evaluate import EvaluateReport
from pneumoseg.pipeline.jobs.finished_run import evaluate_run
from pneumoseg.pipeline.jobs.predict import predict_folder
from pneumoseg.pipeline.jobs.prepare import prepare_manifest
from pneumoseg.pipeline.jobs.score import SubmissionScore, score_submission
from pneumoseg.pipeline.jobs.submit import write_submission
from pneumoseg.pipeline.jobs.train import train_model
from pneumoseg.pipeline.phantom import PhantomSet, write_phantoms
from pneumoseg.pipeline.scoring.cells import number_cell
from pneumoseg.pipeline.scoring.challenge import summarise
from pneumoseg.pipeline.training.gallery import SHOWN_GATE
from pneumoseg.transforms.augmentation import Flip, Gamma, ShiftScaleRotate
from pneumoseg.transforms.labels.challenge_csv import read_labels
from pneumoseg.transforms.labels.rle import decode_rle

NOTICE: Final = "SYNTHETIC.txt"
NOTICE_TEXT: Final = (
    "All images here are phantoms rendered by a program; they show no patient. Scores, masks and weights made from\n"
    "them say nothing about radiographs of people.\n"
)


@dataclass(frozen=True)
class DemoReport:
    """Results of the demonstration."""

    phantoms: PhantomSet
    evaluation: EvaluateReport
    submission: SubmissionScore


def demo_config(seed: int) -> TrainConfig:
    """A quarter of the features, batch normalization and a low resolution: learns phantoms in a minute on two cores."""
    return TrainConfig(
        network=NetworkConfig(features=(8, 16, 32, 64, 128), dropout=0.0, normalization="batch"),
        data=DataConfig(image_size=128, batch_size=8),
        augmentation=(  # phantoms differ less than patients do
            Flip(prob=0.5),
            ShiftScaleRotate(prob=0.5, shift=0.03, scale=0.06, degrees=6, border="border"),
            Gamma(prob=0.3, low=0.8, high=1.25),
        ),
        optimization=OptimizationConfig(epochs=18, learning_rate=3e-3, patience=None),
        seed=seed,
    )


def run_demo(
    output: str | Path, *, device: str = "auto", seed: int = 0, overwrite: bool = False
) -> DemoReport:
    """Render phantoms, then prepare, train, evaluate, submit, score and predict.

    Args:
        output: Folder for ``data/``, ``run/`` with the report, ``submission.csv``, ``predictions/``, ``example.png``.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        seed: Seed of the phantoms and of the training.
        overwrite: Delete an earlier demonstration in *output*.

    Raises: UsageError: If *output* is taken.
    """
    output = Path(output)
    started = time.monotonic()
    claim_folder(output, overwrite=overwrite, command="demo")
    write_text(output / NOTICE, NOTICE_TEXT)

    say("rendering phantom radiographs")
    phantoms = write_phantoms(output / "data", seed=seed)
    manifest = output / "data" / "manifest.json"
    prepared = prepare_manifest(
        phantoms.images,
        [phantoms.labels],
        manifest,
        groups=phantoms.groups,
        seed=seed,
        name="phantom radiographs (synthetic)",
    )
    say(
        f"{prepared.manifest.size} labelled phantoms, {prepared.positive} with a pneumothorax; "
        f"{prepared.grouping.leakage}"
    )

    trained = train_model(manifest, output / "run", config=demo_config(seed), device=device, report=False)
    evaluation = evaluate_run(output / "run", manifest, device=device, workers=1, config=demo_config(seed))

    submission = output / "submission.csv"
    write_submission(
        trained.model,
        phantoms.test_images,
        submission,
        runtime=Runtime(device=device),
        sample=phantoms.sample_submission,
    )
    scored = score_submission(submission, phantoms.test_labels)
    predict_folder(
        trained.model, phantoms.test_images, output / "predictions", runtime=Runtime(device=device)
    )
    _draw_example(trained.model, phantoms, choose_example(scored), output / "example.png", device=device)

    for made in ("data", "run", "predictions"):  # each may be copied without the others
        write_text(output / made / NOTICE, NOTICE_TEXT)

    console.print(_table(evaluation, scored))
    say("nothing: the Dice of predicting nothing at all; positives: Dice on images with a pneumothorax")
    say(f"in {(time.monotonic() - started) / 60:.1f} minutes; all images are synthetic. Made:")
    for name, what in (
        ("example.png", "a phantom, its label, the prediction, and an attention map"),
        ("data/", "DICOM files, labels, patients and the manifest"),
        ("run/", "checkpoints, the model in model/, and in evaluation/ the scores of the held-out fold"),
        ("submission.csv", "run lengths for the test phantoms"),
        ("predictions/", "a report of its own, predictions.csv, masks, NIfTI files and overlays"),
        ("run/report.html", "the training and its scores on one page: open this first"),
    ):
        say(f"  {output / name!s:<32} {what}")
    return DemoReport(phantoms, evaluation, scored)


def _table(evaluation: EvaluateReport, submission: SubmissionScore) -> Table:
    table = Table("", "images", "Dice", "nothing", "positives", "sensit.", "specif.")
    for column in table.columns[1:]:
        column.justify = "right"
    images = evaluation.quoted
    for name, score in (
        ("held-out fold", summarise(images.pred_px, images.true_px, images.shared_px)),
        ("test phantoms", submission.score),
    ):
        values = score.dice, score.predict_nothing, score.dice_positive, score.sensitivity, score.specificity
        table.add_row(name, str(score.images), *(number_cell(value, digits=3) for value in values))
    return table


def choose_example(submission: SubmissionScore) -> str:
    """Choose the phantom of the picture: the largest label that the submission has found, or else the largest of all.

    Args:
        submission: Score of the submission; an image is found if its mask overlaps the label.

    Returns: The id of the phantom.
    """
    images = submission.images
    ranked = np.lexsort((images.true_px, images.shared_px > 0))
    return submission.ids[int(ranked[-1])]


def _draw_example(model_folder: Path, phantoms: PhantomSet, name: str, path: Path, *, device: str) -> None:
    file = next(phantoms.test_images.rglob(f"{name}.dcm"))
    result = load_predictor(model_folder, device).predict(file, attention=True)
    label = read_labels(phantoms.test_labels).images[name]
    figure = make_case_figure(
        image=result.radiograph.image,
        label=decode_rle(label.texts, result.radiograph.shape),
        pred=result.mask,
        attention=(result.attention or ())[SHOWN_GATE],
        probability=result.probability,
        title="phantom radiograph (synthetic)",
    )
    save_figure(figure, path)
