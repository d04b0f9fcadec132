"""The starting point of a training run: its cases, and initial weights or the checkpoint that it is resumed from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import ignite.distributed as idist

from pneumoseg.pipeline.core.config import TrainConfig
from pneumoseg.pipeline.core.config_files import flatten, load_config
from pneumoseg.pipeline.core.console import warn
from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.dataset.manifest import Manifest, manifest_sha256, read_manifest
from pneumoseg.pipeline.model.description import DESCRIPTION, ModelDescription, read_description
from pneumoseg.pipeline.reporting.result_files import read_json
from pneumoseg.pipeline.training.checkpoint import State, has_state, load_state
from pneumoseg.pipeline.training.initial import (
    StartingWeights,
    held_out_digests,
    read_starting_weights,
    refuse_seen,
)
from pneumoseg.pipeline.training.run_record import CONFIG, RunRecord, differences, refuse_changes


@dataclass(frozen=True)
class StartingPoint:
    """What a run starts from: its cases, and initial weights or the state of a checkpoint.

    Attributes:
        manifest: Manifest of the run.
        fold: Held-out fold; None where no image is held out.
        training: Indices of the cases to train on.
        validation: Indices of the cases of the held-out fold.
        origin: Identity of the run: hash of its manifest, fold, configuration and initial weights; saved in each
            checkpoint.
        weights: Initial weights.
        state: State of the checkpoint that the run is resumed from; None for a new run.
        cross_validated: Model of the cross-validation before a run that holds no image out, whose operating points and
            scores it takes; None otherwise.
    """

    manifest: Manifest
    fold: int | None
    training: list[int]
    validation: list[int]
    origin: State
    weights: StartingWeights
    state: State | None
    cross_validated: ModelDescription | None


def read_starting_point(
    run_dir: Path, record: RunRecord, config: TrainConfig, *, resume: bool
) -> StartingPoint:
    """Read what a run starts from, and check that it fits, before anything is written.

    Args:
        run_dir: Run folder; a resumed run has its checkpoints there.
        record: Manifest, fold and initial weights of the run.
        config: Configuration of the run.
        resume: Whether to resume the run after its last saved step; a run that was killed before the first one starts
            again.

    Raises:
        UsageError: If the arguments do not fit each other, the manifest, or the resumed run.
        JobError: If the manifest or the initial weights cannot be used, or no checkpoint can be resumed from.
    """
    if record.fold == "all":
        raise UsageError(f"{run_dir} is a cross-validation; resume it with --fold all")
    manifest, fold = read_manifest(record.manifest), record.fold
    cross_validated = _cross_validated(record.after, manifest, config) if record.after else None
    training, validation = _split(manifest, fold)
    if idist.get_rank() == 0:
        _warn_one_kind(manifest, {"train on": training, "validate": validation})
    origin: State = {"manifest": manifest_sha256(manifest), "fold": fold, "config": flatten(config)}
    state = None
    if resume and not _was_killed_before_its_start(run_dir):
        state = load_state(run_dir / "checkpoints", on_damage=warn)
        before = state["origin"]
        if before["manifest"] != origin["manifest"]:
            raise UsageError(
                f"--resume: {record.manifest} is not the manifest that {run_dir} was started with; restore that one, "
                "or start another run"
            )
        refuse_changes(run_dir, before["config"], origin["config"])
        weights = StartingWeights(origin=before["initial"])
    else:
        if resume:
            refuse_changes(run_dir, flatten(load_config(run_dir / CONFIG)), origin["config"])
        if record.initial is not None and fold is not None and idist.get_rank() == 0:
            refuse_seen(record.initial, manifest, [fold], allowed=record.allow_seen)
        weights = read_starting_weights(record.initial, config.network, held_out_digests(manifest, fold))
    origin["initial"] = weights.origin
    return StartingPoint(manifest, fold, training, validation, origin, weights, state, cross_validated)


def _cross_validated(run_dir: Path, manifest: Manifest, config: TrainConfig) -> ModelDescription:
    """Read the model of a cross-validation, and check that a run without a held-out fold can do as its folds did."""
    before = load_config(run_dir / CONFIG)
    changed = differences(run_dir, flatten(before), flatten(config))
    if changed:
        raise UsageError(
            f"--after: {'; '.join(changed.values())}; operating points and scores are those of this configuration: "
            "leave it out, or cross-validate another one"
        )
    if before.optimization.keep != "last" or before.optimization.schedule == "plateau":
        raise UsageError(
            f"--after {run_dir}: the cross-validation has chosen epochs or learning rates by validation, which a run "
            "that holds no image out cannot do; cross-validate with optimization.keep=last and a schedule other than "
            "plateau"
        )
    needed = (run_dir / "model" / DESCRIPTION, run_dir / "summary.json")
    # a run that is made longer has the model of the shorter one until it ends; an early summary has no configuration
    wanted = before.model_dump(mode="json")
    if not all(path.is_file() for path in needed) or read_json(needed[1]).get("config", wanted) != wanted:
        raise UsageError(
            f"--after {run_dir}: the cross-validation has no model yet; `pneumoseg train --resume -o {run_dir}` ends it"
        )
    description = read_description(run_dir / "model")
    if description.trained_on.manifest_sha256 != manifest_sha256(manifest):
        raise UsageError(f"--after {run_dir}: is a cross-validation of another manifest than {manifest.name}")
    return description


def _was_killed_before_its_start(run_dir: Path) -> bool:
    """Tell whether a run ended while it decoded its images, before its first checkpoint and before any epoch."""
    return not has_state(run_dir / "checkpoints") and not (run_dir / "metrics.csv").exists()


_WITHOUT_POSITIVES: Final = {
    "train on": "the network cannot learn what one looks like; hold out another fold, or add positives",
    "validate": "neither epoch nor operating point can be chosen, and no score shows whether one is found; hold out "
    "another fold, or add positives",
}


def _warn_one_kind(manifest: Manifest, sets: Mapping[str, Sequence[int]]) -> None:
    """Warn of images to train on or to validate that are all positive or all negative."""
    if not any(case.is_positive for case in manifest.training):
        warn(
            f"none of the {manifest.size} images of the manifest has a pneumothorax: a network cannot learn what one "
            "looks like; look at the labels"
        )
        return
    for purpose, indices in sets.items():
        if not indices:
            continue  # a run on all images validates nothing
        positive = sum(manifest.training[index].is_positive for index in indices)
        if positive == 0:
            warn(
                f"none of the {len(indices)} images to {purpose} has a pneumothorax: {_WITHOUT_POSITIVES[purpose]}"
            )
        elif positive == len(indices):
            warn(
                f"all {len(indices)} images to {purpose} have a pneumothorax: there is no specificity; add negatives"
            )


def _split(manifest: Manifest, fold: int | None) -> tuple[list[int], list[int]]:
    if fold is None:
        return manifest.indices_in(range(manifest.folds)), []
    if not 0 <= fold < manifest.folds:
        raise UsageError(f"--fold {fold}: the manifest has the folds 0 to {manifest.folds - 1}")
    training = manifest.indices_in({*range(manifest.folds)} - {fold})
    validation = manifest.indices_in({fold})
    if not training or not validation:
        raise JobError(
            f"fold {fold} leaves {len(training)} images to train on and {len(validation)} to validate; "
            "more labelled images or fewer folds would fit"
        )
    return training, validation
