"""Train on all folds in turn, and make one model of all their networks."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ignite.distributed as idist

from pneumoseg.pipeline.config import TrainConfig
from pneumoseg.pipeline.console import console, say
from pneumoseg.pipeline.dataset.manifest import Manifest, manifest_sha256, read_manifest
from pneumoseg.pipeline.devices import process_group
from pneumoseg.pipeline.evaluate import EvaluateReport
from pneumoseg.pipeline.files import claim_folder, write_json, write_text, written_atomically
from pneumoseg.pipeline.inference.model_folder import (
    DESCRIPTION,
    Decision,
    Member,
    TunedPoint,
    read_description,
    save_description,
)
from pneumoseg.pipeline.scoring.decision import OperatingPointScores, decide
from pneumoseg.pipeline.scoring.out_of_fold import (
    OUT_OF_FOLD,
    OutOfFold,
    load_out_of_fold,
    save_out_of_fold,
)
from pneumoseg.pipeline.scoring.tuning import tune
from pneumoseg.pipeline.train import describe_training, evaluate_run, train_model
from pneumoseg.pipeline.training.checkpoint import has_state


@dataclass(frozen=True)
class CrossValidateReport:
    """What all folds came to: the ensemble, and its scores on cases that the network in question never saw."""

    model: Path
    out_of_fold: OperatingPointScores
    folds: int
    evaluation: EvaluateReport | None = None
    """Of all cases, at the original size and with intervals; None where no report was asked for."""
    exit_code: int = 0


def cross_validate(
    manifest_path: Path,
    run_dir: Path,
    *,
    config: TrainConfig | None = None,
    device: str = "auto",
    workers: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    cache: Path | None = None,
    initial: Path | None = None,
    mlflow: str | None = None,
    report: bool = True,
) -> CrossValidateReport:
    """Train one network for each fold, and write a model folder with all of them.

    Started by ``torchrun``, each process trains folds of its own; all of them see the same folders.

    Args:
        manifest_path: From `prepare_manifest`.
        run_dir: Gets ``fold0/``, ``fold1/``, ..., what each network said of the fold it never saw, ``model/``, and
            with a report also ``evaluation/`` and ``report.html``.
        config: What each run may be told; None takes the defaults.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        workers: Loader processes of each run.
        resume: Go on where *run_dir* stopped: folds that are done stay as they are.
        overwrite: Delete the runs that *run_dir* holds.
        cache: Folder of the decoded images; None puts it beside the manifest.
        initial: Model folder whose weights to begin with.
        mlflow: Tracking store for MLflow.
        report: Evaluate each case by the network that never saw it, and make the report of all folds.

    Raises: As `train_model` does.
    """
    manifest = read_manifest(manifest_path)
    rank, processes = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if not resume and rank == 0:
        claim_folder(run_dir, overwrite=overwrite, command="train", inputs=[manifest_path])
    _start_together(run_dir, rank)
    with _each_process_for_itself():
        for fold in range(rank, manifest.folds, processes):
            folder = run_dir / f"fold{fold}"
            if (folder / "model" / DESCRIPTION).is_file() and (folder / OUT_OF_FOLD).is_file():
                say(f"fold {fold} is done already: {folder}")
                continue
            begun = has_state(folder / "checkpoints")
            train_model(
                manifest_path,
                folder,
                fold=fold,
                config=config,
                device=_own_device(device, processes),
                workers=workers,
                resume=begun,
                overwrite=not begun,
                cache=cache,
                initial=initial,
                mlflow=mlflow,
                report=False,
            )
    console.quiet = console.quiet or rank > 0
    with process_group(device):
        idist.barrier()
        found = _all_folds(run_dir, manifest.folds)
        tuned = tune(found, manifest.training)
        decisions = decide(found.curves, tuned.point)
        if rank == 0:
            save_out_of_fold(run_dir / OUT_OF_FOLD, found)
            _write_ensemble(run_dir, manifest, decisions, tuned.decision)
        idist.barrier()
    evaluation = None
    if report and rank == 0:  # alone: the processes have parted
        evaluation = evaluate_run(
            run_dir, manifest_path, device=device, workers=workers, config=config or TrainConfig()
        )
    return CrossValidateReport(
        model=run_dir / "model", out_of_fold=decisions, folds=manifest.folds, evaluation=evaluation
    )


def _all_folds(run_dir: Path, folds: int) -> OutOfFold:
    parts = [load_out_of_fold(run_dir / f"fold{fold}" / OUT_OF_FOLD) for fold in range(folds)]
    curves = sorted((each for part in parts for each in part.curves), key=lambda each: each.index)
    return OutOfFold(curves, {index: level for part in parts for index, level in part.maps.items()})


def _write_ensemble(
    run_dir: Path, manifest: Manifest, found: OperatingPointScores, decision: Decision
) -> None:
    descriptions = [read_description(run_dir / f"fold{fold}" / "model") for fold in range(manifest.folds)]
    members: list[Member] = []
    for fold, description in enumerate(descriptions):
        for member in description.members:
            with written_atomically(run_dir / "model" / member.weights) as temporary:
                shutil.copyfile(run_dir / f"fold{fold}" / "model" / member.weights, temporary)
            members.append(member)
    point = TunedPoint.of(found.point)
    scores = {**found.score.as_dict(), "auc": found.auc}
    save_description(
        run_dir / "model",
        descriptions[0].model_copy(
            update={
                "members": tuple(members),
                "operating_point": point,
                "decision": decision,
                "trained_on": describe_training(manifest, list(range(manifest.size))),
                "validation": scores,
            }
        ),
    )
    write_json(
        run_dir / "summary.json",
        {
            "folds": manifest.folds,
            "manifest_sha256": manifest_sha256(manifest),
            "operating_point": point.model_dump(mode="json"),
            "out_of_fold": scores,
            "each_fold": [description.validation for description in descriptions],
        },
    )


def _start_together(run_dir: Path, rank: int) -> None:
    """Wait until the first process has made the run folder; a process group could not be joined twice."""
    launch = "-".join(
        os.environ.get(name, "") for name in ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT")
    )
    note = run_dir / ".launch"
    if rank == 0:
        write_text(note, launch)
    while not note.is_file() or note.read_text(encoding="utf-8") != launch:
        time.sleep(0.1)  # torchrun ends all processes when the first one fails


@contextmanager
def _each_process_for_itself() -> Iterator[None]:
    """Hide from what runs inside that there are other processes."""
    processes = os.environ.pop("WORLD_SIZE", None)
    try:
        yield
    finally:
        if processes is not None:
            os.environ["WORLD_SIZE"] = processes


def _own_device(device: str, processes: int) -> str:
    return f"cuda:{os.environ['LOCAL_RANK']}" if processes > 1 and device == "cuda" else device
