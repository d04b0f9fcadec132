"""Train a network on all folds of a manifest but one, and make a model folder of it."""

import platform
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import ignite.distributed as idist
import torch
from monai.data import get_track_meta, set_track_meta

from pneumoseg.pipeline.core.config import TrainConfig
from pneumoseg.pipeline.core.config_files import dump_config, flatten, load_config
from pneumoseg.pipeline.core.console import console, say, tracked, warn
from pneumoseg.pipeline.core.devices import deterministic_algorithms, gather, process_group, resolve_precision
from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.core.files import claim_folder, locked, write_json, write_text
from pneumoseg.pipeline.dataset.cache import cache_folder, open_cache
from pneumoseg.pipeline.dataset.cases import Bytes
from pneumoseg.pipeline.dataset.manifest import Manifest, manifest_sha256, read_manifest
from pneumoseg.pipeline.jobs.evaluate import EvaluateReport, evaluate_model
from pneumoseg.pipeline.jobs.report import write_report
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
from pneumoseg.pipeline.reporting.run import EVALUATION
from pneumoseg.pipeline.scoring.case_curves import OperatingPointScores, score_point
from pneumoseg.pipeline.scoring.out_of_fold import OUT_OF_FOLD, OutOfFold, save_out_of_fold
from pneumoseg.pipeline.scoring.tuning import tune
from pneumoseg.pipeline.training.best_epochs import BestEpochs
from pneumoseg.pipeline.training.checkpoint import State, load_state
from pneumoseg.pipeline.training.fitting import fit
from pneumoseg.pipeline.training.gallery import Gallery
from pneumoseg.pipeline.training.history import History, HistoryFiles
from pneumoseg.pipeline.training.initial import (
    StartingWeights,
    held_out_digests,
    read_starting_weights,
    refuse_seen,
)
from pneumoseg.pipeline.training.phases import plan_phases
from pneumoseg.pipeline.training.run_record import (
    CONFIG,
    RunRecord,
    make_record,
    refuse_changes,
    write_record,
)
from pneumoseg.pipeline.training.tracking import MLflow, TensorBoard, Tracker, TrackerHandler
from pneumoseg.pipeline.training.training_run import TrainingRun

LIBRARIES = ("pneumoseg", "monai", "torch", "pytorch-ignite", "pydicom", "pillow", "numpy")


@dataclass(frozen=True)
class TrainReport:
    """What a run came to: its model folder, its best epoch, and the scores of that on the held-out fold."""

    model: Path
    fold: int
    """Held-out fold."""
    best_epoch: int
    validation: OperatingPointScores
    members: int = 1
    """Networks of the model; those beside the best epoch's are of the next best ones."""
    evaluation: EvaluateReport | None = None
    """Of the fold held out, at the original size and with intervals; None where no report was asked for."""
    exit_code: int = 0


