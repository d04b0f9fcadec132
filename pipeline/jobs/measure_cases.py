"""Run models on labelled cases, and gather what is measured of each case."""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.core.names import safe_name
from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.dataset.cases import ACCEPT_ALL_KINDS, FileCases
from pneumoseg.pipeline.dataset.manifest import Case, Manifest, manifest_sha256
from pneumoseg.pipeline.drawing.pictures import save_png, std_picture
from pneumoseg.pipeline.inference.model import Model
from pneumoseg.pipeline.scoring.calibration import calibrate, pixel_gaps
from pneumoseg.pipeline.scoring.case_curves import CaseCurves, Floats, image_probabilities
from pneumoseg.pipeline.scoring.cross_fitting import inner_fold_of
from pneumoseg.pipeline.scoring.headline import ScoredImages
from pneumoseg.pipeline.scoring.metrics import (
    CaseMasks,
    ChallengeMetric,
    MaskScores,
    MeasureCurves,
    MeasureMasks,
)
from pneumoseg.pipeline.scoring.platt import cross_fitted_probabilities
from pneumoseg.pipeline.training.engines import make_evaluator
from pneumoseg.transforms.chains import evaluation_chain
from pneumoseg.transforms.masks import OperatingPoint

Parts = Sequence[tuple[Model, Sequence[int]]]
"""Models, each with the indices of the training cases of the manifest that it scores."""


@dataclass(frozen=True, kw_only=True)
class MeasuredCases:
    """Labelled cases and what was measured of them; all sequences are in the order of the manifest.

    Attributes:
        indices: Index of each case among the training cases of the manifest.
        cases: The cases.
        seen: Whether the weights that scored a case were trained on it.
        curves: Dice and area of each case at every threshold, as the masks are thresholded.
        masks: Scores of the masks of each case.
        calibrated: Calibrated image probability of each case, shape ``(cases,)``; None unless requested.
    """

    indices: Sequence[int]
    cases: Sequence[Case]
    seen: Sequence[bool]
    curves: Sequence[CaseCurves]
    masks: Sequence[CaseMasks]
    calibrated: Floats | None

    @cached_property
    def probabilities(self) -> Floats:
        """Image probability of each case as the model outputs it, shape ``(cases,)``."""
        return image_probabilities(self.curves)

    @cached_property
    def images(self) -> ScoredImages:
        """The cases with their masks at the operating point of the model."""
        return ScoredImages(
            groups=[case.group for case in self.cases],
            true_px=np.array([each.label_area for each in self.curves]),
            probabilities=self.probabilities,
            calibrated=self.calibrated,
            pixel_gaps=pixel_gaps(self.curves),
            pixels=np.array([each.pixels for each in self.curves]),
            **_mask_numbers([each.own for each in self.masks]),
        )

    @property
    def cross_fitted_images(self) -> ScoredImages | None:
        """The cases with their masks at the cross-fitted operating points; None unless each case has one."""
        masks = [each.cross_fitted for each in self.masks if each.cross_fitted is not None]
        return replace(self.images, **_mask_numbers(masks)) if len(masks) == len(self.masks) else None


def check_own_manifest(model: Model, manifest: Manifest) -> None:
    """Refuse a manifest on which it is not known which images the networks of a model have held out.

    Args:
        model: Model.
        manifest: Manifest that has to be the one of its training.

    Raises: UsageError: If it is another.
    """
    trained_on = model.description.trained_on
    if manifest_sha256(manifest) != trained_on.manifest_sha256:
        raise UsageError(
            f"{model.folder}: was trained on another manifest, {trained_on.manifest}, so that it is not known which "
            f"images of {manifest.name} it has held out; give the manifest of its training"
        )


def held_out_parts(
    model: Model, manifest: Manifest, folds: Container[int] | None = None
) -> list[tuple[Model, list[int]]]:
    """Give the networks of a model the cases that they have held out.

    Args:
        model: Model that was trained on *manifest*.
        manifest: The manifest.
        folds: Folds to consider; None considers all.
    """
    held_out = [fold for fold in model.held_out_folds if folds is None or fold in folds]
    return [(model.without(fold), manifest.indices_in({fold})) for fold in held_out]


