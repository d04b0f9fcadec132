"""EfficientNet-Lite without its classifier: five feature maps of an image, each half as large as the previous one."""

from collections.abc import Mapping
from math import ceil
from typing import Final

import torch
from torch import Tensor, nn

from pneumoseg.models.encoders.encoder import Encoder

STEM_CHANNELS: Final = 32
# For each of the five levels its stages: kernel size, expansion, channels, blocks. The first block of a level
# has stride 2, except in the first level, where the stem has it.
LEVELS: Final = (
    ((3, 1, 16, 1),),
    ((3, 6, 24, 2),),
    ((5, 6, 40, 2),),
    ((3, 6, 80, 3), (5, 6, 112, 3)),
    ((5, 6, 192, 4), (3, 6, 320, 1)),
)
CLASSIFIER: Final = ("_conv_head.", "_bn1.", "_fc.")
"""First parts of the names of the reference's weights that are not used here."""


class EfficientNetLite(Encoder):
    """Compute feature maps at strides 2, 4, 8, 16 and 32; each is the last map of its resolution.

    After Tan and Le 2019, arXiv:1905.11946, and the EfficientNet-Lite of its TensorFlow implementation: ReLU6 and no
    squeeze-and-excitation. The stochastic depth of the original training is left out.

    Args:
        width: Factor on the channels of each stage, which are then rounded to multiples of 8.
        depth: Factor on the blocks of each stage but the first and the last.

    Shape:
        image: (B, 3, H, W), H and W multiples of 32
        returns: five maps, (B, channels, H / 2, W / 2) to (B, channels, H / 32, W / 32)
    """

    def __init__(self, *, width: float, depth: float) -> None:
        level1, level2, level3, level4, level5 = (_round_channels(stages[-1][2] * width) for stages in LEVELS)
        super().__init__((level1, level2, level3, level4, level5))
        last_stages = (LEVELS[0][0], LEVELS[-1][-1])
        in_channels = STEM_CHANNELS
        levels: list[nn.Sequential] = []
        for stages in LEVELS:
            level: list[nn.Module] = []
            if not levels:
                level.append(ConvolutionNorm(self.in_channels, STEM_CHANNELS, kernel_size=3, stride=2))
            for stage in stages:
                kernel_size, expansion, channels, blocks = stage
                channels = _round_channels(channels * width)
                for _ in range(blocks if stage in last_stages else ceil(blocks * depth)):
                    stride = 1 if level else 2
                    level.append(
                        InvertedBottleneck(
                            in_channels, channels, kernel_size=kernel_size, stride=stride, expansion=expansion
                        )
                    )
                    in_channels = channels
            levels.append(nn.Sequential(*level))
        self.level1, self.level2, self.level3, self.level4, self.level5 = levels

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the feature maps.

        Args:
            image: (B, 3, H, W), H and W multiples of 32

        Returns: Five feature maps, the largest first.
        """
        map1 = self.level1(image)
        map2 = self.level2(map1)
        map3 = self.level3(map2)
        map4 = self.level4(map3)
        map5 = self.level5(map4)
        return [map1, map2, map3, map4, map5]


class InvertedBottleneck(nn.Module):
    """Expand the channels, filter each of them, and project them down again; add the input where shapes allow it.

    After Sandler et al. 2018, arXiv:1801.04381.

    Shape:
        features: (B, in_channels, H, W)
        returns: (B, out_channels, H / stride, W / stride)
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.expand = nn.Identity() if expansion == 1 else ConvolutionNorm(in_channels, hidden, kernel_size=1)
        self.depthwise = ConvolutionNorm(
            hidden, hidden, kernel_size=kernel_size, stride=stride, groups=hidden
        )
        self.project = ConvolutionNorm(hidden, out_channels, kernel_size=1, activation=False)
        self.has_skip = stride == 1 and in_channels == out_channels

    def forward(self, features: Tensor) -> Tensor:
        """Apply the three convolutions and the skip connection.

        Args:
            features: (B, in_channels, H, W)

        Returns: (B, out_channels, H / stride, W / stride)
        """
        result: Tensor = self.project(self.depthwise(self.expand(features)))
        return result + features if self.has_skip else result


class ConvolutionNorm(nn.Module):
    """Convolution, batch normalization and, unless it is switched off, ReLU6.

    Padding is TensorFlow's "same" for sizes that the stride divides: with stride 2, one pixel more below and at the
    right than above and at the left.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        activation: bool = True,
    ) -> None:
        super().__init__()
        before = (kernel_size - stride) // 2
        after = kernel_size - stride - before
        symmetric = before == after
        self.pad = nn.Identity() if symmetric else nn.ZeroPad2d((before, after, before, after))
        convolution = nn.Conv2d if groups == 1 else DepthwiseConvolution
        self.conv = convolution(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=before if symmetric else 0,
            groups=groups,
            bias=False,
        )
        self.norm = nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.01)  # both as in the original training
        self.activation = nn.ReLU6(inplace=True) if activation else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Apply convolution, normalization and activation.

        Args:
            features: (B, in_channels, H, W)

        Returns: (B, out_channels, H / stride, W / stride)
        """
        return self.activation(self.norm(self.conv(self.pad(features))))  # type: ignore[no-any-return]


class DepthwiseConvolution(nn.Conv2d):
    """Convolution of each channel by itself, which a processor trains in float32 under autocast, too.

    Its backward pass is bound by memory, and oneDNN has a slow path for it in bfloat16.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Apply the convolution.

        Args:
            features: (B, in_channels, H, W)

        Returns: (B, out_channels, H / stride, W / stride), of the same number format.
        """
        if features.is_cpu and torch.is_autocast_enabled("cpu") and torch.is_grad_enabled():
            with torch.autocast("cpu", enabled=False):
                return super().forward(features.to(self.weight.dtype)).to(features.dtype)
        return super().forward(features)


def rename_reference_weights(encoder: Encoder, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of the package ``efficientnet-lite-pytorch`` to the names of this implementation.

    Both have the same layers in the same order; shapes are checked when the result is loaded.

    Args:
        encoder: Encoder of the same variant, which provides the names.
        weights: State dictionary of the reference, with or without its classifier.

    Raises: ValueError: If the number of tensors differs.
    """
    values = [value for name, value in weights.items() if not name.startswith(CLASSIFIER)]
    return dict(zip(encoder.state_dict(), values, strict=True))


def _round_channels(channels: float) -> int:
    """Round to the nearest multiple of 8, but not down by more than a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
