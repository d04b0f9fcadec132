"""Train a network on all folds of a manifest but one, and make a model folder of it."""

import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import ignite.distributed as idist
import torch
from monai.data import get_track_meta, set_track_meta

from pneumoseg.pipeline.config import TrainConfig, dump_config
from pneumoseg.pipeline.console import console, say, tracked, warn
from pneumoseg.pipeline.dataset.cache import cache_folder, open_cache
from pneumoseg.pipeline.dataset.cases import Bytes
from pneumoseg.pipeline.dataset.manifest import Manifest, manifest_sha256, read_manifest
from pneumoseg.pipeline.devices import deterministic_algorithms, gather, process_group, resolve_precision
from pneumoseg.pipeline.errors import JobError, UsageError
from pneumoseg.pipeline.evaluate import EvaluateReport, evaluate_model
from pneumoseg.pipeline.files import claim_folder, locked, write_json, write_text
from pneumoseg.pipeline.inference.model_folder import (
    Decision,
    EncoderOrigin,
    ModelDescription,
    Preprocessing,
    Training,
    TunedPoint,
    load_initial_weights,
    read_description,
    save_description,
    save_weights,
)
from pneumoseg.pipeline.report import write_report
from pneumoseg.pipeline.reporting.run import EVALUATION
from pneumoseg.pipeline.scoring.decision import OperatingPointScores, decide
from pneumoseg.pipeline.scoring.out_of_fold import OUT_OF_FOLD, OutOfFold, save_out_of_fold
from pneumoseg.pipeline.scoring.tuning import tune
from pneumoseg.pipeline.training.best_epochs import BestEpochs
from pneumoseg.pipeline.training.checkpoint import State, load_state
from pneumoseg.pipeline.training.encoder_weights import read_encoder_weights
from pneumoseg.pipeline.training.fitting import fit
from pneumoseg.pipeline.training.gallery import Gallery
from pneumoseg.pipeline.training.history import History, WrittenHistory
from pneumoseg.pipeline.training.phases import plan_phases
from pneumoseg.pipeline.training.tracking import MLflow, TensorBoard, Tracker
from pneumoseg.pipeline.training.training_run import TrainingRun

LIBRARIES = ("pneumoseg", "monai", "torch", "pytorch-ignite", "pydicom", "pillow", "numpy")


