"""Model folder in memory, ready for inference."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, Final, Literal, Self

import torch

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.core.config import RuntimeName
from pneumoseg.pipeline.core.console import warn
from pneumoseg.pipeline.core.devices import Precision, precision_of_model
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.inference.passes import check_tta
from pneumoseg.pipeline.inference.predictor import Predictor, images_at_once
from pneumoseg.pipeline.model.catalogue import find_model
from pneumoseg.pipeline.model.description import (
    Calibration,
    ModelDescription,
    image_digest,
    read_description,
)
from pneumoseg.pipeline.model.operating_points import select_point
from pneumoseg.pipeline.model.weights import load_member, place
from pneumoseg.pipeline.runtimes.forward import check_runtime
from pneumoseg.pipeline.runtimes.libraries import RUNTIMES, is_installed
from pneumoseg.pipeline.runtimes.members import member_forward
from pneumoseg.transforms.masks import OperatingPoint

AUTO: Final = "auto"
_EXPORTING: Final = Lock()
"""Held while graphs are exported for a runtime, which PyTorch does not do in several threads at once."""


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How to use a model, where that differs from its own settings.

    Attributes:
        operating_point: Operating point to use: ``challenge``, ``specificity``, ``screening``, or a bound such as
            ``specificity=0.9`` or ``sensitivity=0.9``; None takes the model's own.
        tta: Test-time augmentations, ``flip`` and ``scale``; None takes the model's own.
        calibrated: Whether to report image probabilities as calibrated in training; masks do not change.
        dropout_passes: Monte-Carlo dropout samples for the uncertainty estimate: their mean is thresholded, and their
            standard deviation is the uncertainty. 0 leaves dropout off.
        runtime: Runtime of the networks: ``torch``, ``torch.compile``, ``onnx`` or ``openvino``; ``auto`` is the
            fastest for the number of images: see `choose_runtime`.
        precision: ``float32``, ``bf16``, ``fp16`` on CUDA or ``int8``; ``auto`` is that of the model's validation.
    """

    operating_point: str | None = None
    tta: Sequence[str] | None = None
    calibrated: bool = False
    dropout_passes: int = 0
    runtime: str = AUTO
    precision: str = AUTO


