"""Initial weights of a training (``train --init``, or a pretrained encoder), and which images they have seen."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from pneumoseg.pipeline.core.config import NetworkConfig
from pneumoseg.pipeline.core.console import warn
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.dataset.manifest import Manifest
from pneumoseg.pipeline.model.description import (
    EncoderOrigin,
    Member,
    ModelDescription,
    image_digest,
    read_description,
)
from pneumoseg.pipeline.model.weights import layers_of, load_member
from pneumoseg.pipeline.training.checkpoint import State
from pneumoseg.pipeline.training.encoder_weights import read_encoder_weights


@dataclass(frozen=True)
class StartingWeights:
    """Weights that a training starts from.

    Attributes:
        origin: Where they come from, in plain values for checkpoints: ``weights_sha256`` of the model, ``seen``, the
            digests of the images that it was trained on, and ``encoder_origin``.
        network: State dict of the whole network; None initialises it.
        encoder: State dict of the encoder; None initialises it.
    """

    origin: State
    network: Mapping[str, Tensor] | None = None
    encoder: Mapping[str, Tensor] | None = None


def read_starting_weights(
    initial: Path | None, config: NetworkConfig, held_out: frozenset[str]
) -> StartingWeights:
    """Read the weights that a training starts from.

    Args:
        initial: Model folder; None takes those that *config* names for its encoder, if any.
        config: Network that is trained.
        held_out: Digests of the held-out images.

    Raises:
        UsageError: If the model is of another network, or the weights of the encoder cannot be used.
        JobError: If *initial* is not a model folder.
    """
    if initial is not None:
        return _weights_of_model(initial, config, held_out)
    pretrained = read_encoder_weights(config)
    if pretrained is None:
        return StartingWeights(_origin(None))
    tensors, origin = pretrained
    return StartingWeights(_origin(origin), encoder=tensors)


def _weights_of_model(folder: Path, config: NetworkConfig, held_out: frozenset[str]) -> StartingWeights:
    """Read the weights of one member of a model."""
    description = read_description(folder)
    theirs, wanted = map(layers_of, (description.network, config))
    if theirs != wanted:
        other = ", ".join(f"{key} is {theirs[key]}" for key in theirs if theirs[key] != wanted[key])
        raise UsageError(f"--init {folder}: is of another network: {other}; set network to the same values")
    member = _least_seen(description, held_out)
    seen = description.seen_digests([member])
    origin = _origin(description.encoder_origin, weights_sha256=member.sha256, seen=seen)
    return StartingWeights(origin, network=load_member(folder, description, member).state_dict())


def _least_seen(description: ModelDescription, held_out: frozenset[str]) -> Member:
    """Choose the member that was trained on the fewest held-out images, and among equals the first."""
    return min(description.members, key=lambda member: len(held_out & description.seen_digests([member])))


def _origin(
    encoder: EncoderOrigin | None, *, weights_sha256: str | None = None, seen: Iterable[str] = ()
) -> State:
    return {
        "weights_sha256": weights_sha256,
        "seen": sorted(seen),
        "encoder_origin": None if encoder is None else encoder.model_dump(),
    }


def held_out_digests(manifest: Manifest, fold: int | None) -> frozenset[str]:
    """Collect the digests of all images of a fold.

    Args:
        manifest: Manifest of the run.
        fold: Number of the fold; None has no image.
    """
    return frozenset(image_digest(case.sha256) for case in manifest.training if case.fold == fold)


def refuse_seen(initial: Path, manifest: Manifest, folds: Iterable[int], *, allowed: bool) -> None:
    """Refuse to hold out images that the initial weights were trained on: their scores would be too high.

    Args:
        initial: Model folder of the initial weights; each fold starts from the member that has seen fewest of its
            images.
        manifest: Manifest of the new training.
        folds: Folds that are to be held out.
        allowed: Warn instead.

    Raises: UsageError: If a fold holds such images and that is not allowed.
    """
    description = read_description(initial)

    def seen_of(fold: int) -> int:
        images = held_out_digests(manifest, fold)
        return len(images & description.seen_digests([_least_seen(description, images)]))

    folds = list(folds)
    seen = sum(map(seen_of, folds))
    if not seen:
        return
    images = sum(case.fold in folds for case in manifest.training)
    found = f"{seen} of the {images} held-out images were seen by the initial weights"
    if allowed:
        warn(f"--init {initial}: {found}; the scores of this run say nothing about new images")
        return
    unseen = [str(fold) for fold in range(manifest.folds) if not seen_of(fold)]
    others = f"hold out a fold that they were not trained on (--fold {' or '.join(unseen)})" if unseen else ""
    raise UsageError(
        f"--init {initial}: {found}; {others or 'start from other weights'}, or give --allow-seen, which marks "
        "every score of the run"
    )
