"""Building blocks of the network: double convolution, normalization and initialisation."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

Normalization = Literal["none", "batch", "instance", "group"]
GROUPS = 8  # of channels, for group normalization; fewer where they do not divide the channels


class DoubleConvolution(nn.Module):
    """Apply convolution, ReLU, dropout, convolution and ReLU, both convolutions with 3 x 3 kernels.

    Dropout acts on single elements, as in Keras, and not on whole feature maps. The optional normalization, which the
    article does not use, precedes each ReLU.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        dropout: Share of the elements that dropout sets to zero in training.
        normalization: Kind of normalization.

    Shape:
        features: (B, in_channels, H, W)
        returns: (B, out_channels, H, W)
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, dropout: float, normalization: Normalization = "none"
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
        self.norm1 = make_normalization(normalization, out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1)
        self.norm2 = make_normalization(normalization, out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """Apply both convolutions.

        Args:
            features: (B, in_channels, H, W)

        Returns: (B, out_channels, H, W)
        """
        features = torch.relu(self.norm1(self.conv1(features)))
        features = self.dropout(features)
        return torch.relu(self.norm2(self.conv2(features)))


def make_normalization(kind: Normalization, channels: int) -> nn.Module:
    """Make a normalization layer.

    Args:
        kind: ``none``, ``batch``, ``instance`` or ``group``.
        channels: Channels of the feature map.
    """
    match kind:
        case "none":
            return nn.Identity()
        case "batch":
            return nn.BatchNorm2d(channels)
        case "instance":
            return nn.InstanceNorm2d(channels, affine=True)
        case "group":
            return nn.GroupNorm(math.gcd(GROUPS, channels), channels)


def initialise_as_keras_does(module: nn.Module) -> None:
    """Initialise a convolution as in Keras: kernel from the Glorot uniform distribution, bias zero.

    Use it with ``network.apply``; other modules are not changed. PyTorch's default differs: it has a narrower kernel,
    and a random bias.

    Args:
        module: Module to initialise.
    """
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
