"""Score a model on cases of a manifest, at the model's own operating point."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from pneumoseg.pipeline.core.console import warn
from pneumoseg.pipeline.core.devices import resolve_device
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.core.files import claim_folder, write_csv, write_json
from pneumoseg.pipeline.core.names import safe_name
from pneumoseg.pipeline.dataset.cases import ACCEPT_ALL_KINDS, FileCases
from pneumoseg.pipeline.dataset.manifest import Case, Manifest, image_path, manifest_sha256, read_manifest
from pneumoseg.pipeline.drawing.pictures import save_png, std_picture
from pneumoseg.pipeline.inference.examine import examine_files
from pneumoseg.pipeline.inference.model import Model, load_model
from pneumoseg.pipeline.inference.segment import NotRead
from pneumoseg.pipeline.inference.segmentation import Segmentation
from pneumoseg.pipeline.jobs.report import write_report
from pneumoseg.pipeline.reporting.evaluation import SURFACE
from pneumoseg.pipeline.reporting.gallery import Exhibit, save_gallery
from pneumoseg.pipeline.reporting.panels import case_panels
from pneumoseg.pipeline.scoring.calibration import calibrate, image_reliability, pixel_gaps, pixel_reliability
from pneumoseg.pipeline.scoring.case_curves import (
    MIN_AREA_FRACTIONS,
    STEPS,
    CaseCurves,
    Floats,
    OperatingPointScores,
    image_probabilities,
    score_point,
    surface,
)
from pneumoseg.pipeline.scoring.case_rows import COLUMNS as CASE_COLUMNS
from pneumoseg.pipeline.scoring.case_rows import case_rows
from pneumoseg.pipeline.scoring.challenge import dice_from_counts, summarise
from pneumoseg.pipeline.scoring.examples import Example, choose_examples
from pneumoseg.pipeline.scoring.headline import OperatingPointKind, ScoredImages, as_numbers
from pneumoseg.pipeline.scoring.measured_cases import inner_fold_of
from pneumoseg.pipeline.scoring.metrics import (
    CaseMasks,
    ChallengeMetric,
    CollectMasks,
    MaskScores,
    MeasureMasks,
)
from pneumoseg.pipeline.scoring.subgroups import COLUMNS as SUBGROUP_COLUMNS
from pneumoseg.pipeline.scoring.subgroups import subgroup_rows
from pneumoseg.pipeline.scoring.temperature import cross_fitted_temperatures
from pneumoseg.pipeline.training.engines import make_evaluator
from pneumoseg.transforms.chains import evaluation_chain
from pneumoseg.transforms.labels.rle import decode_rle
from pneumoseg.transforms.masks import OperatingPoint, to_mask


@dataclass(frozen=True)
class EvaluateReport:
    """The scores of a model on labelled cases.

    Attributes:
        fold: The fold that was scored; None stands for all folds.
        scores: Scores at the operating point of the model, and what they come from.
        trained_on: Number of cases that the weights have seen; their scores say nothing about new images.
        images: What all numbers come from, at the operating point of the model.
        in_sample: Whether the operating point of the model was tuned on any of these cases.
        cross_fitted: As `images`, each case at the operating point that was tuned without its patient; None where the
            operating point was not tuned on these cases, or cannot be tuned without some of them.
    """

    fold: int | None
    scores: OperatingPointScores
    trained_on: int
    images: ScoredImages
    in_sample: bool
    cross_fitted: ScoredImages | None
    exit_code: int = 0

    @property
    def quoted(self) -> ScoredImages:
        """The images whose numbers are to be quoted: at the cross-fitted operating point, where there is one."""
        return self.cross_fitted or self.images

    @property
    def operating_point(self) -> OperatingPointKind:
        """The kind of operating point that `quoted` is at."""
        if self.cross_fitted is not None:
            return "cross-fitted"
        return "in-sample" if self.in_sample else "fixed"


def evaluate_model(
    model_folder: Path,
    manifest_path: Path,
    output: Path,
    *,
    fold: int | None = None,
    all_folds: bool = False,
    aim: str | None = None,
    tta: Sequence[str] | None = None,
    calibrated: bool = False,
    dropout_passes: int = 0,
    device: str = "auto",
    batch_size: int = 8,
    workers: int = 1,
    examples: int = 3,
    overwrite: bool = False,
) -> EvaluateReport:
    """Score the cases of one fold, or of all.

    Args:
        model_folder: From `train_model`.
        manifest_path: From `prepare_manifest`; not necessarily the one trained on.
        output: Folder for ``report.html`` and what it is made of: ``scores.json``, ``cases.csv``, ``subgroups.csv``,
            ``score_surface.json`` and ``gallery/``.
        fold: Which fold; None takes the one that the model never saw, or all folds of a manifest that it was
            not trained on. Of a model with a network for each fold, the one that held a case out scores it.
        all_folds: Score every case of the manifest with the whole model instead.
        aim: What the operating point is to be best for: see `point_for`; None takes the model's own.
        tta: Test-time augmentations: see `parse_tta`; None takes the model's own.
        calibrated: Report calibrated probabilities, too, at the temperature that training has fitted; masks, AUC and
            average precision do not depend on it. Where training has fitted it on these same cases, each case has a
            cross-fitted temperature, fitted here without the inner fold of its patient.
        dropout_passes: Monte-Carlo dropout samples: their mean decides, and ``uncertainty/`` shows the standard
            deviation of each pixel, from 0 as black to 0.5 as white. 0 leaves dropout off.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        batch_size: Images at a time.
        workers: Processes that decode; none decodes in this one, without protection from damaged files.
        examples: Cases that the report shows of each kind: best, median, worst, missed, false alarm.
        overwrite: Delete an earlier result in *output*.

    Raises:
        UsageError: If an argument does not fit.
        JobError: If model, manifest or an image cannot be used.
    """
    model = load_model(
        model_folder,
        resolve_device(device),
        aim=aim,
        tta=tta,
        calibrated=calibrated,
        dropout_passes=dropout_passes,
    )
    manifest = read_manifest(manifest_path)
    own = manifest_sha256(manifest) == model.description.trained_on.manifest_sha256
    by_member = own and not all_folds and len(model.held_out_folds) > 1
    if own and fold is None and not all_folds and not by_member:
        fold = model.description.members[0].held_out_fold
    parts = [
        (part_model, [index for index, case in enumerate(manifest.training) if case.fold in folds])
        for part_model, folds in _who_scores_what(model, manifest, fold, by_member=by_member)
    ]
    indices = sorted(index for _, part in parts for index in part)
    if not indices:
        raise UsageError(f"--fold {fold}: the manifest has the folds 0 to {manifest.folds - 1}")
    claim_folder(output, overwrite=overwrite, command="evaluate", inputs=[model_folder, manifest_path])

    chain = evaluation_chain(image_size=model.image_size, acceptance=ACCEPT_ALL_KINDS)
    in_sample = own and (all_folds or by_member or fold in model.held_out_folds)
    cross_fitted_point = _cross_fitted_point(model) if in_sample and not all_folds else lambda _: None
    measure = MeasureMasks(
        manifest.training,
        model.operating_point,
        cross_fitted=cross_fitted_point,
        on_uncertainty=lambda case, std: save_png(
            output / "uncertainty" / f"{safe_name(case.id)}.png", std_picture(std)
        ),
    )
    metric, collect = ChallengeMetric(model.operating_point), CollectMasks()
    curves: list[CaseCurves] = []
    masks: list[CaseMasks] = []
    for part_model, part in parts:
        make_evaluator(
            part_model.predictor,
            DataLoader(
                FileCases(manifest, manifest_path, part, chain=chain, workers=workers), batch_size=batch_size
            ),
            postprocessing=measure,
            key_metric=("dice", metric["dice"]),
            metrics={"challenge": metric, "masks": collect},
        ).run()
        curves += metric.curves
        masks += collect.masks
    curves.sort(key=lambda each: each.index)
    masks.sort(key=lambda each: each.index)

    scored = [manifest.training[index] for index in indices]
    seen_by = {
        index: each.has_seen(manifest.training[index].sha256) for each, part in parts for index in part
    }
    seen = [seen_by[index] for index in indices]
    # the temperature was fitted on the cases that the operating point was tuned on
    cross_fitted = masks[0].cross_fitted is not None
    temperatures = _temperatures(model, scored, curves, cross_fitted=cross_fitted) if calibrated else None
    images = _images(scored, curves, masks, temperatures)
    report = EvaluateReport(
        fold=fold,
        scores=replace(
            score_point(curves, model.operating_point),  # curves know nothing of cleaning, masks do
            areas=images.pred_px,
            dices=dice_from_counts(images.pred_px, images.true_px, images.shared_px),
            score=summarise(images.pred_px, images.true_px, images.shared_px),
        ),
        trained_on=sum(seen),
        images=images,
        in_sample=in_sample,
        cross_fitted=_at_cross_fitted_points(images, masks),
    )
    if calibrated and in_sample and report.cross_fitted is None:
        warn(
            "the temperature was fitted on these images: their calibration errors are in-sample, and too low"
        )
    probabilities = image_probabilities(curves)
    write_csv(
        output / "cases.csv", case_rows(scored, seen, masks, probabilities, images.calibrated), CASE_COLUMNS
    )
    write_csv(output / "subgroups.csv", subgroup_rows(scored, report.quoted), SUBGROUP_COLUMNS)
    write_json(
        output / "scores.json",
        {
            "manifest": manifest.name,
            "grouped_by": manifest.grouped_by,
            "fold": fold,
            "operating_point": report.operating_point,
            "trained_on": report.trained_on,
            **report.scores.score.as_dict(),
            "auc": report.scores.auc,
            "aim": aim,
            "tta": list(model.tta),
            "computed_in": model.precision.name,
            "temperature": model.temperature,
            "dropout_passes": dropout_passes,
            **asdict(report.scores.point),
            "patients": len(set(images.groups)),
            "numbers": as_numbers(images.measure()),
            "cross_fitted": as_numbers(report.cross_fitted.measure()) if report.cross_fitted else None,
            "predict_nothing_numbers": images.predicting_nothing(),
            "reliability": {
                "images": [
                    asdict(each)
                    for each in image_reliability(
                        probabilities if images.calibrated is None else images.calibrated, images.true_px > 0
                    )
                ],
                "pixels": [
                    asdict(each) for each in pixel_reliability(curves, temperature=temperatures or 1.0)
                ],
            },
            "model_weights_sha256": [member.sha256 for member in model.description.members],
            "manifest_sha256": manifest_sha256(manifest),
        },
    )
    write_json(output / SURFACE, _score_surface(curves, model.operating_point))
    quoted = report.quoted
    dices = dice_from_counts(quoted.pred_px, quoted.true_px, quoted.shared_px)
    chosen = choose_examples(quoted.true_px, quoted.pred_px, dices, each=examples)
    examples_of = {
        indices[place]: _Example(
            kind=kind,
            point=cross_fitted_point(scored[place]) or model.operating_point,
            dice=float(dices[place]),
            area_px=int(quoted.pred_px[place]),
            image_probability=float(probabilities[place]),
        )
        for place, kind in chosen
    }
    save_gallery(output, _exhibits(parts, manifest, manifest_path, examples_of, workers=workers))
    write_report(output)
    return report


def _score_surface(curves: Sequence[CaseCurves], point: OperatingPoint) -> dict[str, object]:
    """Score all thresholds and minimum areas beside the image threshold of *point*, as JSON takes it.

    Each score has a row for each minimum area, with null where there is none.
    """
    found = surface(curves, image_threshold=point.image_threshold)

    def rows(values: Floats) -> list[list[float | None]]:
        return [[None if np.isnan(value) else round(value, 6) for value in row] for row in values.tolist()]

    return {
        "thresholds": [step / STEPS for step in range(STEPS)],
        "min_area_fractions": MIN_AREA_FRACTIONS,
        "image_threshold": point.image_threshold,
        "dice": rows(found.dice),
        "sensitivity": rows(found.sensitivity),
        "specificity": rows(found.specificity),
    }


@dataclass(frozen=True, kw_only=True)
class _Example:
    """A case that the report shows, and its scores at the operating point whose scores are quoted."""

    kind: Example
    point: OperatingPoint
    dice: float
    area_px: int
    image_probability: float


def _exhibits(
    parts: Sequence[tuple[Model, Sequence[int]]],
    manifest: Manifest,
    manifest_path: Path,
    chosen: Mapping[int, _Example],
    *,
    workers: int,
) -> list[Exhibit]:
    """Look at the chosen cases again, each by the model that has scored it; given in the order of *chosen*."""
    found: dict[int, Exhibit] = {}
    for model, part in parts:
        asked = [index for index in part if index in chosen]
        paths = [image_path(manifest_path, manifest.training[index]) for index in asked]
        looked = examine_files(model, paths, acceptance=ACCEPT_ALL_KINDS, workers=workers)
        for index, examined in zip(asked, looked, strict=True):
            found[index] = _exhibit(manifest.training[index], chosen[index], examined)
    return [found[index] for index in chosen if index in found]


def _exhibit(case: Case, example: _Example, examined: Segmentation | NotRead) -> Exhibit:
    numbers = {
        "Dice": f"{example.dice:.3f}",
        "image probability": f"{example.image_probability:.3f}",
        "truth": f"{case.area_px} px",
        "mask": f"{example.area_px} px",
        "view": case.view,
        "sex": case.sex,
        "age": None if case.age is None else str(case.age),
    }
    facts = {name: value for name, value in numbers.items() if value is not None}
    if isinstance(examined, NotRead):
        return Exhibit(example.kind, case.id, {**facts, "no picture": str(examined.error.reason)}, ())
    radiograph = examined.radiograph
    if radiograph.burned_in:  # it may be a name
        return Exhibit(example.kind, case.id, {**facts, "no picture": "text is burned into the image"}, ())
    panels = case_panels(
        image=radiograph.image,
        label=decode_rle(case.label, case.shape),
        pred=to_mask(examined.probabilities, example.point, example.image_probability),
        probabilities=examined.probabilities,
        uncertainty=examined.pixel_std,
        attention=examined.attention or (),
    )
    return Exhibit(example.kind, case.id, facts, panels)


def _cross_fitted_point(model: Model) -> Callable[[Case], OperatingPoint | None]:
    """Give the operating point that training has tuned without the patient of a case, where there is one."""
    search = model.description.operating_point_search
    if model.aim is not None or search is None or search.cross_fitted is None:
        return lambda _: None
    points = [point.as_point() for point in search.cross_fitted.points]
    return lambda case: points[inner_fold_of(case.group, len(points))]


def _temperatures(
    model: Model, cases: Sequence[Case], curves: Sequence[CaseCurves], *, cross_fitted: bool
) -> list[float]:
    """Give the temperature of each case: the model's own, or cross-fitted ones."""
    if not cross_fitted:
        return [model.temperature] * len(cases)
    return cross_fitted_temperatures(curves, [inner_fold_of(case.group) for case in cases])


