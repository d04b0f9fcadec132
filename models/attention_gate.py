"""The attention gate: the one idea that makes a U-Net an Attention U-Net."""

import torch
from torch import Tensor, nn


class AttentionGate(nn.Module):
    """Weigh a skip connection by where the decoder is looking.

    After Oktay et al. 2018, arXiv:1804.03999, with the gate signal upsampled beforehand.

    Shape:
        skip: (B, skip_channels, H, W)
        gate: (B, gate_channels, H, W)
        returns: the skip scaled by its coefficients, (B, skip_channels, H, W), and the coefficients
            themselves, (B, 1, H, W), between 0 (ignore) and 1 (let through)
    """

    def __init__(self, *, skip_channels: int, gate_channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.from_skip = nn.Conv2d(skip_channels, hidden_channels, kernel_size=1)
        self.from_gate = nn.Conv2d(gate_channels, hidden_channels, kernel_size=1)
        self.to_weight = nn.Conv2d(hidden_channels, 1, kernel_size=1)

    def forward(self, skip: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gated skip and the coefficients it was scaled by."""
        hidden = torch.relu(self.from_skip(skip) + self.from_gate(gate))
        coefficients = torch.sigmoid(self.to_weight(hidden))
        return skip * coefficients, coefficients