def train_model(
    manifest_path: Path | None,
    run_dir: Path,
    *,
    fold: int | None = None,
    config: TrainConfig | None = None,
    device: str = "auto",
    workers: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    cache: Path | None = None,
    initial: Path | None = None,
    allow_seen: bool = False,
    mlflow: str | None = None,
    report: bool = True,
) -> TrainReport:
    """Train on all folds but one, validate on that one, and write a model folder and a report.

    Started by ``torchrun``, the processes train one network together; all of them see the same folders.

    A run is resumed from its folder alone: ``train_model(None, run_dir, resume=True)``. Its settings stay as they are,
    except that ``optimization.epochs`` may grow, also after the run has ended. Learning rate and share of positives are
    functions of the step, and are computed anew over the new length; patience starts again, and so does an average over
    the last epochs (``swa``). Without a change, a resumed run is bit-exactly the one that was never interrupted.

    Args:
        manifest_path: Manifest written by `prepare_manifest`. A resumed run needs it only if the file has moved.
        run_dir: Run folder; gets configuration, metrics, checkpoints, ``model/``, and with a report also
            ``evaluation/`` and ``report.html``.
        fold: Fold to hold out; None holds fold 0 out.
        config: Configuration; None takes the defaults, or that of the resumed run.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        workers: Processes that decode and, while training, load; 0 decodes in one and loads in this one, which the
            cache makes fast enough on a CPU.
        resume: Resume the run in *run_dir* after its last saved step.
        overwrite: Delete the run that *run_dir* holds.
        cache: Folder of the decoded images; None puts it beside the manifest.
        initial: Model folder whose weights the training starts from; of several members, the one that has seen fewest
            held-out images.
        allow_seen: Hold out images that the initial weights have seen, and mark every score.
        mlflow: Tracking store for MLflow.
        report: Evaluate the model on the held-out fold as `evaluate_model` does, and write the report of the run.

    Raises:
        UsageError: If an argument does not fit.
        InterruptedRunError: If a signal came; the run was saved.
        JobError: If the manifest or its images cannot be used, or the run cannot go on.
    """
    record = make_record(
        run_dir,
        resume=resume,
        manifest=manifest_path,
        fold=fold,
        cache=cache,
        initial=initial,
        allow_seen=allow_seen,
    )
    config = config or (load_config(run_dir / CONFIG) if resume else TrainConfig())
    with ExitStack() as stack:
        place = stack.enter_context(process_group(device))
        stack.enter_context(deterministic_algorithms(config.deterministic))
        precision = resolve_precision(config.precision, place, training=True)
        is_main_process = idist.get_rank() == 0
        console.quiet = console.quiet or not is_main_process

        start = _start(run_dir, record, config, resume=resume)
        if is_main_process:
            stack.enter_context(_claimed(run_dir, resume=resume, overwrite=overwrite))
            write_text(run_dir / CONFIG, dump_config(config))
            write_record(run_dir, record)
        caches = _open_caches(start.manifest, record, config, workers=max(1, workers))
        say(
            f"fold {record.fold} held out: {len(start.training)} images to train on, {len(start.validation)} to "
            f"validate; {precision.device}, {precision.name}, {torch.get_num_threads()} threads"
            + (f", {idist.get_world_size()} processes" if idist.get_world_size() > 1 else "")
        )
        # metadata travels beside the tensors; MONAI's own tracking costs time in each transform
        stack.callback(set_track_meta, get_track_meta())
        set_track_meta(False)
        cases = start.manifest.training
        run = TrainingRun(
            cases,
            caches,
            training=start.training,
            validation=start.validation,
            config=config,
            precision=precision,
            workers=workers,
            initial=start.weights.network,
            encoder_weights=start.weights.encoder,
        )
        history, reports = History(), list[HistoryFiles | TrackerHandler]()
        if is_main_process:
            epochs_before = len(start.state["history"]["rows"]) if start.state else 0
            trackers: list[Tracker] = [TensorBoard(run_dir / "tensorboard", epochs_before=epochs_before)]
            if mlflow:
                trackers.append(MLflow(mlflow, name=run_dir.name, parameters=flatten(config)))
            for tracker in trackers:
                stack.callback(tracker.close)
            gallery = Gallery(cases, start.validation, caches[config.data.image_size], precision=precision)
            draw = partial(gallery.draw, run.evaluated)
            reports = [HistoryFiles(history, run_dir), TrackerHandler(trackers, draw)]
        best = fit(
            run,
            history,
            run_dir / "checkpoints",
            origin=start.origin,
            state=start.state,
            reports=reports,
        )

        kept = _keep_the_better(run, best)
        if config.tta:
            run.validate_tta(config.tta)
        out_of_fold = OutOfFold(run.metric.all_curves(), run.predict_validation())
        tuned = tune(out_of_fold, cases)
        found = score_point(out_of_fold.curves, tuned.point)
        if is_main_process:
            trained_on = describe_training(
                start.manifest, start.training, seen=start.origin["initial"]["seen"]
            )
            _write_model(run_dir, run, start, trained_on, found=found, search=tuned.search, kept=kept)
            save_out_of_fold(run_dir / OUT_OF_FOLD, out_of_fold)
            _write_summary(run_dir, run, start, trained_on, found=found, kept=kept)
        idist.barrier()  # who reads the model next finds it written
    evaluation = None
    if report and is_main_process:  # alone: the processes of the training have parted
        evaluation = evaluate_run(
            run_dir, record.manifest, device=str(precision.device), workers=workers, config=config
        )
    return TrainReport(
        model=run_dir / "model",
        fold=start.fold,
        best_epoch=kept.epoch,
        validation=found,
        members=len(run.predictor.networks),
        evaluation=evaluation,
    )


@dataclass(frozen=True)
class _Start:
    """What a run starts from: its cases, and initial weights or the state of a checkpoint."""

    manifest: Manifest
    fold: int
    training: list[int]
    validation: list[int]
    origin: State
    """What the run is of; goes into each checkpoint."""
    weights: StartingWeights
    state: State | None