@dataclass(frozen=True)
class TrainReport:
    """What a run came to: its model folder, its best epoch, and the scores of that on the fold held out."""

    model: Path
    best_epoch: int
    validation: OperatingPointScores
    members: int = 1
    """Networks of the model; those beside the best epoch's are of the next best ones."""
    evaluation: EvaluateReport | None = None
    """Of the fold held out, at the original size and with intervals; None where no report was asked for."""
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
    initial: Path | None = None,
    mlflow: str | None = None,
    report: bool = True,
) -> TrainReport:
    """Train on all folds but *fold*, validate on that one, and write a model folder and a report.

    Started by ``torchrun``, the processes train one network together; all of them see the same folders.

    Args:
        manifest_path: From `prepare_manifest`.
        run_dir: Gets configuration, numbers, checkpoints, ``model/``, and with a report also ``evaluation/`` and
            ``report.html``.
        fold: Held out.
        config: What the run may be told; None takes the defaults.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        workers: Processes that decode and, while training, load; 0 decodes in one and loads in this one, which the
            cache makes fast enough on a CPU.
        resume: Go on from the last step that *run_dir* holds.
        overwrite: Delete the run that *run_dir* holds.
        cache: Folder of the decoded images; None puts it beside the manifest.
        initial: Model folder whose weights to begin with.
        mlflow: Tracking store for MLflow.
        report: Evaluate the model on the fold held out as `evaluate_model` does, and make the report of the run.

    Raises:
        UsageError: If an argument does not fit.
        InterruptedRunError: If a signal came; the run was saved.
        JobError: If the manifest or its images cannot be used, or the run cannot go on.
    """
    config = config or TrainConfig()
    with ExitStack() as stack:
        place = stack.enter_context(process_group(device))
        stack.enter_context(deterministic_algorithms(config.deterministic))
        precision = resolve_precision(config.precision, place)
        leads = idist.get_rank() == 0
        console.quiet = console.quiet or not leads

        manifest = read_manifest(manifest_path)
        training, validation = _split(manifest, fold)
        weights = load_initial_weights(initial, config.network) if initial else None
        pretrained = None if initial else read_encoder_weights(config.network)
        origin: State = {"manifest": manifest_sha256(manifest), "fold": fold, "config": dump_config(config)}
        state = _state_to_resume(run_dir, origin) if resume else None
        if leads:
            stack.enter_context(_claimed(run_dir, resume=resume, overwrite=overwrite))
            write_text(run_dir / "config.yaml", dump_config(config))
        caches = _open_caches(
            manifest,
            manifest_path,
            config,
            cache or cache_folder(manifest_path),
            workers=max(1, workers),
            leads=leads,
        )
        say(
            f"fold {fold} held out: {len(training)} images to train on, {len(validation)} to validate; "
            f"{precision.device}, {precision.name}, {torch.get_num_threads()} threads"
            + (f", {idist.get_world_size()} processes" if idist.get_world_size() > 1 else "")
        )
        # metadata travels beside the tensors; MONAI's own tracking costs time in each transform
        stack.callback(set_track_meta, get_track_meta())
        set_track_meta(False)
        run = TrainingRun(
            manifest.training,
            caches,
            training=training,
            validation=validation,
            config=config,
            precision=precision,
            workers=workers,
            initial=weights,
            encoder_weights=pretrained and pretrained.tensors,
        )
        rows = state["history"] if state else []
        history = History(rows)
        if leads:
            trackers: list[Tracker] = [TensorBoard(run_dir / "tensorboard", epochs_before=len(rows))]
            if mlflow:
                trackers.append(MLflow(mlflow, name=run_dir.name, parameters=_parameters(config)))
            for tracker in trackers:
                stack.callback(tracker.close)
            gallery = Gallery(
                manifest.training, validation, caches[config.data.image_size], precision=precision
            )
            history = WrittenHistory(run_dir, trackers=trackers, gallery=gallery, rows=rows)
        checkpoints = run_dir / "checkpoints"
        best = fit(run, history, checkpoints, origin=origin, state=state)

        kept = _keep_the_better(run, best)
        if config.tta:
            run.validate_tta(config.tta)
        curves = run.metric.all_curves()
        maps = run.predict_validation()
        tuned = tune(OutOfFold(curves, maps), manifest.training)
        found = decide(curves, tuned.point)
        if leads:
            _write_model(
                run_dir,
                run,
                manifest,
                training,
                fold=fold,
                found=found,
                decision=tuned.decision,
                kept=kept,
                encoder_origin=read_description(initial).encoder_origin
                if initial
                else pretrained and pretrained.origin,
            )
            save_out_of_fold(run_dir / OUT_OF_FOLD, OutOfFold(curves, maps))
            _write_summary(run_dir, run, manifest, found, fold=fold, kept=kept, initial=initial)
        idist.barrier()  # who reads the model next finds it written
    evaluation = None
    if report and leads:  # alone: the processes of the training have parted
        evaluation = evaluate_run(
            run_dir, manifest_path, device=str(precision.device), workers=workers, config=config
        )
    return TrainReport(
        model=run_dir / "model",
        best_epoch=kept.epoch,
        validation=found,
        members=len(run.predictor.networks),
        evaluation=evaluation,
    )


