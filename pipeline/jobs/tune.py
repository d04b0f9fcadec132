"""Tune the operating points of a model anew, after its members, augmentations or number format were chosen."""

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from torch.optim.swa_utils import AveragedModel

from pneumoseg.pipeline.core.claims import claim_folder
from pneumoseg.pipeline.core.devices import resolve_device
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.dataset.manifest import Manifest, read_manifest
from pneumoseg.pipeline.inference.model import Model, ModelOptions, load_model
from pneumoseg.pipeline.jobs.measure_cases import check_own_manifest, held_out_parts, measure_curves
from pneumoseg.pipeline.jobs.trained_model import Tuned, tune_points
from pneumoseg.pipeline.model.card import CARD, save_description
from pneumoseg.pipeline.model.joining import join_models
from pneumoseg.pipeline.model.weights import round_to_half, save_weights
from pneumoseg.pipeline.scoring.case_curves import OperatingPointScores

if TYPE_CHECKING:
    from pneumoseg.models import AttentionUNet
    from pneumoseg.pipeline.model.description import Member


@dataclass(frozen=True)
class TuneReport:
    """Result of tuning.

    Attributes:
        model: Model folder that was written.
        scores: Scores of the held-out cases at the tuned operating point, which are in-sample; None where no image was
            held out.
        cross_fitted: Challenge score at the cross-fitted operating points; None with too few patients.
        members: Number of networks of the model.
    """

    model: Path
    scores: OperatingPointScores | None
    cross_fitted: float | None
    members: int


def tune_model(
    model_folder: str | Path,
    manifest_path: str | Path,
    output: str | Path,
    *,
    added: Sequence[str | Path] = (),
    members: Sequence[int] | None = None,
    tta: Sequence[str] | None = None,
    average: bool = False,
    half: bool = False,
    runtime: Runtime = Runtime(),
    overwrite: bool = False,
) -> TuneReport:
    """Search the operating points of a model on the cases that its networks held out, and write the model with them.

    An operating point fits the probabilities that it was tuned on: after members are left out or the test-time
    augmentation changes, it has to be tuned anew. A model that has held no image out keeps its operating points, which
    are those of its cross-validation: only the storage of its weights can change.

    Args:
        model_folder: Model folder written by `train_model` or `cross_validate`.
        manifest_path: Manifest that the model was trained on.
        output: Model folder to write.
        added: Further model folders, whose networks join the ensemble: of other folds, or other seeds.
        members: Indices of the networks to keep, as ``model.json`` lists them, those of added models last; None keeps
            all.
        tta: Test-time augmentations: see `parse_tta`; None keeps the model's own.
        average: Whether to average the weights of the networks of each model into one. This suits epochs of one run,
            which are close to each other; one network then costs what one costs.
        half: Whether to store the kernels in half precision, which halves the files. Networks compute as before, with
            the rounded numbers, and are tuned with these.
        runtime: Device, batch size and workers.
        overwrite: Delete an earlier result in *output*.

    Returns: The scores at the tuned operating point.

    Raises:
        UsageError: If the manifest is not the model's own, models do not fit together, there is no such member,
            networks of several folds are to be averaged, or a model that has held no image out is to change.
        JobError: If model, manifest or an image cannot be used.
    """
    model_folder, manifest_path, output = Path(model_folder), Path(manifest_path), Path(output)
    folders = [model_folder, *map(Path, added)]
    manifest = read_manifest(manifest_path)
    device = resolve_device(runtime.device)
    models = [load_model(folder, device, ModelOptions(tta=tta)) for folder in folders]
    for each in models:
        check_own_manifest(each, manifest)
    is_tuned = bool(models[0].held_out_folds)
    if not is_tuned and (added or average or members is not None or tta is not None):
        raise UsageError(
            f"{model_folder}: was trained on all images, so that none is left to tune it on; only --half would fit: "
            "the rest is the configuration of its cross-validation"
        )
    models = models if members is None else _keep(models, members)
    chosen = list(map(_averaged, models)) if average else models
    model = chosen[0] if len(chosen) == 1 and members is None else _joined(chosen, manifest)
    claim_folder(output, overwrite=overwrite, command="tune", inputs=[*folders, manifest_path])
    if half:
        for network in model.networks:
            round_to_half(network)
    scores, tuned = None, Tuned.of(model.description)
    if is_tuned:
        parts = held_out_parts(model, manifest)
        curves = measure_curves(parts, manifest, manifest_path, runtime=runtime)
        tuned, scores = tune_points(curves, manifest.training)
    saved: list[Member] = []
    names = Counter[tuple[int | None, int | None]]()
    for network, member in zip(model.networks, model.description.members, strict=True):
        fold, epoch = name = member.held_out_fold, _epoch_of(member.weights)
        own = save_weights(output, network, fold=fold, epoch=epoch, number=names[name], half=half)
        names[name] += 1
        saved.append(own.model_copy(update={"unseen_digests": member.unseen_digests}))
    description = model.description.model_copy(
        update={
            "members": tuple(saved),
            "tta": model.tta,
            "precision": model.precision.name if is_tuned else model.description.precision,
        }
    )
    save_description(output, tuned.put_into(description))
    card = model.folder / CARD
    if not is_tuned and card.is_file():
        shutil.copyfile(card, output / CARD)  # its scores are not of the weights that are stored anew
    cross_fitted = tuned.search.cross_fitted.dice if tuned.search and tuned.search.cross_fitted else None
    return TuneReport(output, scores, cross_fitted, len(model.networks))


def _keep(models: Sequence[Model], members: Sequence[int]) -> list[Model]:
    """Keep some networks, counted over all models; a model without any is left out."""
    every = sum(len(model.networks) for model in models)
    if not members or len(set(members)) < len(members) or not set(members) <= set(range(every)):
        raise UsageError(
            f"--members {','.join(map(str, members))}: there are the members 0 to {every - 1}, each once"
        )
    kept, first = list[Model](), 0
    for model in models:
        own = [index - first for index in members if first <= index < first + len(model.networks)]
        first += len(model.networks)
        if own:
            chosen = tuple(model.description.members[index] for index in own)
            description = model.description.model_copy(update={"members": chosen})
            networks = tuple(model.networks[index] for index in own)
            kept.append(replace(model, networks=networks, description=description))
    return kept


def _joined(models: Sequence[Model], manifest: Manifest) -> Model:
    """Make one ensemble of several models, or of some networks of one."""
    return replace(
        models[0],
        networks=tuple(network for model in models for network in model.networks),
        description=join_models([model.description for model in models], manifest),
    )


def _averaged(model: Model) -> Model:
    if len(model.held_out_folds) > 1:
        folds = ", ".join(map(str, model.held_out_folds))
        raise UsageError(
            f"--average: the networks hold out the folds {folds}; --members can name those of one fold"
        )
    mean = AveragedModel(model.networks[0], use_buffers=True)
    for network in model.networks:
        mean.update_parameters(network)
    unseen = frozenset(model.description.trained_on.image_digests) - model.description.seen_digests()
    member = model.description.members[-1].model_copy(update={"unseen_digests": tuple(sorted(unseen))})
    return replace(
        model,
        networks=(cast("AttentionUNet", mean.module),),
        description=model.description.model_copy(update={"members": (member,)}),
    )


def _epoch_of(weights: str) -> int | None:
    """Read the epoch from the name that `save_weights` gave; None if it holds none."""
    _, separator, epoch = Path(weights).stem.partition("-epoch")
    return int(epoch) if separator else None