@dataclass(frozen=True)
class Model:
    """Model folder in memory, ready for inference."""

    folder: Path
    description: ModelDescription
    networks: tuple[AttentionUNet, ...]
    """Network of each member."""
    precision: Precision
    """Number format and device of the networks."""
    operating_point: OperatingPoint
    """Operating point in use."""
    objective: str | None = None
    """Name of this operating point; None is the one of ``model.json``."""
    tta: tuple[str, ...] = ()
    """Test-time augmentations."""
    calibration: Calibration | None = None
    """Calibration of the reported image probabilities; it does not change masks."""
    dropout_passes: int = 0
    """Monte-Carlo dropout samples; 0 leaves dropout off."""
    requested_runtime: RuntimeName | Literal["auto"] = "torch"
    """Runtime of the networks; ``auto`` is torch until `choose_runtime` chooses another."""

    @property
    def runtime(self) -> RuntimeName:
        """Runtime that computes the networks; only torch samples with dropout."""
        return "torch" if self.requested_runtime == AUTO or self.dropout_passes else self.requested_runtime

    @cached_property
    def predictor(self) -> Predictor:
        """Predictor of all members together.

        Raises: UsageError: If dropout samples are requested of networks without dropout, or an extra is not installed.
        """
        with _EXPORTING:
            forwards = [
                member_forward(
                    self.folder,
                    self.description,
                    member,
                    network,
                    runtime=self.runtime,
                    precision=self.precision,
                )
                for member, network in zip(self.description.members, self.networks, strict=True)
            ]
        try:
            return Predictor(
                self.networks,
                precision=self.precision,
                tta=self.tta,
                dropout_passes=self.dropout_passes,
                forwards=forwards,
            )
        except ValueError as error:
            raise UsageError(f"--dropout-passes: {error}") from None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the predictor, since sessions of runtimes cannot be copied: each copy makes its own."""
        return {name: value for name, value in self.__dict__.items() if name != "predictor"}

    @property
    def held_out_folds(self) -> tuple[int, ...]:
        """Folds that some member was not trained on; none after training on all images."""
        return self.description.held_out_folds

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

    def images_at_once(self, batch_size: int) -> int:
        """Count the images of a batch that the networks compute at once.

        Args:
            batch_size: Images per batch.
        """
        return min(batch_size, images_at_once(self.precision.device, self.image_size) or batch_size)

    @cached_property
    def _digests(self) -> frozenset[str]:
        return self.description.seen_digests()

    @cached_property
    def _tuned_digests(self) -> frozenset[str]:
        search = self.description.operating_point_search
        return frozenset() if search is None else frozenset(search.image_digests)

    def has_seen(self, image_sha256: str) -> bool:
        """Check whether any member, or its initial weights, was trained on an image.

        Args:
            image_sha256: SHA-256 of the image file.
        """
        return image_digest(image_sha256) in self._digests

    def was_tuned_on(self, image_sha256: str) -> bool:
        """Check whether the operating point was searched on an image; unknown, and False, for an early `model.json`.

        Args:
            image_sha256: SHA-256 of the image file.
        """
        return image_digest(image_sha256) in self._tuned_digests


def load_model(folder: str | Path, device: torch.device, options: ModelOptions = ModelOptions()) -> Model:
    """Read a model folder, to use it in the precision in which it was validated.

    Args:
        folder: Model folder written by `train_model`, or the name of a model of the package: see `find_model`.
        device: Device for the networks. Where it does not compute in the model's precision, float32 is used and a
            warning says so.
        options: How to use the model.

    Raises:
        UsageError: If a test-time augmentation is unknown, or the model has no operating point of that name, no
            calibration, or no dropout to sample from.
        JobError: If the folder is not a model, or its weights are missing, altered or of another network.
    """
    folder = find_model(folder)
    description = read_description(folder)
    # an error comes before the weights are read
    tta = None if options.tta is None else check_tta(options.tta)
    selected = select_point(description, options.operating_point)
    calibration = _calibration(description) if options.calibrated else None
    precision = precision_of_model(description.precision, device, requested=options.precision)
    runtime = _runtime(options, precision)
    networks = [
        place(load_member(folder, description, member), device).eval() for member in description.members
    ]
    model = Model(
        folder,
        description,
        tuple(networks),
        precision,
        selected.point,
        objective=options.operating_point,
        tta=description.tta if tta is None else tta,
        calibration=calibration,
        dropout_passes=options.dropout_passes,
        requested_runtime=runtime,
    )
    _ = model.predictor  # it raises before any image is read, and is ready for it
    return model


def _calibration(description: ModelDescription) -> Calibration:
    search = description.operating_point_search
    if search is None or search.calibration is None:
        raise UsageError("--calibrated: the model has no calibration; training fits one where it can")
    return search.calibration


def _runtime(options: ModelOptions, precision: Precision) -> RuntimeName | Literal["auto"]:
    """Check the requested runtime against the precision and the other options."""
    name = next((name for name in RUNTIMES if name == options.runtime), None)
    if name is None and options.runtime != AUTO:
        raise UsageError(f"--runtime {options.runtime}: {AUTO}, {', '.join(RUNTIMES)} would fit")
    if precision.name == "int8" and options.dropout_passes:
        raise UsageError("--dropout-passes: only torch samples with dropout, which does not compute in int8")
    if name is not None:
        check_runtime(name, precision)
    elif precision.name == "int8":
        name = "openvino" if is_installed("openvino") else "onnx"
    if name not in {None, "torch"} and options.dropout_passes:
        warn(f"--runtime {name}: Monte-Carlo dropout samples are computed by torch")
    return name or AUTO
