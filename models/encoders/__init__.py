"""Encoders of published classification networks, for the decoder of the Attention U-Net."""

from collections.abc import Callable, Mapping
from typing import Final

from pneumoseg.models.encoders.efficientnet_lite import EfficientNetLite, rename_reference_weights
from pneumoseg.models.encoders.encoder import Encoder

ENCODERS: Final[Mapping[str, Callable[[], Encoder]]] = {
    "efficientnet-lite0": lambda: EfficientNetLite(width=1.0, depth=1.0),
    "efficientnet-lite1": lambda: EfficientNetLite(width=1.0, depth=1.1),
    "efficientnet-lite2": lambda: EfficientNetLite(width=1.1, depth=1.2),
}
"""Constructors by name; the factors are those of the TensorFlow implementation."""

__all__ = ["ENCODERS", "EfficientNetLite", "Encoder", "rename_reference_weights"]
