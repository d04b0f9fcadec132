"""The bricks of the network: the double convolution, and how its weights start."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

Normalization = Literal["none", "batch", "instance", "group"]
GROUPS = 8  # of channels, for group normalization; fewer where they do not divide the channels


class DoubleConvolution(nn.Module):
    """Look twice at a neighbourhood of 3x3: convolution, ReLU, dropout, convolution, ReLU.

    Dropout acts on single elements, as in Keras, and not on whole feature maps. A normalization, which the article
    has not, comes between a convolution and its ReLU.

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
        """Apply both convolutions."""
        features = torch.relu(self.norm1(self.conv1(features)))
        features = self.dropout(features)
        return torch.relu(self.norm2(self.conv2(features)))


def make_normalization(kind: Normalization, channels: int) -> nn.Module:
    """The layer that a name stands for."""
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
    """Draw the kernel of a convolution from Keras' Glorot uniform and set its bias to zero.

    Made for ``network.apply``; other modules are left as they are. PyTorch's own default is another one: a
    narrower kernel, and a random bias.
    """
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
