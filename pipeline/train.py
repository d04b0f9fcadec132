"""Train a network on all folds of a manifest but one, and make a model folder of it."""

import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from monai.data import set_track_meta
from torch.utils.tensorboard import SummaryWriter

from pneumoseg.pipeline.config import TrainConfig, dump_config
from pneumoseg.pipeline.console import say, tracked
from pneumoseg.pipeline.dataset.cache import cache_folder, open_cache
from pneumoseg.pipeline.dataset.manifest import Manifest, manifest_sha256, read_manifest
from pneumoseg.pipeline.devices import resolve_device, resolve_precision
from pneumoseg.pipeline.errors import JobError, UsageError
from pneumoseg.pipeline.files import claim_folder, write_json, write_text
from pneumoseg.pipeline.inference.model_folder import (
    ModelDescription,
    Preprocessing,
    Training,
    TunedPoint,
    save_description,
    save_weights,
)
from pneumoseg.pipeline.scoring.decision import Decisions, decide, search
from pneumoseg.pipeline.training.checkpoint import State, load_state
from pneumoseg.pipeline.training.history import History
from pneumoseg.pipeline.training.training_run import TrainingRun

LIBRARIES = ("pneumoseg", "monai", "torch", "pytorch-ignite", "pydicom", "pillow", "numpy")


@dataclass(frozen=True)
class TrainReport:
    """What a run came to: its model folder, its best epoch, and the scores of that on the fold held out."""

    model: Path
    best_epoch: int
    validation: Decisions
    exit_code: int = 0


def train_model(
    manifest_path: Path,
    run_dir: Path,
    *,
    fold: int = 0,
    config: TrainConfig | None = None,
    device: str = "auto",
    workers: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    cache: Path | None = None,
) -> TrainReport:
    """Train on all folds but *fold*, validate on that one, and write a model folder.

    Args:
        manifest_path: From `prepare_manifest`.
        run_dir: Gets configuration, numbers, checkpoints and ``model/``.
        fold: Held out.
        config: What the run may be told; None takes the defaults.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        workers: Loader processes; 0 loads in this one, which the cache makes fast enough on a CPU.
        resume: Go on from the last epoch that *run_dir* holds.
        overwrite: Delete the run that *run_dir* holds.
        cache: Folder of the decoded images; None puts it beside the manifest.

    Raises:
        UsageError: If an argument does not fit.
        JobError: If the manifest or its images cannot be used, or the loss is no longer a number.
    """
    config = config or TrainConfig()
    manifest = read_manifest(manifest_path)
    training, validation = _split(manifest, fold)
    precision = resolve_precision(config.precision, resolve_device(device))
    origin: State = {"manifest": manifest_sha256(manifest), "fold": fold, "config": dump_config(config)}
    state = _state_to_resume(run_dir, origin) if resume else None
    if state is None:
        claim_folder(run_dir, overwrite=overwrite, command="train")
        write_text(run_dir / "config.yaml", dump_config(config))

    with tracked("decode", total=len(manifest.training)) as advance:
        folder = cache or cache_folder(manifest_path)
        pixels = open_cache(
            manifest, manifest_path, image_size=config.data.image_size, folder=folder, on_case=advance
        )
    say(
        f"fold {fold} held out: {len(training)} images to train on, {len(validation)} to validate; "
        f"{precision.device}, {precision.name}, {torch.get_num_threads()} threads"
    )

    set_track_meta(
        False
    )  # metadata travels beside the tensors; MONAI's own tracking costs time per transform
    run = TrainingRun(
        manifest.training,
        pixels,
        training=training,
        validation=validation,
        config=config,
        precision=precision,
        workers=workers,
    )
    checkpoints = run_dir / "checkpoints"
    epochs_before = len(state["history"]) if state else 0
    with SummaryWriter(str(run_dir / "tensorboard"), purge_step=epochs_before + 1) as writer:
        history = History(run_dir, writer, state["history"] if state else None)
        run.fit(history, checkpoints, origin=origin, state=state)

    best_epoch = run.validator.state.best_metric_epoch
    run.network.load_state_dict(load_state(checkpoints / "best.pt")["network"])
    run.validator.run()
    found = decide(run.metric.curves, search(run.metric.curves))

    member = save_weights(run_dir / "model", run.network, fold=fold)
    description = ModelDescription(
        network=config.network,
        preprocessing=Preprocessing(image_size=config.data.image_size),
        operating_point=TunedPoint(
            threshold=found.point.threshold, min_area_fraction=found.point.min_area_fraction
        ),
        members=(member,),
        trained_on=_describe_training(manifest, training),
        validation={**found.score.as_dict(), "auc": found.auc},
        versions={name: version(name) for name in LIBRARIES},
    )
    save_description(run_dir / "model", description)
    write_json(
        run_dir / "summary.json",
        {
            "fold": fold,
            "best_epoch": best_epoch,
            "epochs": len(history.rows),
            "device": str(precision.device),
            "precision": precision.name,
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "manifest_sha256": description.trained_on.manifest_sha256,
            "config": config.model_dump(mode="json"),
            **description.model_dump(mode="json", include={"operating_point", "validation", "versions"}),
        },
    )
    return TrainReport(model=run_dir / "model", best_epoch=best_epoch, validation=found)


def _split(manifest: Manifest, fold: int) -> tuple[list[int], list[int]]:
    if not 0 <= fold < manifest.folds:
        raise UsageError(f"--fold {fold}: the manifest has the folds 0 to {manifest.folds - 1}")
    training = [index for index, case in enumerate(manifest.training) if case.fold != fold]
    validation = [index for index, case in enumerate(manifest.training) if case.fold == fold]
    if not training or not validation:
        raise JobError(
            f"fold {fold} leaves {len(training)} images to train on and {len(validation)} to validate; "
            "more labelled images or fewer folds would fit"
        )
    return training, validation


def _state_to_resume(run_dir: Path, origin: State) -> State:
    state = load_state(run_dir / "checkpoints" / "last.pt")
    for key, value in origin.items():
        if state["origin"][key] != value:
            raise UsageError(f"--resume: the {key} is not the one that {run_dir} was started with")
    return state


def _describe_training(manifest: Manifest, training: list[int]) -> Training:
    cases = [manifest.training[index] for index in training]
    return Training(
        manifest=manifest.name,
        manifest_sha256=manifest_sha256(manifest),
        cases=len(cases),
        positive=sum(case.is_positive for case in cases),
        image_digests=tuple(sorted(case.sha256[:16] for case in cases)),
        grouped_by=manifest.grouped_by,
    )
