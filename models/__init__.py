"""The Attention U-Net, its encoders, and the import of Keras weights."""

from pneumoseg.models.attention_unet import (
    ENCODER_STRIDE,
    PLAIN_STRIDE,
    AttentionUNet,
    NetworkOutputs,
    TrainingForward,
    TrainingOutputs,
)
from pneumoseg.models.encoders import ENCODERS, EfficientNetLite, Encoder, rename_reference_weights
from pneumoseg.models.keras_weights import KerasWeightsError, load_keras_weights, save_keras_weights

__all__ = [
    "ENCODERS",
    "ENCODER_STRIDE",
    "PLAIN_STRIDE",
    "AttentionUNet",
    "EfficientNetLite",
    "Encoder",
    "KerasWeightsError",
    "NetworkOutputs",
    "TrainingForward",
    "TrainingOutputs",
    "load_keras_weights",
    "rename_reference_weights",
    "save_keras_weights",
]