def measure_curves(
    parts: Parts,
    manifest: Manifest,
    manifest_path: Path,
    *,
    runtime: Runtime,
    postprocessing: MeasureCurves | None = None,
) -> list[CaseCurves]:
    """Run models on the cases of a manifest, and measure their threshold curves at the original image size.

    Args:
        parts: Which networks score which cases.
        manifest: The manifest.
        manifest_path: Path of the manifest file, which image paths are relative to.
        runtime: Batch size and workers.
        postprocessing: Transform of each case, which measures more than the curves; None measures these.

    Returns: The curves in the order of the manifest.
    Raises: JobError: If an image cannot be used.
    """
    curves: list[CaseCurves] = []
    for model, part in parts:
        chain = evaluation_chain(image_size=model.image_size, acceptance=ACCEPT_ALL_KINDS)
        files = FileCases(manifest, manifest_path, part, chain=chain, workers=runtime.workers)
        challenge = ChallengeMetric(model.operating_point)
        make_evaluator(
            model.predictor,
            DataLoader(files, batch_size=runtime.batch_size),
            postprocessing=postprocessing or MeasureCurves(manifest.training),
            key_metric=("dice", challenge["dice"]),
            metrics={"challenge": challenge},
        ).run()
        curves += challenge.items
    return sorted(curves, key=lambda each: each.index)


def measure_cases(
    model: Model,
    parts: Parts,
    manifest: Manifest,
    manifest_path: Path,
    output: Path,
    *,
    cross_fitted_point: Callable[[Case], OperatingPoint | None],
    calibrated: bool,
    runtime: Runtime,
) -> MeasuredCases:
    """Run models on the cases of a manifest, and measure probabilities and masks at the original image size.

    Args:
        model: Model whose operating point and calibration are used for all cases.
        parts: Which networks score which cases.
        manifest: The manifest.
        manifest_path: Path of the manifest file, which image paths are relative to.
        output: Folder that gets ``uncertainty/`` if the models sample with dropout.
        cross_fitted_point: Gives the operating point that was tuned without the patient of a case, or None.
        calibrated: Whether to calibrate image probabilities: without the inner fold of the patient of a case if its
            operating point is cross-fitted, else as the model does.
        runtime: Batch size and workers.

    Raises: JobError: If an image cannot be used.
    """
    measure = MeasureMasks(
        manifest.training,
        model.operating_point,
        cross_fitted=cross_fitted_point,
        on_uncertainty=lambda case, std: save_png(
            output / "uncertainty" / f"{safe_name(case.id)}.png", std_picture(std)
        ),
    )
    curves: list[CaseCurves] = []
    seen_by: dict[int, bool] = {}
    for part_model, part in parts:
        curves += measure_curves(
            [(part_model, part)],
            manifest,
            manifest_path,
            runtime=runtime,
            postprocessing=measure,
        )
        seen_by |= {index: part_model.has_seen(manifest.training[index].sha256) for index in part}
    curves.sort(key=lambda each: each.index)
    masks = sorted(measure.masks, key=lambda each: each.index)
    indices = sorted(seen_by)
    cases = [manifest.training[index] for index in indices]
    return MeasuredCases(
        indices=indices,
        cases=cases,
        seen=[seen_by[index] for index in indices],
        curves=curves,
        masks=masks,
        calibrated=_calibrated(model, curves, cases, cross_fitted=masks[0].cross_fitted is not None)
        if calibrated
        else None,
    )


def _calibrated(
    model: Model, curves: Sequence[CaseCurves], cases: Sequence[Case], *, cross_fitted: bool
) -> Floats:
    """Calibrate image probabilities; where points are cross-fitted, the model has seen these cases in its own."""
    probabilities = image_probabilities(curves)
    if not cross_fitted:
        return calibrate(probabilities, model.calibration)
    positive = np.array([each.label_area > 0 for each in curves])
    return cross_fitted_probabilities(probabilities, positive, [inner_fold_of(case.group) for case in cases])


def _mask_numbers(masks: Sequence[MaskScores]) -> dict[str, Any]:
    """Give the fields of `ScoredImages` that depend on masks."""
    return {
        "pred_px": np.array([each.area_px for each in masks]),
        "shared_px": np.array([each.overlap_px for each in masks]),
        "distances": {
            name: np.array([getattr(each, name) for each in masks])
            for name in ("surface_dice", "hausdorff95_mm")
        },
    }
