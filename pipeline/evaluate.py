"""Score a model on cases of a manifest, at the model's own operating point."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader

from pneumoseg.pipeline.console import warn
from pneumoseg.pipeline.dataset.cases import ALL_GATES_OPEN, FileCases
from pneumoseg.pipeline.dataset.manifest import Case, Manifest, image_path, manifest_sha256, read_manifest
from pneumoseg.pipeline.devices import resolve_device
from pneumoseg.pipeline.errors import UsageError
from pneumoseg.pipeline.files import claim_folder, write_csv, write_json
from pneumoseg.pipeline.inference.examine import examine_files
from pneumoseg.pipeline.inference.model_folder import Model, load_model
from pneumoseg.pipeline.inference.segment import NotRead
from pneumoseg.pipeline.inference.segmentation import Segmentation
from pneumoseg.pipeline.names import safe_name
from pneumoseg.pipeline.output.pictures import save_png, std_picture
from pneumoseg.pipeline.report import write_report
from pneumoseg.pipeline.reporting.evaluation import SURFACE as DECISIONS
from pneumoseg.pipeline.reporting.gallery import Exhibit, save_gallery
from pneumoseg.pipeline.reporting.panels import case_panels
from pneumoseg.pipeline.scoring.calibration import calibrate, image_reliability, pixel_gaps, pixel_reliability
from pneumoseg.pipeline.scoring.case_rows import COLUMNS as CASE_COLUMNS
from pneumoseg.pipeline.scoring.case_rows import case_rows
from pneumoseg.pipeline.scoring.challenge import dice_from_counts, summarise
from pneumoseg.pipeline.scoring.decision import (
    MIN_AREA_FRACTIONS,
    STEPS,
    CaseCurves,
    Decisions,
    Floats,
    Surface,
    decide,
    surface,
)
from pneumoseg.pipeline.scoring.examples import Example, choose_examples
from pneumoseg.pipeline.scoring.headline import ScoredImages, as_numbers
from pneumoseg.pipeline.scoring.metrics import CaseMasks, ChallengeMetric, CollectMasks, MeasureMasks
from pneumoseg.pipeline.scoring.search import inner_fold_of
from pneumoseg.pipeline.scoring.subgroups import COLUMNS as SUBGROUP_COLUMNS
from pneumoseg.pipeline.scoring.subgroups import subgroup_rows
from pneumoseg.pipeline.scoring.temperature import unseen_temperatures
from pneumoseg.pipeline.training.engines import make_evaluator
from pneumoseg.transforms.chains import evaluation_chain
from pneumoseg.transforms.masks import OperatingPoint
from pneumoseg.transforms.rle import decode_rle


@dataclass(frozen=True)
class EvaluateReport:
    """How a model did.

    Args:
        fold: The fold that was scored; None stands for all of them.
        decisions: Scores, and what they come from.
        trained_on: How many of the cases the weights have seen; their scores say nothing about new images.
        images: What all numbers come from, at the operating point.
        unseen: The same where each case was decided, and given its probability, by a point that had not seen its
            patient; None where the operating point was not searched on these cases, or cannot be searched without some
            of them.
    """

    fold: int | None
    decisions: Decisions
    trained_on: int
    images: ScoredImages
    unseen: ScoredImages | None
    exit_code: int = 0


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
            ``decisions.json`` and ``gallery/``.
        fold: Which fold; None takes the one that the model never saw, or all folds of a manifest that it was
            not trained on. Of a model with a network for each fold, the one that held a case out scores it.
        all_folds: Score every case of the manifest with the whole model instead.
        aim: What the operating point is to be best for: see `point_for`; None takes the model's own.
        tta: Test-time augmentations: see `parse_tta`; None takes the model's own.
        calibrated: Give probabilities at the temperature that training has fitted; masks stay as they are. Where
            training has fitted it on these same cases, the unseen numbers are at temperatures of their own, each
            fitted here without the patient's part.
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

    chain = evaluation_chain(image_size=model.image_size, gates=ALL_GATES_OPEN)
    searched_here = (
        own and not all_folds and (by_member or fold == model.description.members[0].held_out_fold)
    )
    unseen = _unseen(model) if searched_here else lambda _: None
    measure = MeasureMasks(
        manifest.training,
        model.operating_point,
        unseen=unseen,
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
    report = _report(
        fold,
        scored,
        curves,
        masks,
        model.operating_point,
        unseen_points=[unseen(case) for case in scored],
        trained_on=sum(seen),
        temperature=model.temperature if calibrated else None,
    )
    if calibrated and searched_here and report.unseen is None:
        warn("the temperature was fitted on these images: their calibration errors are too low by a little")
    write_csv(output / "cases.csv", case_rows(scored, seen, report.decisions, masks), CASE_COLUMNS)
    write_csv(
        output / "subgroups.csv", subgroup_rows(scored, report.unseen or report.images), SUBGROUP_COLUMNS
    )
    decisions = report.decisions
    write_json(
        output / "scores.json",
        {
            "manifest": manifest.name,
            "grouped_by": manifest.grouped_by,
            "fold": fold,
            "tuned_here": searched_here,
            "trained_on": report.trained_on,
            **decisions.score.as_dict(),
            "auc": decisions.auc,
            "aim": aim,
            "tta": list(model.tta),
            "computed_in": model.precision.name,
            "temperature": model.temperature,
            "dropout_passes": dropout_passes,
            **asdict(decisions.point),
            "patients": len(set(report.images.groups)),
            "numbers": as_numbers(report.images.measure()),
            "unseen_decision": as_numbers(report.unseen.measure()) if report.unseen else None,
            "predict_nothing_numbers": report.images.predicting_nothing(),
            "reliability": {
                "images": [
                    asdict(each)
                    for each in image_reliability(decisions.probabilities, report.images.true_px > 0)
                ],
                "pixels": [asdict(each) for each in pixel_reliability(curves, temperature=model.temperature)],
            },
            "model_weights_sha256": [member.sha256 for member in model.description.members],
            "manifest_sha256": manifest_sha256(manifest),
        },
    )
    write_json(output / DECISIONS, _decisions(surface(curves)))
    chosen = choose_examples(report.images.true_px, report.images.pred_px, decisions.dices, each=examples)
    places = {indices[place]: (place, kind) for place, kind in chosen}
    save_gallery(
        output,
        _exhibits(parts, manifest, manifest_path, report, places, workers=workers),
    )
    write_report(output)
    return report


def _decisions(found: Surface) -> dict[str, object]:
    """What all thresholds and minimum areas would have, as JSON takes it: rows of areas, null where there is none."""

    def rows(values: Floats) -> list[list[float | None]]:
        return [[None if np.isnan(value) else round(value, 6) for value in row] for row in values.tolist()]

    return {
        "thresholds": [step / STEPS for step in range(STEPS)],
        "min_area_fractions": MIN_AREA_FRACTIONS,
        "dice": rows(found.dice),
        "sensitivity": rows(found.sensitivity),
        "specificity": rows(found.specificity),
    }


def _exhibits(
    parts: Sequence[tuple[Model, Sequence[int]]],
    manifest: Manifest,
    manifest_path: Path,
    report: EvaluateReport,
    chosen: Mapping[int, tuple[int, Example]],
    *,
    workers: int,
) -> list[Exhibit]:
    """Look at the chosen cases again, each by the model that has scored it; given in the order of *chosen*."""
    found: dict[int, Exhibit] = {}
    for model, part in parts:
        asked = [index for index in part if index in chosen]
        paths = [image_path(manifest_path, manifest.training[index]) for index in asked]
        looked = examine_files(model, paths, gates=ALL_GATES_OPEN, workers=workers)
        for index, examined in zip(asked, looked, strict=True):
            place, kind = chosen[index]
            found[index] = _exhibit(manifest.training[index], kind, report, place, examined)
    return [found[index] for index in chosen if index in found]


def _exhibit(
    case: Case, kind: Example, report: EvaluateReport, place: int, examined: Segmentation | NotRead
) -> Exhibit:
    numbers = {
        "Dice": f"{report.decisions.dices[place]:.3f}",
        "probability": f"{report.decisions.probabilities[place]:.3f}",
        "truth": f"{case.area_px} px",
        "mask": f"{report.images.pred_px[place]} px",
        "view": case.view,
        "sex": case.sex,
        "age": None if case.age is None else str(case.age),
    }
    facts = {name: value for name, value in numbers.items() if value is not None}
    if isinstance(examined, NotRead):
        return Exhibit(kind, case.id, {**facts, "no picture": str(examined.error.reason)}, ())
    radiograph = examined.radiograph
    if radiograph.burned_in:  # it may be a name
        return Exhibit(kind, case.id, {**facts, "no picture": "text is burned into the image"}, ())
    panels = case_panels(
        image=radiograph.image,
        label=decode_rle(case.label, case.shape),
        pred=examined.mask,
        probabilities=examined.probabilities,
        uncertainty=examined.pixel_std,
        attention=examined.attention or (),
    )
    return Exhibit(kind, case.id, facts, panels)


def _unseen(model: Model) -> Callable[[Case], OperatingPoint | None]:
    """The point that has not seen the patient of a case, of those that cross-fitting left in the model folder."""
    decision = model.description.decision
    if model.aim is not None or decision is None or decision.cross_fitted is None:
        return lambda _: None
    points = [point.as_point() for point in decision.cross_fitted.points]
    return lambda case: points[inner_fold_of(case.group, len(points))]


def _report(
    fold: int | None,
    cases: Sequence[Case],
    curves: Sequence[CaseCurves],
    masks: Sequence[CaseMasks],
    point: OperatingPoint,
    *,
    unseen_points: Sequence[OperatingPoint | None],
    trained_on: int,
    temperature: float | None,
) -> EvaluateReport:
    """Score at *point*, and where each case has one, at its unseen point; None leaves probabilities as they are."""
    by_curves = decide(curves, point)
    by_curves = replace(by_curves, probabilities=calibrate(by_curves.probabilities, temperature or 1.0))
    areas, overlaps = (
        np.array([getattr(each, name) for each in masks]) for name in ("area_px", "overlap_px")
    )
    labels = np.array([each.label_area for each in curves])
    images = ScoredImages(
        groups=[case.group for case in cases],
        pred_px=areas,
        true_px=labels,
        shared_px=overlaps,
        probabilities=by_curves.probabilities,
        pixel_gaps=pixel_gaps(curves, temperature=temperature or 1.0),
        pixels=np.array([each.pixels for each in curves]),
        distances={
            name: np.array([getattr(each, name) for each in masks])
            for name in ("surface_dice", "hausdorff95_mm")
        },
    )
    unseen = None
    points = [each for each in unseen_points if each is not None]
    if len(points) == len(cases):
        parts = [inner_fold_of(case.group) for case in cases]
        temperatures = unseen_temperatures(curves, parts) if temperature else [1.0] * len(cases)
        unseen = replace(
            images,
            probabilities=np.array(
                [
                    calibrate(each.probability(own.min_area_fraction), warmth)
                    for each, own, warmth in zip(curves, points, temperatures, strict=True)
                ]
            ),
            pixel_gaps=np.concatenate(
                [
                    pixel_gaps([each], temperature=warmth)
                    for each, warmth in zip(curves, temperatures, strict=True)
                ]
            ),
            pred_px=np.array([each.unseen_area_px for each in masks]),
            shared_px=np.array([each.unseen_overlap_px for each in masks]),
            distances=None,
        )
    decisions = replace(
        by_curves,
        areas=areas,
        dices=dice_from_counts(areas, labels, overlaps),
        score=summarise(areas, labels, overlaps),
    )
    return EvaluateReport(fold=fold, decisions=decisions, trained_on=trained_on, images=images, unseen=unseen)


def _who_scores_what(
    model: Model, manifest: Manifest, fold: int | None, *, by_member: bool
) -> list[tuple[Model, set[int]]]:
    """Models, and the folds that each is to score."""
    wanted = set(range(manifest.folds)) if fold is None else {fold}
    if not by_member:
        return [(model, wanted)]
    return [(model.without(mine), {mine}) for mine in model.held_out_folds if mine in wanted]
