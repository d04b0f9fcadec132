"""Several networks that answer as one."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

SMALLEST: Final = 1e-7  # a probability nearer to 0 or 1 has no logit in float32


class Ensemble(nn.Module):
    """The mean of the members' probabilities, as the logits that it stands for.

    Args:
        members: Called one after the other; no more than one map of each is held.

    Shape:
        image: (B, C, H, W), as the members take it
        returns: (B, classes, H, W), logits in float32
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of the mean probability."""
        total = torch.zeros(())
        for number, member in enumerate(self.members):
            probabilities = torch.sigmoid(member(image).float())
            total = probabilities if number == 0 else total + probabilities
        return torch.logit(total / len(self.members), eps=SMALLEST)

    def attention(self, image: Tensor) -> list[Tensor]:
        """Return the means of the members' gate maps, deepest first."""
        maps = [member.attention(image) for member in self.members]  # type: ignore[operator]
        return [torch.stack(gate).mean(0) for gate in zip(*maps, strict=True)]