def evaluate_run(
    run_dir: Path, manifest_path: Path, *, device: str, workers: int, config: TrainConfig
) -> EvaluateReport:
    """Evaluate the model of a run on what its networks never saw, and make the report of the run.

    Raises: JobError: If another process has the run.
    """
    with locked(run_dir):
        evaluation = evaluate_model(
            run_dir / "model",
            manifest_path,
            run_dir / EVALUATION,
            device=device,
            batch_size=max(1, config.data.batch_size // config.data.accumulate),
            workers=max(1, workers),
            overwrite=True,
        )
        write_report(run_dir)
    return evaluation


@dataclass(frozen=True)
class _Kept:
    """Which weights became the model: those of the best epoch, an average, or those of several as members."""

    epoch: int
    dice: float
    averaged: bool
    averaged_dice: float | None
    members: tuple[int, ...] = ()
    """The epoch of each member, where there are several."""


def _keep_the_better(run: TrainingRun, best: BestEpochs) -> _Kept:
    """Leave in the network the weights of the best epoch or, where it validates better, the average.

    An ensemble is kept in any case: a mean of probabilities cannot fall out of step with a normalization, as a mean
    of weights can, and the better one on a few hundred images is chance.
    """
    best.restore(gather(best.state())[0])  # only the process that leads has saved them
    if not best.entries:
        raise JobError("no epoch at the final resolution left weights that are numbers; look at metrics.csv")
    entry = best.entries[0]
    if run.config.optimization.average == "ensemble" and len(best.entries) > 1:
        dice = run.validate_ensemble(best.load(each) for each in best.entries)
        epochs = tuple(each.epoch for each in best.entries)
        return _Kept(entry.epoch, dice, averaged=False, averaged_dice=None, members=epochs)
    average = run.averaged(best)
    averaged_dice = None if average is None else run.validate(average)
    if average is not None and averaged_dice is not None and averaged_dice > entry.rank.dice:
        return _Kept(entry.epoch, averaged_dice, averaged=True, averaged_dice=averaged_dice)
    dice = run.validate(best.load(entry))
    return _Kept(entry.epoch, dice, averaged=False, averaged_dice=averaged_dice)


@contextmanager
def _claimed(run_dir: Path, *, resume: bool, overwrite: bool) -> Iterator[None]:
    """The run folder, for this process alone."""
    if run_dir.is_dir():
        with locked(run_dir):
            pass
    if not resume:
        claim_folder(run_dir, overwrite=overwrite, command="train")
    with locked(run_dir):
        yield


def _open_caches(
    manifest: Manifest, manifest_path: Path, config: TrainConfig, folder: Path, *, workers: int, leads: bool
) -> dict[int, Bytes]:
    """The cache of each resolution; the process that leads makes what is not there, the others wait for it."""
    if not leads:
        idist.barrier()
    caches: dict[int, Bytes] = {}
    for size in {phase.image_size for phase in plan_phases(config)}:
        with tracked(f"decode at {size} px", total=len(manifest.training)) as advance:
            caches[size] = open_cache(
                manifest, manifest_path, image_size=size, folder=folder, workers=workers, on_case=advance
            )
    if leads:
        idist.barrier()
    return caches


def _write_model(
    run_dir: Path,
    run: TrainingRun,
    manifest: Manifest,
    training: list[int],
    *,
    fold: int,
    found: OperatingPointScores,
    decision: Decision,
    kept: _Kept,
    encoder_origin: EncoderOrigin | None,
) -> None:
    config = run.config
    members = tuple(
        save_weights(run_dir / "model", network, fold=fold, epoch=epoch)
        for network, epoch in zip(run.predictor.networks, kept.members or (None,), strict=True)
    )
    description = ModelDescription(
        network=config.network.model_copy(update={"encoder_weights": None}),  # no path goes with the model
        encoder_origin=encoder_origin,
        preprocessing=Preprocessing(image_size=config.data.image_size),
        operating_point=TunedPoint.of(found.point),
        decision=decision,
        members=members,
        tta=config.tta,
        precision=run.precision.name,
        trained_on=describe_training(manifest, training),
        validation={**found.score.as_dict(), "auc": found.auc},
        versions={name: version(name) for name in LIBRARIES},
    )
    save_description(run_dir / "model", description)


def _write_summary(
    run_dir: Path,
    run: TrainingRun,
    manifest: Manifest,
    found: OperatingPointScores,
    *,
    fold: int,
    kept: _Kept,
    initial: Path | None,
) -> None:
    """All that is needed to repeat the run, and what it came to."""
    write_json(
        run_dir / "summary.json",
        {
            "fold": fold,
            "best_epoch": kept.epoch,
            "averaged": kept.averaged,
            "averaged_dice": kept.averaged_dice,
            "member_epochs": list(kept.members or (kept.epoch,)),
            "epochs": run.epochs,
            "steps": run.plan.steps,
            "skipped_steps": run.step.skipped,
            "device": str(run.precision.device),
            "precision": run.precision.name,
            "processes": run.processes,
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "manifest_sha256": manifest_sha256(manifest),
            "initial_weights_sha256": read_description(initial).members[0].sha256 if initial else None,
            "seed": run.config.seed,
            "config": run.config.model_dump(mode="json"),
            "operating_point": asdict(found.point),
            "validation": {**found.score.as_dict(), "auc": found.auc},
            "versions": {name: version(name) for name in LIBRARIES},
        },
    )


def _parameters(config: TrainConfig) -> dict[str, object]:
    """The configuration as a flat list, for trackers that know no other."""
    sections = config.model_dump(mode="json")
    return {
        name if not isinstance(section, dict) else f"{name}.{key}": value
        for name, section in sections.items()
        for key, value in (section.items() if isinstance(section, dict) else [(name, section)])
    }


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
    state = load_state(run_dir / "checkpoints", on_damage=warn)
    for key, value in origin.items():
        if state["origin"][key] != value:
            raise UsageError(f"--resume: the {key} is not the one that {run_dir} was started with")
    return state


def describe_training(manifest: Manifest, training: list[int]) -> Training:
    """What weights have seen that were trained on the cases at these places."""
    cases = [manifest.training[index] for index in training]
    return Training(
        manifest=manifest.name,
        manifest_sha256=manifest_sha256(manifest),
        cases=len(cases),
        positive=sum(case.is_positive for case in cases),
        image_digests=tuple(sorted(case.sha256[:16] for case in cases)),
        grouped_by=manifest.grouped_by,
    )
