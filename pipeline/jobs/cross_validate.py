"""Train one network for each fold, and combine all networks in one model."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import ignite.distributed as idist
from torch.distributed.rendezvous import rendezvous

from pneumoseg.pipeline.core.claims import claim_folder, locked, refuse_links, remove_unfinished
from pneumoseg.pipeline.core.config import TrainConfig
from pneumoseg.pipeline.core.config_files import dump_config, flatten, load_config
from pneumoseg.pipeline.core.console import console, say
from pneumoseg.pipeline.core.devices import own_device, process_count, process_group
from pneumoseg.pipeline.core.files import write_json, write_text, written_atomically
from pneumoseg.pipeline.dataset.manifest import Manifest, manifest_sha256, read_manifest
from pneumoseg.pipeline.jobs.evaluate import EvaluateReport
from pneumoseg.pipeline.jobs.finished_run import evaluate_run
from pneumoseg.pipeline.jobs.train import train_model
from pneumoseg.pipeline.jobs.trained_model import Tuned, tune_points
from pneumoseg.pipeline.model.card import save_description
from pneumoseg.pipeline.model.description import DESCRIPTION, read_description
from pneumoseg.pipeline.model.joining import join_models
from pneumoseg.pipeline.scoring.case_curves import CaseCurves, OperatingPointScores
from pneumoseg.pipeline.scoring.out_of_fold import OUT_OF_FOLD, load_out_of_fold, save_out_of_fold
from pneumoseg.pipeline.training.checkpoint import has_state
from pneumoseg.pipeline.training.initial import refuse_seen
from pneumoseg.pipeline.training.run_record import (
    CONFIG,
    RunRecord,
    make_record,
    refuse_changes,
    write_record,
)
from pneumoseg.pipeline.training.tracking import import_mlflow


@dataclass(frozen=True)
class CrossValidateReport:
    """Result of a cross-validation.

    Attributes:
        model: Model folder with the networks of all folds.
        validation: Scores of all cases, each by the network that held it out.
        folds: Number of folds.
        evaluation: Evaluation of all cases, at the original image size and with intervals; None without a report.
    """

    model: Path
    validation: OperatingPointScores
    folds: int
    evaluation: EvaluateReport | None = None


def cross_validate(
    manifest_path: str | Path | None,
    run_dir: str | Path,
    *,
    config: TrainConfig | None = None,
    device: str = "auto",
    workers: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    cache: str | Path | None = None,
    initial: str | Path | None = None,
    allow_seen: bool = False,
    mlflow: str | None = None,
    report: bool = True,
) -> CrossValidateReport:
    """Train one network for each fold, and write a model folder with all of them.

    The arguments are those of `train_model`, which trains each fold; there is no fold to choose. *run_dir* gets
    ``fold0/``, ``fold1/``, ..., the out-of-fold predictions, ``model/``, and with a report also ``evaluation/`` and
    ``report.html``, where each case is evaluated by the network that held it out. A resumed run leaves finished folds
    as they are, unless the number of epochs has grown.

    Started by ``torchrun``, each process trains its own folds; all processes need the same file system.

    Raises: As `train_model` does.
    """
    if mlflow:
        import_mlflow()  # where it is missing, that is an error before anything is written
    run_dir = Path(run_dir)
    record = make_record(
        run_dir,
        resume=resume,
        manifest=manifest_path,
        fold="all",
        cache=cache,
        initial=initial,
        allow_seen=allow_seen,
    )
    manifest = read_manifest(record.manifest)
    rank = int(os.environ.get("RANK", "0"))
    config = _claim(run_dir, record, manifest, config, resume=resume, overwrite=overwrite, rank=rank)
    store = _wait_for_claim(rank)
    place = str(own_device(device))
    processes = process_count()
    with _each_process_for_itself():
        for fold in range(rank, manifest.folds, processes):
            folder = run_dir / f"fold{fold}"
            if _is_done(folder, config):
                say(f"fold {fold} is done already: {folder}")
                continue
            begun = has_state(folder / "checkpoints")
            train_model(
                record.manifest,
                folder,
                fold=fold,
                config=config,
                device=place,
                workers=workers,
                resume=begun,
                overwrite=not begun,
                cache=record.cache,
                initial=record.initial,
                allow_seen=record.allow_seen,
                mlflow=mlflow,
                report=False,
            )
    console.quiet = console.quiet or rank > 0
    with process_group(device):
        del store
        idist.barrier()
        found = _all_folds(run_dir, manifest.folds)
        tuned, scores = tune_points(found, manifest.training)
        if rank == 0:
            save_out_of_fold(run_dir / OUT_OF_FOLD, found)
            _write_ensemble(run_dir, manifest, config, tuned)
        idist.barrier()
    evaluation = None
    if report and rank == 0:  # the process group has ended
        evaluation = evaluate_run(run_dir, record.manifest, device=place, workers=workers or 0, config=config)
    return CrossValidateReport(
        model=run_dir / "model", validation=scores, folds=manifest.folds, evaluation=evaluation
    )


def _claim(
    run_dir: Path,
    record: RunRecord,
    manifest: Manifest,
    config: TrainConfig | None,
    *,
    resume: bool,
    overwrite: bool,
    rank: int,
) -> TrainConfig:
    """Check the arguments before the first fold is trained, and make the run folder in the main process."""
    if resume:
        before = load_config(run_dir / CONFIG)
        config = config or before
        refuse_changes(run_dir, flatten(before), flatten(config))
    else:
        config = config or TrainConfig()
    if rank:
        return config
    if not resume:
        if record.initial is not None:
            refuse_seen(record.initial, manifest, range(manifest.folds), allowed=record.allow_seen)
        claim_folder(run_dir, overwrite=overwrite, command="train", inputs=record.inputs)
    with locked(run_dir):
        refuse_links(run_dir)
        remove_unfinished(run_dir)
    write_text(run_dir / CONFIG, dump_config(config))
    write_record(run_dir, record)
    return config


def _is_done(folder: Path, config: TrainConfig) -> bool:
    """Tell whether the run of a fold has ended with the present configuration."""
    needed = (folder / "model" / DESCRIPTION, folder / OUT_OF_FOLD, folder / "summary.json")
    if not all(path.is_file() for path in needed):
        return False
    summary = json.loads(needed[-1].read_text(encoding="utf-8"))
    return bool(summary["config"] == config.model_dump(mode="json"))


def _all_folds(run_dir: Path, folds: int) -> list[CaseCurves]:
    parts = [load_out_of_fold(run_dir / f"fold{fold}" / OUT_OF_FOLD) for fold in range(folds)]
    return sorted((each for part in parts for each in part), key=lambda each: each.index)


def _write_ensemble(run_dir: Path, manifest: Manifest, config: TrainConfig, tuned: Tuned) -> None:
    folders = [run_dir / f"fold{fold}" / "model" for fold in range(manifest.folds)]
    descriptions = [read_description(folder) for folder in folders]
    ensemble = join_models(descriptions, manifest)
    for folder, description in zip(folders, descriptions, strict=True):
        for member in description.members:
            with written_atomically(run_dir / "model" / member.weights) as temporary:
                shutil.copyfile(folder / member.weights, temporary)
    save_description(run_dir / "model", tuned.put_into(ensemble))
    write_json(
        run_dir / "summary.json",
        {
            "folds": manifest.folds,
            "manifest_sha256": manifest_sha256(manifest),
            "held_out_seen": ensemble.trained_on.held_out_seen,
            "config": config.model_dump(mode="json"),
            "operating_point": tuned.point.model_dump(mode="json"),
            "out_of_fold": dict(tuned.validation),
            "each_fold": [description.validation for description in descriptions],
        },
    )


def _wait_for_claim(rank: int) -> object:
    """Make the other processes wait until the main process has made the run folder.

    The processes form a process group only at the end, since each trains alone before that; until then they share only
    the store of ``torchrun``'s rendezvous, which has to be kept until the group is formed.
    """
    if process_count() == 1:
        return None
    store = next(rendezvous("env://"))[0]
    if rank == 0:
        store.set("claimed", "")
    store.wait(["claimed"], timedelta(days=1))  # torchrun ends all processes when the first one fails
    return store


@contextmanager
def _each_process_for_itself() -> Iterator[None]:
    """Hide from the training of a fold that there are other processes."""
    processes = os.environ.pop("WORLD_SIZE", None)
    try:
        yield
    finally:
        if processes is not None:
            os.environ["WORLD_SIZE"] = processes
