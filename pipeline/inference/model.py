"""Model folder in memory, ready for inference."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import torch

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.core.devices import Precision, precision_of_model
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.inference.predictor import Predictor
from pneumoseg.pipeline.model.catalogue import find_model
from pneumoseg.pipeline.model.description import ModelDescription, image_digest, read_description
from pneumoseg.pipeline.model.operating_points import point_for
from pneumoseg.pipeline.model.weights import load_member, place
from pneumoseg.transforms.masks import OperatingPoint


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How to use a model, where that differs from its own settings.

    Attributes:
        operating_point: Name of the operating point to use: see `point_for`; None takes the model's own.
        tta: Test-time augmentations: see `parse_tta`; None takes the model's own.
        calibrated: Whether to report probabilities at the temperature that training has fitted; masks do not change.
        dropout_passes: Monte-Carlo dropout samples for the uncertainty estimate: their mean is thresholded, and their
            standard deviation is the uncertainty. 0 leaves dropout off.
    """

    operating_point: str | None = None
    tta: Sequence[str] | None = None
    calibrated: bool = False
    dropout_passes: int = 0


@dataclass(frozen=True)
class Model:
    """Model folder in memory, ready for inference."""

    folder: Path
    description: ModelDescription
    networks: tuple[AttentionUNet, ...]
    """Network of each member."""
    precision: Precision
    """Number format and device of the networks."""
    objective: str | None = None
    """Name of the operating point in use; None is the one of ``model.json``."""
    tta: tuple[str, ...] = ()
    """Test-time augmentations."""
    temperature: float = 1.0
    """Temperature of the reported image probabilities, which divides their logits; it does not change masks."""
    dropout_passes: int = 0
    """Monte-Carlo dropout samples; 0 leaves dropout off."""

    @cached_property
    def predictor(self) -> Predictor:
        """Predictor of all members together.

        Raises: UsageError: If dropout samples are requested of networks without dropout.
        """
        try:
            return Predictor(
                self.networks, precision=self.precision, tta=self.tta, dropout_passes=self.dropout_passes
            )
        except ValueError as error:
            raise UsageError(f"--dropout-passes: {error}") from None

    @property
    def held_out_folds(self) -> tuple[int, ...]:
        """Folds that some member was not trained on, in the order of the members."""
        return tuple(dict.fromkeys(member.held_out_fold for member in self.description.members))

    def without(self, fold: int) -> Self:
        """Select the members that were not trained on a fold.

        Args:
            fold: Index of the fold.
        """
        members = tuple(member for member in self.description.members if member.held_out_fold == fold)
        kept = zip(self.networks, self.description.members, strict=True)
        return replace(
            self,
            description=self.description.model_copy(update={"members": members}),
            networks=tuple(network for network, member in kept if member in members),
        )

    @property
    def image_size(self) -> int:
        """Side of the network's square input in pixels."""
        return self.description.preprocessing.image_size

    @cached_property
    def operating_point(self) -> OperatingPoint:
        """Operating point in use.

        Raises: UsageError: If the model has no point for its objective.
        """
        return point_for(self.description, self.objective)

    @cached_property
    def _digests(self) -> frozenset[str]:
        return self.description.seen_digests()

    def has_seen(self, image_sha256: str) -> bool:
        """Check whether any member, or its initial weights, was trained on an image.

        Args:
            image_sha256: SHA-256 of the image file.
        """
        return image_digest(image_sha256) in self._digests


def load_model(folder: str | Path, device: torch.device, options: ModelOptions = ModelOptions()) -> Model:
    """Read a model folder, to use it in the precision in which it was validated.

    Args:
        folder: Model folder written by `train_model`, or the name of a model of the package: see `find_model`.
        device: Device for the networks. Where it does not compute in the model's precision, float32 is used and a
            warning says so.
        options: How to use the model.

    Raises:
        UsageError: If the model has no operating point of that name, no temperature, or no dropout to sample from.
        JobError: If the folder is no model, or its weights are missing, altered or of another network.
    """
    folder = find_model(folder)
    description = read_description(folder)
    point_for(description, options.operating_point)  # refuses an unknown word before the weights are read
    temperature = _temperature(description) if options.calibrated else 1.0
    networks = [
        place(load_member(folder, description, member), device).eval() for member in description.members
    ]
    model = Model(
        folder,
        description,
        tuple(networks),
        precision_of_model(description.precision, device),
        objective=options.operating_point,
        tta=description.tta if options.tta is None else tuple(options.tta),
        temperature=temperature,
        dropout_passes=options.dropout_passes,
    )
    _ = model.predictor, model.operating_point  # they raise before any image is read, and are ready for it
    return model


def _temperature(description: ModelDescription) -> float:
    search = description.operating_point_search
    if search is None or search.temperature is None:
        raise UsageError("--calibrated: the model has no temperature; training fits one where it can")
    return search.temperature
