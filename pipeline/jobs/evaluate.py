"""Score a model on labelled cases of a manifest, at the model's own operating point."""

from collections.abc import Callable, Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pneumoseg.pipeline.core.claims import claim_folder
from pneumoseg.pipeline.core.console import warn
from pneumoseg.pipeline.core.devices import resolve_device
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.core.files import write_csv, write_json
from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.dataset.groups import PatientCount
from pneumoseg.pipeline.dataset.manifest import Case, Manifest, manifest_sha256, read_manifest
from pneumoseg.pipeline.inference.model import Model, ModelOptions, load_model
from pneumoseg.pipeline.inference.runtime_choice import choose_runtime
from pneumoseg.pipeline.jobs.card_evaluation import read_card_evaluation
from pneumoseg.pipeline.jobs.exhibits import make_exhibits
from pneumoseg.pipeline.jobs.measure_cases import MeasuredCases, held_out_parts, measure_cases
from pneumoseg.pipeline.jobs.report import write_report
from pneumoseg.pipeline.model.card import write_card
from pneumoseg.pipeline.model.catalogue import refuse_to_change
from pneumoseg.pipeline.reporting.evaluation import SURFACE
from pneumoseg.pipeline.reporting.gallery import save_gallery
from pneumoseg.pipeline.scoring.calibration import image_reliability, pixel_reliability
from pneumoseg.pipeline.scoring.case_curves import (
    STEPS,
    CaseCurves,
    Floats,
    OperatingPointScores,
    score_point,
)
from pneumoseg.pipeline.scoring.case_rows import COLUMNS as CASE_COLUMNS
from pneumoseg.pipeline.scoring.case_rows import case_rows
from pneumoseg.pipeline.scoring.cross_fitting import inner_fold_of
from pneumoseg.pipeline.scoring.headline import OperatingPointKind, ScoredImages, as_numbers
from pneumoseg.pipeline.scoring.search import MIN_AREA_FRACTIONS, Search
from pneumoseg.pipeline.scoring.subgroups import COLUMNS as SUBGROUP_COLUMNS
from pneumoseg.pipeline.scoring.subgroups import subgroup_rows
from pneumoseg.transforms.masks import OperatingPoint


@dataclass(frozen=True)
class EvaluateReport:
    """The scores of a model on labelled cases.

    Attributes:
        fold: Scored fold; None stands for all folds.
        scores: Scores at the operating point of the model.
        trained_on: Number of cases that the weights were trained on; their scores say nothing about new images.
        images: Counts and probabilities of each image, at the operating point of the model.
        in_sample: Whether the operating point of the model was tuned on any of these cases.
        cross_fitted: The same as `images`, each case at the operating point that was tuned without its patient; None
            if the operating point was not tuned on these cases, or has no cross-fitted counterpart for some of them.
    """

    fold: int | None
    scores: OperatingPointScores
    trained_on: int
    images: ScoredImages
    in_sample: bool
    cross_fitted: ScoredImages | None

    @property
    def quoted(self) -> ScoredImages:
        """The images whose scores are to be quoted: at the cross-fitted operating points, if there are any."""
        return self.cross_fitted or self.images

    @property
    def operating_point(self) -> OperatingPointKind:
        """Kind of the operating point that `quoted` uses."""
        if self.cross_fitted is not None:
            return "cross-fitted"
        return "in-sample" if self.in_sample else "fixed"


