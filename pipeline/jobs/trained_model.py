"""What a finished training run leaves: the model folder and ``summary.json``."""

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, cast

import torch

from pneumoseg.pipeline.core.files import write_json
from pneumoseg.pipeline.dataset.manifest import Case, Manifest, manifest_sha256
from pneumoseg.pipeline.jobs.starting_point import StartingPoint
from pneumoseg.pipeline.model.card import save_description
from pneumoseg.pipeline.model.description import (
    ModelDescription,
    OperatingPointSearch,
    Preprocessing,
    Training,
    TunedPoint,
    image_digest,
)
from pneumoseg.pipeline.model.weights import save_weights
from pneumoseg.pipeline.scoring.case_curves import CaseCurves, OperatingPointScores, score_point
from pneumoseg.pipeline.scoring.tuning import tune
from pneumoseg.pipeline.training.training_run import TrainingRun

if TYPE_CHECKING:
    from pneumoseg.pipeline.core.config import ComputedPrecision

LIBRARIES: Final = ("pneumoseg", "monai", "torch", "pytorch-ignite", "pydicom", "pillow", "numpy")
"""Libraries whose versions are recorded."""
_LONGEST_NAME: Final = 200


@dataclass(frozen=True)
class KeptWeights:
    """Which weights became the model: those of the best epoch, an average, or those of several epochs as members.

    Attributes:
        epoch: Best epoch.
        averaged: Whether the average of weights was kept instead of those of the best epoch.
        averaged_dice: Validation Dice of the average; None without an average.
        members: Epoch of each member, if there are several.
    """

    epoch: int
    averaged: bool = False
    averaged_dice: float | None = None
    members: tuple[int, ...] = ()


@dataclass(frozen=True)
class Tuned:
    """What was found on held-out images.

    Attributes:
        point: Operating point of the model.
        search: Record of its search.
        validation: Scores at that point, by name.
    """

    point: TunedPoint
    search: OperatingPointSearch | None
    validation: Mapping[str, float | int | None]

    @classmethod
    def of(cls, model: ModelDescription) -> Self:
        """Take what was found for another model.

        Args:
            model: Description of that model.
        """
        return cls(model.operating_point, model.operating_point_search, model.validation)

    def put_into(self, model: ModelDescription) -> ModelDescription:
        """Replace what was found for a model.

        Args:
            model: Description of the model.
        """
        return model.model_copy(
            update={
                "operating_point": self.point,
                "operating_point_search": self.search,
                "validation": dict(self.validation),
            }
        )


def tune_points(curves: Sequence[CaseCurves], cases: Sequence[Case]) -> tuple[Tuned, OperatingPointScores]:
    """Search operating points on held-out images, and score that of a model.

    Args:
        curves: Curves and image probabilities of the held-out images.
        cases: All cases of the manifest.

    Returns: What was found, and the scores image by image.
    """
    search = tune(curves, cases)
    point = search.objectives["challenge"].point
    scores = score_point(curves, point.as_point())
    return Tuned(point, search, scores.as_dict()), scores


def describe_training(
    manifest: Manifest, training: Sequence[int], *, seen: Iterable[str] = (), epoch_chosen: bool = True
) -> Training:
    """Describe the images that the weights of a run have seen.

    Args:
        manifest: Manifest of the run.
        training: Indices of the cases that the run trains on; all others are held out.
        seen: Digests of the images that its initial weights had seen.
        epoch_chosen: Whether scores on the held-out images chose the epochs.
    """
    cases = [manifest.training[index] for index in training]
    digests = {image_digest(case.sha256) for case in cases}
    held_out = {image_digest(case.sha256) for case in manifest.training} - digests
    return Training(
        manifest=manifest.name[:_LONGEST_NAME],
        manifest_sha256=manifest_sha256(manifest),
        cases=len(cases),
        positive=sum(case.is_positive for case in cases),
        image_digests=tuple(sorted(digests.union(seen))),
        initial_images=len(set(seen)),
        held_out_seen=len(held_out.intersection(seen)),
        epoch_chosen=epoch_chosen,
        grouped_by=manifest.grouped_by,
        unknown_patients=manifest.unknown_patients,
    )


def write_results(
    run_dir: Path,
    run: TrainingRun,
    start: StartingPoint,
    *,
    tuned: Tuned,
    kept: KeptWeights,
) -> None:
    """Write the model folder of a run and ``summary.json``: all that is needed to repeat the run, and its scores.

    Args:
        run_dir: Run folder.
        run: The run after its end, with the kept weights in its networks.
        start: What the run has started from.
        tuned: Operating point and scores, on the held-out fold or of the cross-validation before the run.
        kept: Which weights were kept.
    """
    config, initial = run.config, start.origin["initial"]
    trained_on = describe_training(
        start.manifest,
        start.training,
        seen=initial["seen"],
        epoch_chosen=config.optimization.keep == "best",
    )
    if start.cross_validated is not None:  # the scores are its own, with what makes them invalid
        held_out_seen = start.cross_validated.trained_on.held_out_seen
        trained_on = trained_on.model_copy(update={"held_out_seen": held_out_seen})
    versions = {name: version(name) for name in LIBRARIES}
    members = tuple(
        save_weights(run_dir / "model", network, fold=start.fold, epoch=epoch)
        for network, epoch in zip(run.predictor.networks, kept.members or (None,), strict=True)
    )
    description = ModelDescription(
        network=config.network.model_copy(update={"encoder_weights": None}),  # no path goes with the model
        encoder_origin=initial["encoder_origin"],
        preprocessing=Preprocessing(image_size=config.data.image_size),
        operating_point=tuned.point,
        operating_point_search=tuned.search,
        members=members,
        tta=config.tta,
        precision=cast("ComputedPrecision", run.precision.name),  # nothing is trained in int8
        trained_on=trained_on,
        validation=dict(tuned.validation),
        versions=versions,
    )
    save_description(run_dir / "model", description)
    write_json(
        run_dir / "summary.json",
        {
            "fold": start.fold,
            "best_epoch": kept.epoch,
            "averaged": kept.averaged,
            "averaged_dice": kept.averaged_dice,
            "member_epochs": list(kept.members or (kept.epoch,)),
            "epochs": run.epochs,
            "steps": run.plan.steps,
            "skipped_steps": run.step.skipped,
            "scaler_skipped_steps": run.step.scaler_skipped,
            "device": str(run.precision.device),
            "precision": run.precision.name,
            "processes": run.processes,
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "manifest_sha256": start.origin["manifest"],
            "initial_weights_sha256": initial["weights_sha256"],
            "initial_images": trained_on.initial_images,
            "held_out_seen": trained_on.held_out_seen,
            "seed": config.seed,
            "config": config.model_dump(mode="json"),
            "operating_point": tuned.point.model_dump(),
            "validation": dict(tuned.validation),
            "versions": versions,
        },
    )
