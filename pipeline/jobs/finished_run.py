"""What follows a training: the evaluation of its model, the model card and the report of the run."""

from pathlib import Path

from pneumoseg.pipeline.core.claims import locked
from pneumoseg.pipeline.core.config import TrainConfig
from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.dataset.manifest import manifest_sha256, read_manifest
from pneumoseg.pipeline.jobs.card_evaluation import read_card_evaluation
from pneumoseg.pipeline.jobs.evaluate import EvaluateReport, evaluate_model
from pneumoseg.pipeline.jobs.report import write_report
from pneumoseg.pipeline.model.card import write_card
from pneumoseg.pipeline.model.description import ModelDescription, read_description
from pneumoseg.pipeline.reporting.paired import EVALUATION


def evaluate_run(
    run_dir: Path, manifest_path: Path, *, device: str, workers: int, config: TrainConfig, processes: int = 1
) -> EvaluateReport:
    """Evaluate the model of a run on the cases that its networks held out, and write the report of the run.

    Args:
        run_dir: Run folder; gets ``evaluation/`` and ``report.html``, and the scores in the card of its model.
        manifest_path: Manifest of the run.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        workers: Processes that decode; at least one is used.
        config: Configuration of the run.
        processes: Number of processes that shared each batch; a device has memory for such a share.

    Returns: The evaluation.
    Raises: JobError: If another process uses the run folder, the manifest is another one by now, or an image cannot be
        used.
    """
    with locked(run_dir):
        own = read_description(run_dir / "model").trained_on.manifest_sha256
        if manifest_sha256(read_manifest(manifest_path)) != own:
            raise JobError(
                f"{manifest_path}: has changed since the run began; the model is complete: evaluate it with the "
                "manifest of the run"
            )
        evaluation = evaluate_model(
            run_dir / "model",
            manifest_path,
            run_dir / EVALUATION,
            runtime=Runtime(
                device=device,
                batch_size=max(1, config.data.batch_size // (config.data.accumulate * processes)),
                workers=max(1, workers),
            ),
            card=True,
            overwrite=True,
        )
        write_report(run_dir)
    return evaluation


def finish_without_fold(
    run_dir: Path, cross_validation: Path, crossed: ModelDescription, *, report: bool
) -> None:
    """Write the evaluation of a cross-validation into the card of a run that held no image out, and its report.

    Args:
        run_dir: Run folder.
        cross_validation: Run folder of the cross-validation.
        crossed: Description of its model.
        report: Whether to write the report of the run.

    Raises: JobError: If another process uses the run folder.
    """
    with locked(run_dir):
        if (cross_validation / EVALUATION / "scores.json").is_file():
            evaluation = read_card_evaluation(cross_validation / EVALUATION)
            # one that was made longer without a report has the evaluation of the shorter one
            if evaluation.weights_sha256 == [member.sha256 for member in crossed.members]:
                write_card(run_dir / "model", read_description(run_dir / "model"), evaluation)
        if report:
            write_report(run_dir)
