"""The attention gate, which distinguishes an Attention U-Net from a U-Net."""

import torch
from torch import Tensor, nn


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
