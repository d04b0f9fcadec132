"""The Attention U-Net and the way Keras weights get into it."""

from pneumoseg.models.attention_unet import AttentionUNet, TrainingOutputs
from pneumoseg.models.keras_weights import KerasWeightsError, load_keras_weights

__all__ = ["AttentionUNet", "KerasWeightsError", "TrainingOutputs", "load_keras_weights"]