def evaluate_model(
    model_folder: str | Path,
    manifest_path: str | Path,
    output: str | Path,
    *,
    fold: int | None = None,
    all_folds: bool = False,
    options: ModelOptions = ModelOptions(),
    runtime: Runtime = Runtime(),
    examples: int = 3,
    card: bool = False,
    overwrite: bool = False,
) -> EvaluateReport:
    """Score a model on the cases of one fold, or of all folds.

    Args:
        model_folder: Model folder written by `train_model`, or the name of a model of the package.
        manifest_path: Manifest written by `prepare_manifest`; not necessarily the one that the model was trained on.
        output: Folder for ``report.html``, ``scores.json``, ``cases.csv``, ``subgroups.csv``,
            ``score_surface.json`` and ``gallery/``.
        fold: Fold to score; None scores the fold that the model held out, or all folds of a manifest that it was not
            trained on. If the model has a network for each fold, each case is scored by the one that held it out.
        all_folds: Score every case of the manifest with the whole model instead.
        options: How to use the model. Calibrated probabilities are reported beside the others; AUC and average
            precision do not depend on them. If training has fitted the calibration on these same cases, each case gets
            a cross-fitted one, fitted here without the inner fold of its patient. With Monte-Carlo dropout,
            ``uncertainty/`` shows the standard deviation of each pixel, from 0 as black to 0.5 as white.
        runtime: Device, batch size and workers.
        examples: Number of cases of each kind in the report: best, median, worst, missed, false alarm.
        card: Whether to write the scores into the model card, too; not where the model has seen an image, or options
            such as another operating point change it.
        overwrite: Delete an earlier result in *output*.

    Returns: The scores.

    Raises:
        UsageError: If an argument does not fit.
        JobError: If model, manifest or an image cannot be used.
    """
    model_folder, manifest_path, output = Path(model_folder), Path(manifest_path), Path(output)
    model = load_model(model_folder, resolve_device(runtime.device), options)
    if card:
        refuse_to_change(model.folder, option="--card")
    manifest = read_manifest(manifest_path)
    plan = _plan(model, manifest, fold, all_folds=all_folds)
    claim_folder(output, overwrite=overwrite, command="evaluate", inputs=[model_folder, manifest_path])
    model = choose_runtime(model, images=len(plan.indices), batch_size=runtime.batch_size)
    parts = held_out_parts(model, manifest, plan.folds) if plan.by_member else [(model, plan.indices)]
    measured = measure_cases(
        model,
        parts,
        manifest,
        manifest_path,
        output,
        cross_fitted_point=plan.cross_fitted_point,
        calibrated=options.calibrated,
        runtime=runtime,
    )
    report = EvaluateReport(
        fold=plan.fold,
        scores=score_point(measured.curves, model.operating_point),
        trained_on=sum(measured.seen),
        images=measured.images,
        in_sample=plan.in_sample,
        cross_fitted=measured.cross_fitted_images,
    )
    if options.calibrated and report.operating_point == "in-sample":
        warn("the calibration was fitted on these images: their calibration error is in-sample, and too low")
    _write_scores(output, model, manifest, measured, report)
    exhibits = make_exhibits(
        measured,
        report.quoted,
        parts,
        manifest_path,
        point_of=lambda case: plan.cross_fitted_point(case) or model.operating_point,
        each=examples,
        workers=runtime.workers,
    )
    save_gallery(output, exhibits)
    if card and (why := _not_for_the_card(model, report)):
        warn(f"the model card stays as it is: {why}")
    elif card:
        write_card(model.folder, model.description, read_card_evaluation(output))
    write_report(output)
    return report


def _not_for_the_card(model: Model, report: EvaluateReport) -> str | None:
    """Say why scores do not belong into the card; None if they are of new images and the model as it is stored."""
    if report.trained_on:
        return f"{report.trained_on} of the images were in the training set"
    changed = {
        "--operating-point": model.objective is not None,
        "--tta": tuple(model.tta) != tuple(model.description.tta),
        "--calibrated": model.calibration is not None,
        "--dropout-passes": model.dropout_passes > 0,
        "--precision int8": model.precision.name == "int8",
    }
    if not any(changed.values()):
        return None
    options = ", ".join(name for name, is_changed in changed.items() if is_changed)
    return f"it is for the model as others use it, and these are scores with {options}"


@dataclass(frozen=True)
class _Plan:
    """Which cases are scored, and how.

    Attributes:
        fold: Fold to score; None stands for all folds.
        folds: Folds to score.
        indices: Indices of their cases.
        by_member: Whether each case is scored by the networks that held it out.
        in_sample: Whether the operating point of the model was tuned on any of these cases.
        cross_fitted_point: Gives the operating point that was tuned without the patient of a case, or None.
    """

    fold: int | None
    folds: Set[int]
    indices: Sequence[int]
    by_member: bool
    in_sample: bool
    cross_fitted_point: Callable[[Case], OperatingPoint | None]


