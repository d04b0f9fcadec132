"""A model folder in memory, ready for inference."""

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
from pneumoseg.pipeline.model.description import ModelDescription, image_digest, read_description
from pneumoseg.pipeline.model.operating_points import point_for
from pneumoseg.pipeline.model.weights import load_member, place
from pneumoseg.transforms.masks import OperatingPoint


@dataclass(frozen=True)
class Model:
    """A model in memory, ready for inference."""

    folder: Path
    description: ModelDescription
    networks: tuple[AttentionUNet, ...]
    """The network of each member."""
    precision: Precision
    """Number format in which the networks compute, and the device that they are on."""
    aim: str | None = None
    """Operating point to use; None takes the one of ``model.json``."""
    tta: tuple[str, ...] = ()
    """Test-time augmentations."""
    temperature: float = 1.0
    """The logits of reported probabilities are divided by this; masks are drawn without it."""
    dropout_passes: int = 0
    """Monte-Carlo dropout samples; 0 leaves dropout off."""

    @cached_property
    def predictor(self) -> Predictor:
        """The predictor of all members together.

        Raises: UsageError: If dropout samples are asked for and there is no dropout.
        """
        try:
            return Predictor(
                self.networks, precision=self.precision, tta=self.tta, dropout_passes=self.dropout_passes
            )
        except ValueError as error:
            raise UsageError(f"--dropout-passes: {error}") from None

    @property
    def held_out_folds(self) -> tuple[int, ...]:
        """Those that some member never saw, in the order of the members."""
        return tuple(dict.fromkeys(member.held_out_fold for member in self.description.members))

    def without(self, fold: int) -> Self:
        """The model of those members that never saw a fold."""
        members = tuple(member for member in self.description.members if member.held_out_fold == fold)
        kept = zip(self.networks, self.description.members, strict=True)
        return replace(
            self,
            description=self.description.model_copy(update={"members": members}),
            networks=tuple(network for network, member in kept if member in members),
        )

    @property
    def image_size(self) -> int:
        """Side of the square that the network sees, in pixels."""
        return self.description.preprocessing.image_size

    @cached_property
    def operating_point(self) -> OperatingPoint:
        """The rule that turns probabilities into masks.

        Raises: UsageError: If the model knows no point for its aim.
        """
        return point_for(self.description, self.aim)

    @cached_property
    def _digests(self) -> frozenset[str]:
        return self.description.seen_digests()

    def has_seen(self, image_sha256: str) -> bool:
        """Whether any member, or the weights that it started from, was trained on the image with this SHA-256."""
        return image_digest(image_sha256) in self._digests


def load_model(
    folder: str | Path,
    device: torch.device,
    *,
    aim: str | None = None,
    tta: Sequence[str] | None = None,
    calibrated: bool = False,
    dropout_passes: int = 0,
) -> Model:
    """Read a model folder, to use it in the precision in which it was validated.

    Args:
        folder: Model folder written by `train_model`.
        device: Device for the networks. Where it does not compute in the model's precision, float32 is used and a
            warning says so.
        aim: Operating point to use: see `point_for`.
        tta: Test-time augmentations: see `parse_tta`; None takes the model's own.
        calibrated: Whether to report probabilities at the temperature that training has fitted; masks do not change.
        dropout_passes: Monte-Carlo dropout samples for the uncertainty estimate; 0 leaves dropout off.

    Raises:
        UsageError: If the model has no operating point for *aim*, no temperature, or no dropout to sample from.
        JobError: If the folder is no model, or its weights are missing, altered or of another network.
    """
    folder = Path(folder)
    description = read_description(folder)
    point_for(description, aim)  # refuses an unknown word before the weights are read
    temperature = _temperature(description) if calibrated else 1.0
    networks = [
        place(load_member(folder, description, member), device).eval() for member in description.members
    ]
    model = Model(
        folder,
        description,
        tuple(networks),
        precision_of_model(description.precision, device),
        aim=aim,
        tta=description.tta if tta is None else tuple(tta),
        temperature=temperature,
        dropout_passes=dropout_passes,
    )
    _ = model.predictor  # refuses dropout samples of networks without dropout before any image is read
    return model


def _temperature(description: ModelDescription) -> float:
    decision = description.decision
    if decision is None or decision.temperature is None:
        raise UsageError("--calibrated: the model has no temperature; training fits one where it can")
    return decision.temperature
