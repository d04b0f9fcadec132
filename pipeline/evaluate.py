"""Score a model on cases of a manifest, at the model's own operating point."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn
from torch.utils.data import DataLoader

from pneumoseg.pipeline.dataset.cases import ALL_GATES_OPEN, FileCases
from pneumoseg.pipeline.dataset.manifest import Case, Manifest, manifest_sha256, read_manifest
from pneumoseg.pipeline.devices import resolve_device, resolve_precision
from pneumoseg.pipeline.errors import UsageError
from pneumoseg.pipeline.files import claim_folder, write_csv, write_json
from pneumoseg.pipeline.inference.model_folder import Model, load_model
from pneumoseg.pipeline.scoring.decision import CaseCurves, Decisions, decide
from pneumoseg.pipeline.scoring.metrics import ChallengeMetric, MeasureCurves
from pneumoseg.pipeline.training.engines import make_evaluator
from pneumoseg.transforms.chains import evaluation_chain

CASE_COLUMNS = (
    "id", "group", "fold", "trained_on", "positive", "called_positive", "probability", "dice", "label_area_px",
    "area_px", "view", "sex", "age",
)  # fmt: skip


@dataclass(frozen=True)
class EvaluateReport:
    """How a model did.

    Args:
        fold: The fold that was scored; None stands for all of them.
        decisions: Scores, and what they come from.
        trained_on: How many of the cases the weights have seen; their scores say nothing about new images.
    """

    fold: int | None
    decisions: Decisions
    trained_on: int
    exit_code: int = 0


def evaluate_model(
    model_folder: Path,
    manifest_path: Path,
    output: Path,
    *,
    fold: int | None = None,
    all_folds: bool = False,
    device: str = "auto",
    batch_size: int = 8,
    workers: int = 1,
    overwrite: bool = False,
) -> EvaluateReport:
    """Score the cases of one fold, or of all.

    Args:
        model_folder: From `train_model`.
        manifest_path: From `prepare_manifest`; not necessarily the one trained on.
        output: Folder for ``scores.json`` and ``cases.csv``.
        fold: Which fold; None takes the one that the model never saw, or all folds of a manifest that it was
            not trained on. Of a model with a network for each fold, the one that held a case out scores it.
        all_folds: Score every case of the manifest with the whole model instead.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        batch_size: Images at a time.
        workers: Processes that decode; none decodes in this one, without protection from damaged files.
        overwrite: Delete an earlier result in *output*.

    Raises:
        UsageError: If an argument does not fit.
        JobError: If model, manifest or an image cannot be used.
    """
    precision = resolve_precision("auto", resolve_device(device))
    model = load_model(model_folder, precision.device)
    manifest = read_manifest(manifest_path)
    own = manifest_sha256(manifest) == model.description.trained_on.manifest_sha256
    by_member = own and not all_folds and len(model.networks) > 1
    if own and fold is None and not all_folds and not by_member:
        fold = model.description.members[0].held_out_fold
    parts = [
        (network, [index for index, case in enumerate(manifest.training) if case.fold in folds])
        for network, folds in _who_scores_what(model, manifest, fold, by_member=by_member)
    ]
    indices = sorted(index for _, part in parts for index in part)
    if not indices:
        raise UsageError(f"--fold {fold}: the manifest has the folds 0 to {manifest.folds - 1}")
    claim_folder(output, overwrite=overwrite, command="evaluate", inputs=[model_folder, manifest_path])

    chain = evaluation_chain(image_size=model.image_size, gates=ALL_GATES_OPEN)
    metric = ChallengeMetric(model.operating_point)
    curves: list[CaseCurves] = []
    for network, part in parts:
        make_evaluator(
            network,
            DataLoader(
                FileCases(manifest, manifest_path, part, chain=chain, workers=workers), batch_size=batch_size
            ),
            precision=precision,
            postprocessing=MeasureCurves(manifest.training),
            key_metric=("dice", metric["dice"]),
            metrics={"challenge": metric},
        ).run()
        curves += metric.curves
    decisions = decide(sorted(curves, key=lambda each: each.index), model.operating_point)

    scored = [manifest.training[index] for index in indices]
    seen = [not by_member and model.has_seen(case.sha256) for case in scored]
    report = EvaluateReport(fold=fold, decisions=decisions, trained_on=sum(seen))
    write_csv(output / "cases.csv", _case_rows(scored, seen, decisions), CASE_COLUMNS)
    write_json(
        output / "scores.json",
        {
            "manifest": manifest.name,
            "fold": fold,
            "trained_on": report.trained_on,
            **decisions.score.as_dict(),
            "auc": decisions.auc,
            "threshold": decisions.point.threshold,
            "min_area_fraction": decisions.point.min_area_fraction,
            "model_weights_sha256": [member.sha256 for member in model.description.members],
            "manifest_sha256": manifest_sha256(manifest),
        },
    )
    return report


def _who_scores_what(
    model: Model, manifest: Manifest, fold: int | None, *, by_member: bool
) -> list[tuple[nn.Module, set[int]]]:
    """Networks, and the folds that each is to score."""
    wanted = set(range(manifest.folds)) if fold is None else {fold}
    if not by_member:
        return [(model.network, wanted)]
    held_out = [member.held_out_fold for member in model.description.members]
    return [
        (network, {mine}) for network, mine in zip(model.networks, held_out, strict=True) if mine in wanted
    ]


def _case_rows(cases: list[Case], seen: list[bool], found: Decisions) -> list[dict[str, object]]:
    return [
        {
            "id": case.id,
            "group": case.group,
            "fold": case.fold,
            "trained_on": int(trained_on),
            "positive": int(case.is_positive),
            "called_positive": int(area > 0),
            "probability": float(probability),
            "dice": float(dice),
            "label_area_px": case.area_px,
            "area_px": int(area),
            "view": case.view,
            "sex": case.sex,
            "age": case.age,
        }
        for case, trained_on, area, probability, dice in zip(
            cases, seen, found.areas, found.probabilities, found.dices, strict=True
        )
    ]
