"""Exact rewrite of a trained network for inference: less work above the bottleneck, and the same outputs.

Nearest-neighbour upsampling repeats pixels, and so do the layers that read the result:

- A 1 x 1 convolution can come before it. That of the gate signal then has a quarter of the pixels.
- A 3 x 3 convolution after it is a transposed convolution with a 4 x 4 kernel and stride 2 on the small map, whose
  kernel is the sum of the four shifted 3 x 3 kernels. Each output pixel has 4 products instead of 9 for each channel.
"""

from collections.abc import Sequence
from copy import copy
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import skip_init
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pneumoseg.models.attention_unet import LEVELS, AttentionUNet
from pneumoseg.models.blocks import AttentionGate, DoubleConvolution


def rewrite_for_inference(network: AttentionUNet) -> AttentionUNet:
    """Replace the layers after each upsampling by exact equivalents with less work, in a second network.

    Args:
        network: Network in evaluation mode; it is not changed.

    Returns: A network with the same outputs up to rounding, which cannot be trained. It has all other layers in common
        with *network*, among them dropout, and the weights that *network* has now in those that were replaced.
    """
    rewritten = copy(network)
    rewritten._modules = dict(network._modules)
    rewritten.join = _keep_apart
    for level in range(1, LEVELS + 1):
        block = getattr(rewritten, f"decoder{level}", None)
        if block is None:
            continue  # the plain network has no fifth level
        gate: AttentionGate | None = getattr(rewritten, f"gate{level}", None)
        skip_channels = 0 if gate is None else gate.from_skip.in_channels
        setattr(rewritten, f"up{level}", nn.Identity())
        setattr(rewritten, f"decoder{level}", _UpsamplingConvolutions(block, skip_channels=skip_channels))
        if gate is not None:
            setattr(rewritten, f"gate{level}", _UpsamplingGate(gate))
    return rewritten


def _keep_apart(below: Tensor, gated: Tensor) -> tuple[Tensor, Tensor]:
    return below, gated


class _UpsamplingGate(nn.Module):
    """`AttentionGate` for a gate signal that is not upsampled yet."""

    def __init__(self, gate: AttentionGate) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, skip: Tensor, below: Tensor) -> tuple[Tensor, Tensor]:
        gate = self.gate
        signal = functional.interpolate(gate.from_gate(below), scale_factor=2, mode="nearest")
        coefficients = torch.sigmoid(gate.to_weight(torch.relu(gate.from_skip(skip) + signal)))
        return skip * coefficients, coefficients


class _UpsamplingConvolutions(nn.Module):
    """`DoubleConvolution` of an upsampled map and a gated skip connection, for a map that is not upsampled yet."""

    def __init__(self, block: DoubleConvolution, *, skip_channels: int) -> None:
        super().__init__()
        first, norm = block.conv1, block.norm1
        if isinstance(norm, nn.BatchNorm2d):
            first, norm = fuse_conv_bn_eval(first, norm), nn.Identity()
        below_channels = first.in_channels - skip_channels
        out_channels = first.out_channels
        # initial weights would be drawn from the generator that dropout samples from
        make = partial(skip_init, device=first.weight.device, dtype=first.weight.dtype)
        self.from_below = make(
            nn.ConvTranspose2d, below_channels, out_channels, kernel_size=4, stride=2, padding=1
        )
        self.from_skip = make(
            nn.Conv2d, max(skip_channels, 1), out_channels, kernel_size=3, padding=1, bias=False
        )
        with torch.no_grad():
            self.from_below.weight.copy_(_transposed_kernel(first.weight[:, :below_channels]))
            cast("nn.Parameter", self.from_below.bias).copy_(cast("nn.Parameter", first.bias))
            if skip_channels:
                self.from_skip.weight.copy_(first.weight[:, below_channels:])
        if first.weight.is_contiguous(memory_format=torch.channels_last):
            # torch does not annotate the argument
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.norm1, self.dropout, self.conv2, self.norm2 = norm, block.dropout, block.conv2, block.norm2

    def forward(self, parts: Tensor | Sequence[Tensor]) -> Tensor:
        if isinstance(parts, Tensor):  # the last level of a network with an encoder has no skip connection
            features = self.from_below(parts)
        else:
            below, gated = parts
            features = self.from_below(below) + self.from_skip(gated)
        features = self.dropout(torch.relu(self.norm1(features)))
        return torch.relu(self.norm2(self.conv2(features)))


def _transposed_kernel(kernel: Tensor) -> Tensor:
    """Turn the kernel of a 3 x 3 convolution after upsampling into that of the transposed convolution before it.

    Args:
        kernel: (out, in, 3, 3)

    Returns: (in, out, 4, 4)
    """
    flipped = kernel.transpose(0, 1).flip(2, 3)  # a transposed convolution reads its kernel backwards
    total = flipped.new_zeros(*flipped.shape[:2], 4, 4)
    for row in range(2):
        for column in range(2):
            total[:, :, row : row + 3, column : column + 3] += flipped
    return total