def _plan(model: Model, manifest: Manifest, fold: int | None, *, all_folds: bool) -> _Plan:
    """Choose the cases to score, and whether the network of each fold scores those that it held out.

    Raises: UsageError: If the manifest has no such fold.
    """
    is_own = manifest_sha256(manifest) == model.description.trained_on.manifest_sha256
    by_member = is_own and not all_folds and len(model.held_out_folds) > 1
    if is_own and fold is None and not all_folds and not by_member:
        fold = model.description.members[0].held_out_fold
    folds = set(range(manifest.folds)) if fold is None else {fold}
    chosen = manifest.indices_in(folds)
    if not chosen:
        raise UsageError(f"--fold {fold}: the manifest has the folds 0 to {manifest.folds - 1}")
    held_out = is_own and (all_folds or by_member or fold in model.held_out_folds)
    in_sample = held_out or any(model.was_tuned_on(manifest.training[index].sha256) for index in chosen)
    return _Plan(
        fold=fold,
        folds=folds,
        indices=chosen,
        by_member=by_member,
        in_sample=in_sample,
        cross_fitted_point=_cross_fitted_point(model) if held_out and not all_folds else lambda _: None,
    )


def _cross_fitted_point(model: Model) -> Callable[[Case], OperatingPoint | None]:
    """Make a function that gives the operating point that training has tuned without the patient of a case."""
    search = model.description.operating_point_search
    if model.objective is not None or search is None or search.cross_fitted is None:
        return lambda _: None
    points = [point.as_point() for point in search.cross_fitted.points]
    return lambda case: points[inner_fold_of(case.group, len(points))]


def _write_scores(
    output: Path, model: Model, manifest: Manifest, measured: MeasuredCases, report: EvaluateReport
) -> None:
    """Write ``cases.csv``, ``subgroups.csv``, ``scores.json`` and ``score_surface.json``."""
    images = report.images
    rows = case_rows(measured.cases, measured.seen, measured.masks, measured.probabilities, images.calibrated)
    write_csv(output / "cases.csv", rows, CASE_COLUMNS)
    write_csv(output / "subgroups.csv", subgroup_rows(measured.cases, report.quoted), SUBGROUP_COLUMNS)
    write_json(output / "scores.json", _scores(model, manifest, measured, report))
    write_json(output / SURFACE, _score_surface(measured.curves, model.operating_point))


def _scores(
    model: Model, manifest: Manifest, measured: MeasuredCases, report: EvaluateReport
) -> dict[str, Any]:
    """Give the content of ``scores.json``: scores with intervals, and the settings that they depend on.

    ``scores`` are those to quote, at the kind of operating point that ``operating_point`` names; where they are
    cross-fitted, ``in_sample`` has those at the model's own point.
    """
    images = report.images
    reported = measured.probabilities if images.calibrated is None else images.calibrated
    count = PatientCount.of(images.groups)
    return {
        "manifest": manifest.name,
        "grouped_by": manifest.grouped_by,
        "fold": report.fold,
        "operating_point": report.operating_point,
        "scores": as_numbers(report.quoted.measure()),
        "in_sample": as_numbers(images.measure()) if report.cross_fitted else None,
        "predict_nothing": images.predicting_nothing(),
        "images": len(measured.cases),
        "positives": int((images.true_px > 0).sum()),
        "trained_on": report.trained_on,
        "objective": model.objective,
        "tta": list(model.tta),
        "runtime": model.runtime,
        "computed_in": model.precision.name,
        "calibration": None if model.calibration is None else model.calibration.model_dump(),
        "dropout_passes": model.dropout_passes,
        **asdict(report.scores.point),
        "patients": count.patients or None,
        "unknown_patients": count.unknown,
        "leakage_unchecked": manifest.unknown_patients,
        "reliability": {
            "images": [asdict(each) for each in image_reliability(reported, images.true_px > 0)],
            "pixels": [asdict(each) for each in pixel_reliability(measured.curves)],
        },
        "model_weights_sha256": [member.sha256 for member in model.description.members],
        "manifest_sha256": manifest_sha256(manifest),
    }


def _score_surface(curves: Sequence[CaseCurves], point: OperatingPoint) -> dict[str, object]:
    """Score all thresholds and minimum areas with the image threshold of *point*, for ``score_surface.json``.

    Each score has one row for each minimum area, with null where it is undefined.
    """
    search = Search(curves, levels=(point.image_threshold,))

    def rows(values: Floats) -> list[list[float | None]]:
        return [[None if np.isnan(value) else round(value, 6) for value in row] for row in values.tolist()]

    return {
        "thresholds": [step / STEPS for step in range(STEPS)],
        "min_area_fractions": MIN_AREA_FRACTIONS,
        "image_threshold": point.image_threshold,
        "dice": rows(search.scores()[0]),
        "sensitivity": rows(search.sensitivity[0]),
        "specificity": rows(search.specificity[0]),
    }
