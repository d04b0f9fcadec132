"""Score a model on cases of a manifest, at the model's own operating point."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn
from torch.utils.data import DataLoader

from pneumoseg.pipeline.dataset.cases import ALL_GATES_OPEN, FileCases
from pneumoseg.pipeline.dataset.manifest import Case, Manifest, manifest_sha256, read_manifest
from pneumoseg.pipeline.devices import resolve_device, resolve_precision
from pneumoseg.pipeline.errors import UsageError
from pneumoseg.pipeline.files import claim_folder, write_csv, write_json
from pneumoseg.pipeline.inference.model_folder import Model, load_model
from pneumoseg.pipeline.names import safe_name
from pneumoseg.pipeline.output.pictures import deviation_picture, save_png
from pneumoseg.pipeline.scoring.calibration import calibrate, image_reliability, pixel_gaps, pixel_reliability
from pneumoseg.pipeline.scoring.challenge import dice_from_counts, iou_from_counts, summarise
from pneumoseg.pipeline.scoring.decision import CaseCurves, Decisions, decide
from pneumoseg.pipeline.scoring.headline import ScoredImages, as_numbers
from pneumoseg.pipeline.scoring.metrics import CaseMasks, ChallengeMetric, CollectMasks, MeasureMasks
from pneumoseg.pipeline.scoring.search import part_of
from pneumoseg.pipeline.scoring.subgroups import COLUMNS as SUBGROUP_COLUMNS
from pneumoseg.pipeline.scoring.subgroups import subgroup_rows
from pneumoseg.pipeline.training.engines import make_evaluator
from pneumoseg.transforms.chains import evaluation_chain
from pneumoseg.transforms.masks import OperatingPoint

CASE_COLUMNS = (
    "id", "group", "fold", "trained_on", "positive", "called_positive", "probability", "uncertainty", "dice", "iou",
    "label_area_px", "area_px", "overlap_px", "surface_dice", "hausdorff95_mm", "unseen_decision_dice",
    "unseen_decision_area_px", "view", "sex", "age", "spacing_row_mm", "spacing_column_mm",
)  # fmt: skip


@dataclass(frozen=True)
class EvaluateReport:
    """How a model did.

    Args:
        fold: The fold that was scored; None stands for all of them.
        decisions: Scores, and what they come from.
        trained_on: How many of the cases the weights have seen; their scores say nothing about new images.
        images: What all numbers come from, at the operating point.
        unseen: The same where each case was decided by a point that had not seen its patient; None where the
            operating point was not searched on these cases, or cannot be searched without some of them.
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
    views: Sequence[str] = (),
    calibrated: bool = False,
    dropout_passes: int = 0,
    device: str = "auto",
    batch_size: int = 8,
    workers: int = 1,
    overwrite: bool = False,
) -> EvaluateReport:
    """Score the cases of one fold, or of all.

    Args:
        model_folder: From `train_model`.
        manifest_path: From `prepare_manifest`; not necessarily the one trained on.
        output: Folder for ``scores.json``, ``cases.csv`` and ``subgroups.csv``.
        fold: Which fold; None takes the one that the model never saw, or all folds of a manifest that it was
            not trained on. Of a model with a network for each fold, the one that held a case out scores it.
        all_folds: Score every case of the manifest with the whole model instead.
        aim: What the operating point is to be best for: see `point_for`; None takes the model's own.
        views: In which each image is seen besides as it is: see `parse_views`.
        calibrated: Give probabilities at the temperature that training has fitted; masks stay as they are.
        dropout_passes: Call the network so often with its dropout on: the mean decides, and ``uncertainty/`` shows
            the standard deviation of each pixel, from 0 as black to 0.5 as white. 0 leaves dropout off.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        batch_size: Images at a time.
        workers: Processes that decode; none decodes in this one, without protection from damaged files.
        overwrite: Delete an earlier result in *output*.

    Raises:
        UsageError: If an argument does not fit.
        JobError: If model, manifest or an image cannot be used.
    """
    precision = resolve_precision("auto", resolve_device(device))
    model = load_model(
        model_folder,
        precision.device,
        aim=aim,
        views=views,
        calibrated=calibrated,
        dropout_passes=dropout_passes,
    )
    manifest = read_manifest(manifest_path)
    own = manifest_sha256(manifest) == model.description.trained_on.manifest_sha256
    by_member = own and not all_folds and len(model.held_out_folds) > 1
    if own and fold is None and not all_folds and not by_member:
        fold = model.description.members[0].held_out_fold
    parts = [
        (network, [index for index, case in enumerate(manifest.training) if case.fold in folds])
        for network, folds in _who_scores_what(model, manifest, fold, by_member=by_member)
    ]
    indices = sorted(index for _, part in parts for index in part)
    if not indices:
        raise UsageError(f"--fold {fold}: the manifest has the folds 0 to {manifest.folds - 1}")
    claim_folder(output, overwrite=overwrite, command="evaluate", inputs=[model_folder, manifest_path])

    chain = evaluation_chain(image_size=model.image_size, gates=ALL_GATES_OPEN)
    searched_here = (
        own and not all_folds and (by_member or fold == model.description.members[0].held_out_fold)
    )
    measure = MeasureMasks(
        manifest.training,
        model.operating_point,
        unseen=_unseen(model) if searched_here else lambda _: None,
        on_uncertainty=lambda case, deviation: save_png(
            output / "uncertainty" / f"{safe_name(case.id)}.png", deviation_picture(deviation)
        ),
    )
    metric, collect = ChallengeMetric(model.operating_point), CollectMasks()
    curves: list[CaseCurves] = []
    masks: list[CaseMasks] = []
    for network, part in parts:
        make_evaluator(
            network,
            DataLoader(
                FileCases(manifest, manifest_path, part, chain=chain, workers=workers), batch_size=batch_size
            ),
            precision=precision,
            postprocessing=measure,
            key_metric=("dice", metric["dice"]),
            metrics={"challenge": metric, "masks": collect},
        ).run()
        curves += metric.curves
        masks += collect.masks
    curves.sort(key=lambda each: each.index)
    masks.sort(key=lambda each: each.index)

    scored = [manifest.training[index] for index in indices]
    seen = [not by_member and model.has_seen(case.sha256) for case in scored]
    report = _report(
        fold,
        scored,
        curves,
        masks,
        model.operating_point,
        trained_on=sum(seen),
        temperature=model.temperature,
    )
    write_csv(output / "cases.csv", _case_rows(scored, seen, report.decisions, masks), CASE_COLUMNS)
    write_csv(
        output / "subgroups.csv", subgroup_rows(scored, report.unseen or report.images), SUBGROUP_COLUMNS
    )
    decisions = report.decisions
    write_json(
        output / "scores.json",
        {
            "manifest": manifest.name,
            "fold": fold,
            "trained_on": report.trained_on,
            **decisions.score.as_dict(),
            "auc": decisions.auc,
            "aim": aim,
            "views": list(views),
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
    return report


def _unseen(model: Model) -> Callable[[Case], OperatingPoint | None]:
    """The point that has not seen the patient of a case, of those that cross-fitting left in the model folder."""
    decision = model.description.decision
    if model.aim is not None or decision is None or decision.cross_fitted is None:
        return lambda _: None
    points = [point.as_point() for point in decision.cross_fitted.points]
    return lambda case: points[part_of(case.group, len(points))]


def _report(
    fold: int | None,
    cases: Sequence[Case],
    curves: Sequence[CaseCurves],
    masks: Sequence[CaseMasks],
    point: OperatingPoint,
    *,
    trained_on: int,
    temperature: float,
) -> EvaluateReport:
    by_curves = decide(curves, point)
    by_curves = replace(by_curves, probabilities=calibrate(by_curves.probabilities, temperature))
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
        pixel_gaps=pixel_gaps(curves, temperature=temperature),
        pixels=np.array([each.pixels for each in curves]),
        distances={
            name: np.array([getattr(each, name) for each in masks])
            for name in ("surface_dice", "hausdorff95_mm")
        },
    )
    unseen = None
    if all(each.unseen_area_px is not None for each in masks):
        unseen = replace(
            images,
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
) -> list[tuple[nn.Module, set[int]]]:
    """Networks, and the folds that each is to score."""
    wanted = set(range(manifest.folds)) if fold is None else {fold}
    if not by_member:
        return [(model.network, wanted)]
    return [(model.network_without(mine), {mine}) for mine in model.held_out_folds if mine in wanted]


def _case_rows(
    cases: Sequence[Case], seen: Sequence[bool], found: Decisions, masks: Sequence[CaseMasks]
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for case, trained_on, mask, probability, dice in zip(
        cases, seen, masks, found.probabilities, found.dices, strict=True
    ):
        row_spacing, column_spacing = case.spacing_mm or (None, None)
        rows.append(
            {
                "id": case.id,
                "group": case.group,
                "fold": case.fold,
                "trained_on": int(trained_on),
                "positive": int(case.is_positive),
                "called_positive": int(mask.area_px > 0),
                "probability": float(probability),
                "uncertainty": mask.uncertainty,
                "dice": float(dice),
                "iou": float(iou_from_counts(mask.area_px, case.area_px, mask.overlap_px)),
                "label_area_px": case.area_px,
                "area_px": mask.area_px,
                "overlap_px": mask.overlap_px,
                "surface_dice": None if np.isnan(mask.surface_dice) else mask.surface_dice,
                "hausdorff95_mm": None if np.isnan(mask.hausdorff95_mm) else mask.hausdorff95_mm,
                "unseen_decision_dice": None
                if mask.unseen_area_px is None or mask.unseen_overlap_px is None
                else float(dice_from_counts(mask.unseen_area_px, case.area_px, mask.unseen_overlap_px)),
                "unseen_decision_area_px": mask.unseen_area_px,
                "view": case.view,
                "sex": case.sex,
                "age": case.age,
                "spacing_row_mm": row_spacing,
                "spacing_column_mm": column_spacing,
            }
        )
    return rows
