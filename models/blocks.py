"""Building blocks of the network: attention gate, double convolution, dropout, normalization and initialisation."""

import math
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Normalization = Literal["none", "batch", "instance", "group"]
GROUPS = 8  # of channels, for group normalization; fewer where they do not divide the channels
_LANES: Final = 1 << 16  # values of 16 random bits
_INTEGERS: Final = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by the bytes of a floating-point number


class AttentionGate(nn.Module):
    """Weigh a skip connection by the attention of the decoder.

    Args:
        skip_channels: Channels of the skip connection.
        gate_channels: Channels of the gate signal.
        hidden_channels: Channels in which both are compared.

    Shape:
        skip: (B, skip_channels, H, W)
        gate: (B, gate_channels, H, W)
        returns: the skip scaled by its coefficients, (B, skip_channels, H, W), and the coefficients, (B, 1, H, W), from
            0 (suppress) to 1 (keep)

    Source: Oktay et al. 2018, arXiv:1804.03999; here the gate signal is upsampled before the gate.
    """

    def __init__(self, *, skip_channels: int, gate_channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.from_skip = nn.Conv2d(skip_channels, hidden_channels, kernel_size=1)
        self.from_gate = nn.Conv2d(gate_channels, hidden_channels, kernel_size=1)
        self.to_weight = nn.Conv2d(hidden_channels, 1, kernel_size=1)

    def forward(self, skip: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
        """Scale the skip connection.

        Args:
            skip: (B, skip_channels, H, W)
            gate: (B, gate_channels, H, W)

        Returns: Scaled skip connection and coefficients.
        """
        hidden = torch.relu(self.from_skip(skip) + self.from_gate(gate))
        coefficients = torch.sigmoid(self.to_weight(hidden))
        return skip * coefficients, coefficients


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
        self.dropout = Dropout(dropout)
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


class Dropout(nn.Dropout):
    """Dropout of single elements, cheaper than torch's on a processor.

    There, torch draws a double for each element; here an element takes 16 random bits, and its mask is applied to its
    bits. The mask is a function of the state of torch's generator and of the memory layout of the features. On other
    devices torch's fused kernel is used.

    Args:
        p: Share of the elements that are set to zero in training, 0 to less than 1; rounded to a multiple of 1/65536.
            The others are scaled up.
    """

    def __init__(self, p: float) -> None:
        super().__init__(min(round(p * _LANES), _LANES - 1) / _LANES)

    def forward(self, features: Tensor) -> Tensor:
        """Apply dropout in training mode; otherwise return the features.

        Args:
            features: Tensor of any shape.
        """
        if not self.training or self.p == 0:
            return features
        if features.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(features)
        return _LaneDropout.apply(features, self.p)  # type: ignore[no-any-return, no-untyped-call]


class _LaneDropout(torch.autograd.Function):
    """Dropout with a mask of 16 bits per element: all set where the element is kept, none where it is dropped."""

    @staticmethod
    def forward(context: Any, features: Tensor, p: float) -> Tensor:
        if not features.is_contiguous(memory_format=torch.channels_last):
            features = features.contiguous()
        count = features.numel()
        draws = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)  # four lanes each
        lanes = draws.view(torch.int16)[:count].as_strided(features.shape, features.stride())
        mask = lanes.ge_(round(p * _LANES) - _LANES // 2).neg_()  # 0 or -1, in place: allocation costs more
        context.scale = 1 / (1 - p)
        context.save_for_backward(mask)
        return _masked(features * context.scale, mask)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (mask,) = context.saved_tensors
        return _masked(gradient * context.scale, mask), None


def _masked(values: Tensor, mask: Tensor) -> Tensor:
    """Set *values* to zero in place where *mask* is 0, and leave them where it is -1: a sign extends to any width."""
    values.view(_INTEGERS[values.element_size()]).bitwise_and_(mask)
    return values


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