def _images(
    cases: Sequence[Case],
    curves: Sequence[CaseCurves],
    masks: Sequence[CaseMasks],
    temperatures: Sequence[float] | None,
) -> ScoredImages:
    """Gather what is known of each image, with its mask at the operating point of the model."""
    probabilities = image_probabilities(curves)
    return ScoredImages(
        groups=[case.group for case in cases],
        true_px=np.array([each.label_area for each in curves]),
        probabilities=probabilities,
        calibrated=None if temperatures is None else calibrate(probabilities, temperatures),
        pixel_gaps=pixel_gaps(curves, temperature=temperatures or 1.0),
        pixels=np.array([each.pixels for each in curves]),
        **_mask_numbers([each.own for each in masks]),
    )


def _at_cross_fitted_points(images: ScoredImages, masks: Sequence[CaseMasks]) -> ScoredImages | None:
    """Give the same images with the masks at their cross-fitted operating points, if each has one."""
    found = [each.cross_fitted for each in masks if each.cross_fitted is not None]
    return replace(images, **_mask_numbers(found)) if len(found) == len(masks) else None


def _mask_numbers(masks: Sequence[MaskScores]) -> dict[str, Any]:
    """Give what `ScoredImages` holds of masks."""
    return {
        "pred_px": np.array([each.area_px for each in masks]),
        "shared_px": np.array([each.overlap_px for each in masks]),
        "distances": {
            name: np.array([getattr(each, name) for each in masks])
            for name in ("surface_dice", "hausdorff95_mm")
        },
    }


def _who_scores_what(
    model: Model, manifest: Manifest, fold: int | None, *, by_member: bool
) -> list[tuple[Model, set[int]]]:
    """Models, and the folds that each is to score."""
    wanted = set(range(manifest.folds)) if fold is None else {fold}
    if not by_member:
        return [(model, wanted)]
    return [(model.without(mine), {mine}) for mine in model.held_out_folds if mine in wanted]
