"""Train a network on all folds of a manifest but one, or on all, and write its model folder."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import ignite.distributed as idist
import torch
from monai.data import get_track_meta, set_track_meta

from pneumoseg.pipeline.core.claims import claim_folder, locked, refuse_links, remove_unfinished
from pneumoseg.pipeline.core.config import TrainConfig
from pneumoseg.pipeline.core.config_files import dump_config, flatten, load_config
from pneumoseg.pipeline.core.console import console, say, tracked, warn
from pneumoseg.pipeline.core.devices import (
    gather,
    process_count,
    process_group,
    resolve_precision,
    training_algorithms,
)
from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.files import write_text
from pneumoseg.pipeline.dataset.cache import cache_folder, open_cache
from pneumoseg.pipeline.dataset.cases import Bytes
from pneumoseg.pipeline.dataset.loaders import loader_workers
from pneumoseg.pipeline.dataset.manifest import Manifest
from pneumoseg.pipeline.jobs.evaluate import EvaluateReport
from pneumoseg.pipeline.jobs.finished_run import evaluate_run, finish_without_fold
from pneumoseg.pipeline.jobs.starting_point import read_starting_point
from pneumoseg.pipeline.jobs.trained_model import KeptWeights, Tuned, tune_points, write_results
from pneumoseg.pipeline.scoring.case_curves import OperatingPointScores
from pneumoseg.pipeline.scoring.out_of_fold import OUT_OF_FOLD, save_out_of_fold
from pneumoseg.pipeline.training.best_epochs import BestEpochs
from pneumoseg.pipeline.training.checkpoint import State
from pneumoseg.pipeline.training.fitting import fit
from pneumoseg.pipeline.training.gallery import Gallery
from pneumoseg.pipeline.training.history import History, HistoryFiles
from pneumoseg.pipeline.training.phases import plan_phases
from pneumoseg.pipeline.training.run_record import CONFIG, RunRecord, make_record, write_record
from pneumoseg.pipeline.training.tracking import MLflow, TensorBoard, Tracker, TrackerHandler, import_mlflow
from pneumoseg.pipeline.training.training_run import TrainingRun, check_shares


@dataclass(frozen=True)
class TrainReport:
    """Result of a training run.

    Attributes:
        model: Model folder.
        fold: Held-out fold; None where no image was held out.
        best_epoch: Epoch with the best validation, or the last one: see ``optimization.keep``.
        validation: Scores on the held-out fold; None without one.
        members: Number of networks of the model; those besides the best epoch's come from the next best epochs.
        evaluation: Evaluation on the held-out fold, at the original image size and with intervals; None without a
            report.
    """

    model: Path
    fold: int | None
    best_epoch: int
    validation: OperatingPointScores | None
    members: int = 1
    evaluation: EvaluateReport | None = None


def train_model(
    manifest_path: str | Path | None,
    run_dir: str | Path,
    *,
    fold: int | None = None,
    config: TrainConfig | None = None,
    device: str = "auto",
    workers: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    cache: str | Path | None = None,
    initial: str | Path | None = None,
    allow_seen: bool = False,
    after: str | Path | None = None,
    mlflow: str | None = None,
    report: bool = True,
) -> TrainReport:
    """Train on all folds but one, validate on that one, and write a model folder and a report.

    With *after*, the images of all folds are trained on. Manifest, configuration and initial weights are then those of
    the cross-validation, and so are operating points, calibration and scores of the model: no image is left for them.

    Started by ``torchrun``, the processes train one network together; all of them need the same file system.

    A run is resumed from its folder alone: ``train_model(None, run_dir, resume=True)``. Its settings stay as they are,
    except that ``optimization.epochs`` may grow, also after the run has ended. Learning rate and share of positives are
    functions of the step, and are recomputed for the new length; patience starts again, and so does an average over
    the last epochs (``swa``). Without a change, a resumed run is bit-exactly the one that was never interrupted, on the
    same device and with as many processes; on a GPU this needs ``deterministic``.

    Args:
        manifest_path: Manifest written by `prepare_manifest`. A resumed run needs it only if the file has moved.
        run_dir: Run folder; gets configuration, metrics, checkpoints, ``model/``, and with a report also
            ``evaluation/`` and ``report.html``.
        fold: Fold to hold out; None holds fold 0 out.
        config: Configuration; None takes the defaults, or that of the resumed run.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        workers: Processes that decode and, while training, load; 0 decodes in one and loads in this one. None chooses:
            0 on a processor, where the cache is fast enough, and up to 2 beside a GPU.
        resume: Resume the run in *run_dir* after its last saved step.
        overwrite: Delete the run that *run_dir* holds.
        cache: Folder of the decoded images; None puts it beside the manifest.
        initial: Model whose weights the training starts from: a folder, or the name of a model of the package. Of
            several members, the one is taken that has seen fewest held-out images.
        allow_seen: Hold out images that the initial weights have seen, and mark every score.
        after: Run folder of a finished cross-validation with ``optimization.keep=last``; None holds a fold out.
        mlflow: Tracking store for MLflow.
        report: Evaluate the model on the held-out fold as `evaluate_model` does, and write the report of the run.

    Raises:
        UsageError: If an argument does not fit.
        InterruptedRunError: If a signal was received; the run was saved.
        JobError: If the manifest or its images cannot be used, or the run cannot be continued.
    """
    if mlflow:
        import_mlflow()  # where it is missing, that is an error before anything is written
    run_dir = Path(run_dir)
    record = make_record(
        run_dir,
        resume=resume,
        manifest=manifest_path,
        fold=fold,
        cache=cache,
        initial=initial,
        allow_seen=allow_seen,
        after=after,
    )
    config = config or _config_before(run_dir if resume else record.after)
    with ExitStack() as stack:
        place = stack.enter_context(process_group(device))
        stack.enter_context(training_algorithms(deterministic=config.deterministic))
        precision = resolve_precision(config.precision, place, training=True)
        is_main_process = idist.get_rank() == 0
        console.quiet = console.quiet or not is_main_process

        start = read_starting_point(run_dir, record, config, resume=resume)
        check_shares(config, idist.get_world_size(), len(start.validation))
        if is_main_process:
            stack.enter_context(_claimed(run_dir, record, resume=resume, overwrite=overwrite))
            write_text(run_dir / CONFIG, dump_config(config))
            write_record(run_dir, record)
        caches = _open_caches(start.manifest, record, config, workers=max(1, workers or 0))
        split = f"fold {start.fold}" if start.validation else "no fold"
        say(
            f"{split} held out: {len(start.training)} images to train on, {len(start.validation)} to "
            f"validate; {precision.device}, {precision.name}, threads: {torch.get_num_threads()}"
            + (f", processes: {idist.get_world_size()}" if idist.get_world_size() > 1 else "")
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
            workers=loader_workers(place) if workers is None else workers,
            weights=start.weights,
        )
        history = History()
        reports: list[HistoryFiles | TrackerHandler] = []
        if is_main_process:
            gallery = Gallery(cases, start.validation, caches[config.data.image_size], precision=precision)
            trackers = TrackerHandler(
                _trackers(run_dir, config, start.state, mlflow=mlflow), partial(gallery.draw, run.evaluated)
            )
            stack.callback(trackers.close)
            reports = [HistoryFiles(history, run_dir), trackers]
        best = fit(
            run, history, run_dir / "checkpoints", origin=start.origin, state=start.state, reports=reports
        )
        kept = _keep_the_better(run, best)
        scores = None
        if start.cross_validated is None:
            out_of_fold = run.validate_model(config.tta)
            tuned, scores = tune_points(out_of_fold, cases)
            if is_main_process:
                save_out_of_fold(run_dir / OUT_OF_FOLD, out_of_fold)
        else:
            tuned = Tuned.of(start.cross_validated)
        if is_main_process:
            write_results(run_dir, run, start, tuned=tuned, kept=kept)
        idist.barrier()  # other processes read the model only after it is written
    evaluation = None
    if record.after is not None and start.cross_validated is not None and is_main_process:
        finish_without_fold(run_dir, record.after, start.cross_validated, report=report)
    elif report and is_main_process:  # the process group has ended
        evaluation = evaluate_run(
            run_dir,
            record.manifest,
            device=str(precision.device),
            workers=workers or 0,
            config=config,
            processes=process_count(),
        )
    return TrainReport(
        model=run_dir / "model",
        fold=start.fold,
        best_epoch=kept.epoch,
        validation=scores,
        members=len(run.predictor.networks),
        evaluation=evaluation,
    )


def _config_before(run_dir: Path | None) -> TrainConfig:
    """Read the configuration of an earlier run; without one, give the defaults."""
    return TrainConfig() if run_dir is None else load_config(run_dir / CONFIG)


def _trackers(
    run_dir: Path, config: TrainConfig, state: State | None, *, mlflow: str | None
) -> list[Tracker]:
    epochs_before = len(state["history"]["rows"]) if state else 0
    trackers: list[Tracker] = [TensorBoard(run_dir / "tensorboard", epochs_before=epochs_before)]
    if mlflow:
        trackers.append(MLflow(mlflow, name=run_dir.name, parameters=flatten(config)))
    return trackers


def _keep_the_better(run: TrainingRun, best: BestEpochs) -> KeptWeights:
    """Leave in the network the weights of the best epoch or, where it validates better, the average.

    An ensemble is always kept: a mean of probabilities cannot disagree with the statistics of a normalization, as a
    mean of weights can, and which of the two is better on a few hundred images is chance.
    """
    best.load_state_dict(gather(best.state_dict())[0])  # only the main process has saved them
    if not best.entries:
        raise JobError(
            "no epoch at the final resolution left weights that can be used: they were non-finite, or are damaged; "
            "look at metrics.csv and at the warnings"
        )
    entry = best.entries[0]
    if run.config.optimization.average == "ensemble" and len(best.entries) > 1:
        run.use_ensemble(best.load(each) for each in best.entries)
        epochs = tuple(each.epoch for each in best.entries)
        return KeptWeights(entry.epoch, members=epochs)
    average = run.averaged(best)
    if average is None and run.config.optimization.average == "swa":
        warn(
            "the run ended before two of the epochs that swa averages, and keeps the best epoch; a higher "
            "optimization.patience or optimization.average_share would fit"
        )
    if average is not None and run.config.optimization.keep == "last":
        run.evaluated.load_state_dict(average)
        return KeptWeights(entry.epoch, averaged=True)
    averaged_dice = None if average is None else run.validate(average)
    if average is not None and averaged_dice is not None and averaged_dice > entry.rank.dice:
        return KeptWeights(entry.epoch, averaged=True, averaged_dice=averaged_dice)
    run.evaluated.load_state_dict(best.load(entry))
    return KeptWeights(entry.epoch, averaged_dice=averaged_dice)


@contextmanager
def _claimed(run_dir: Path, record: RunRecord, *, resume: bool, overwrite: bool) -> Iterator[None]:
    """Hold the run folder for this process alone, without what killed processes left in it."""
    if run_dir.is_dir():
        with locked(run_dir):
            pass
    if not resume:
        claim_folder(run_dir, overwrite=overwrite, command="train", inputs=record.inputs)
    with locked(run_dir):
        refuse_links(run_dir)
        remove_unfinished(run_dir)
        yield


def _open_caches(
    manifest: Manifest, record: RunRecord, config: TrainConfig, *, workers: int
) -> dict[int, Bytes]:
    """Open the cache of each resolution; the main process makes those that are missing, and the others wait for it."""
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