def _start(run_dir: Path, record: RunRecord, config: TrainConfig, *, resume: bool) -> _Start:
    """Read what a run starts from, and check that it fits before anything is written."""
    if record.fold == "all":
        raise UsageError(f"{run_dir} is a cross-validation; resume it with --fold all")
    manifest, fold = read_manifest(record.manifest), record.fold
    training, validation = _split(manifest, fold)
    origin: State = {"manifest": manifest_sha256(manifest), "fold": fold, "config": flatten(config)}
    state = None
    if resume:
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
        if record.initial is not None and idist.get_rank() == 0:
            refuse_seen(record.initial, manifest, [fold], allowed=record.allow_seen)
        weights = read_starting_weights(record.initial, config.network, held_out_digests(manifest, fold))
    origin["initial"] = weights.origin
    return _Start(manifest, fold, training, validation, origin, weights, state)


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
    best.load_state_dict(gather(best.state_dict())[0])  # only the process that leads has saved them
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
    manifest: Manifest, record: RunRecord, config: TrainConfig, *, workers: int
) -> dict[int, Bytes]:
    """Open the cache of each resolution; the main process makes those that are missing, the others wait for it."""
    is_main_process = idist.get_rank() == 0
    if not is_main_process:
        idist.barrier()
    folder = record.cache or cache_folder(record.manifest)
    caches: dict[int, Bytes] = {}
    for size in {phase.image_size for phase in plan_phases(config)}:
        with tracked(f"decode at {size} px", total=len(manifest.training)) as advance:
            caches[size] = open_cache(
                manifest, record.manifest, image_size=size, folder=folder, workers=workers, on_case=advance
            )
    if is_main_process:
        idist.barrier()
    return caches


def _write_model(
    run_dir: Path,
    run: TrainingRun,
    start: _Start,
    trained_on: Training,
    *,
    found: OperatingPointScores,
    search: OperatingPointSearch,
    kept: _Kept,
) -> None:
    config = run.config
    members = tuple(
        save_weights(run_dir / "model", network, fold=start.fold, epoch=epoch)
        for network, epoch in zip(run.predictor.networks, kept.members or (None,), strict=True)
    )
    description = ModelDescription(
        network=config.network.model_copy(update={"encoder_weights": None}),  # no path goes with the model
        encoder_origin=start.origin["initial"]["encoder_origin"],
        preprocessing=Preprocessing(image_size=config.data.image_size),
        operating_point=TunedPoint.of(found.point),
        operating_point_search=search,
        members=members,
        tta=config.tta,
        precision=run.precision.name,
        trained_on=trained_on,
        validation={**found.score.as_dict(), "auc": found.auc},
        versions={name: version(name) for name in LIBRARIES},
    )
    save_description(run_dir / "model", description)


def _write_summary(
    run_dir: Path,
    run: TrainingRun,
    start: _Start,
    trained_on: Training,
    *,
    found: OperatingPointScores,
    kept: _Kept,
) -> None:
    """Write all that is needed to repeat the run, and what it came to."""
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
            "initial_weights_sha256": start.origin["initial"]["weights_sha256"],
            "initial_images": trained_on.initial_images,
            "held_out_seen": trained_on.held_out_seen,
            "seed": run.config.seed,
            "config": run.config.model_dump(mode="json"),
            "operating_point": asdict(found.point),
            "validation": {**found.score.as_dict(), "auc": found.auc},
            "versions": {name: version(name) for name in LIBRARIES},
        },
    )


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


def describe_training(manifest: Manifest, training: Sequence[int], *, seen: Iterable[str] = ()) -> Training:
    """Describe what the weights of a run have seen.

    Args:
        manifest: Manifest of the run.
        training: Indices of the cases that it trains on; all others are held out.
        seen: Digests of the images that its initial weights had seen.
    """
    cases = [manifest.training[index] for index in training]
    digests = {image_digest(case.sha256) for case in cases}
    held_out = {image_digest(case.sha256) for case in manifest.training} - digests
    return Training(
        manifest=manifest.name,
        manifest_sha256=manifest_sha256(manifest),
        cases=len(cases),
        positive=sum(case.is_positive for case in cases),
        image_digests=tuple(sorted(digests.union(seen))),
        initial_images=len(set(seen)),
        held_out_seen=len(held_out.intersection(seen)),
        grouped_by=manifest.grouped_by,
    )
