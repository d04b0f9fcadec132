"""Time of the article's network relative to other U-Nets of the field, forward at 512 px in float32.

    python -m benchmarks.networks [--quick] [--json FILE]

A peer that is not installed is a line that says so. nnU-Net's network comes by ``pip install --no-deps
dynamic-network-architectures``, since its dependencies include torchvision, which it does not use; the networks of
segmentation_models_pytorch need torchvision itself.
"""

import importlib
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from monai.networks.nets import AttentionUnet
from torch import nn

from benchmarks.comparison import Comparison, Setting, relate, run, take_turns
from benchmarks.peers import Peer
from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.core.devices import Precision
from pneumoseg.pipeline.core.memory import keep_freed_memory
from pneumoseg.pipeline.model.weights import place
from pneumoseg.pipeline.runtimes.forward import torch_forward

CPU = torch.device("cpu")
FEATURES = (32, 64, 128, 256, 512)


def measure(setting: Setting) -> list[Comparison]:
    """Compare the forward pass with that of MONAI, Keras, nnU-Net and segmentation_models_pytorch.

    Args:
        setting: Number of rounds, and a smaller image for a quick run.
    """
    keep_freed_memory()  # as the command does
    side = 128 if setting.quick else 512
    ours = torch_forward(place(AttentionUNet(features=FEATURES).eval(), CPU), Precision(CPU, torch.float32))
    image = torch.rand(1, 3, side, side)
    sides: dict[str, Callable[[], object]] = {"ours": torch.no_grad()(partial(ours, image))}
    missing: dict[str, str] = {}
    for name, make in _PEERS.items():
        try:
            sides[name] = Peer(make, image)
        except ImportError as error:
            missing[name] = f"not installed ({error.name or error})"
    turns = take_turns(sides, rounds=setting.rounds(7))
    return [
        relate(f"forward at {side} px, {name}", turns["ours"], turns[name], limit=None)
        if name in turns
        else Comparison.unmeasured(f"forward at {side} px, {name}", note=missing[name])
        for name in _PEERS
    ]


def _forward(network: nn.Module, image: torch.Tensor) -> Callable[[], object]:
    """Make a forward pass in eager float32."""
    return torch.inference_mode()(partial(network, image))


def _monai(image: torch.Tensor) -> Callable[[], object]:
    return _forward(AttentionUnet(2, 3, 1, channels=FEATURES, strides=(2, 2, 2, 2)).eval(), image)


def _keras(image: torch.Tensor) -> Callable[[], object]:
    """Make the article's network in Keras, on its torch backend."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras: Any = importlib.import_module("keras")
    layers = keras.layers

    def convolve(x: Any, features: int, size: int, activation: str | None = None) -> Any:
        return layers.Conv2D(
            features, size, padding="same", activation=activation, data_format="channels_first"
        )(x)

    def double(x: Any, features: int) -> Any:
        return convolve(convolve(x, features, 3, "relu"), features, 3, "relu")

    given = x = layers.Input(tuple(image.shape[1:]))
    skips = []
    for features in FEATURES[:-1]:
        skips.append(double(x, features))
        x = layers.MaxPooling2D(2, data_format="channels_first")(skips[-1])
    x = double(x, FEATURES[-1])
    for skip, features in zip(reversed(skips), reversed(FEATURES[:-1]), strict=True):
        up = layers.UpSampling2D(2, data_format="channels_first")(x)
        hidden = layers.add([convolve(skip, features // 2, 1), convolve(up, features // 2, 1)])
        weight = convolve(layers.Activation("relu")(hidden), 1, 1, "sigmoid")
        x = double(layers.Concatenate(axis=1)([up, layers.multiply([skip, weight])]), features)
    network = keras.Model(given, convolve(x, 1, 1))

    return torch.inference_mode()(partial(network, image, training=False))


def _nnunet(image: torch.Tensor) -> Callable[[], object]:
    unet: Any = importlib.import_module("dynamic_network_architectures.architectures.unet")
    network = unet.PlainConvUNet(
        input_channels=3,
        n_stages=5,
        features_per_stage=FEATURES,
        conv_op=nn.Conv2d,
        kernel_sizes=3,
        strides=(1, 2, 2, 2, 2),
        n_conv_per_stage=2,
        num_classes=2,
        n_conv_per_stage_decoder=2,
        conv_bias=True,
        norm_op=nn.InstanceNorm2d,
        nonlin=nn.LeakyReLU,
    )
    return _forward(network.eval(), image)


def _smp(image: torch.Tensor) -> Callable[[], object]:
    smp: Any = importlib.import_module("segmentation_models_pytorch")
    return _forward(smp.Unet("efficientnet-b0", encoder_weights=None).eval(), image)


_PEERS: dict[str, Callable[[torch.Tensor], Callable[[], object]]] = {
    "MONAI AttentionUnet": _monai,
    "Keras": _keras,
    "nnU-Net PlainConvUNet": _nnunet,
    "segmentation_models_pytorch Unet": _smp,
}

if __name__ == "__main__":
    run(measure, __doc__)
