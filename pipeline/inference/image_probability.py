"""Image probability of networks without an image head."""

from typing import Final

import torch
from torch import Tensor

TOP_SHARE: Final = 1000
"""One in so many pixels is averaged: the largest 0.1 %."""


def top_mean(probabilities: Tensor, own: Tensor) -> Tensor:
    """Average the largest 0.1 %, at least one, of the pixels that are not padding.

    Args:
        probabilities: (B, 1, H, W), in [0, 1].
        own: (B, 1, H, W), True for the pixels that are not padding.

    Returns: (B,), float32. The result of an image does not depend on the rest of the batch.
    """
    candidates = probabilities.masked_fill(~own, 0.0).flatten(1)
    count = (own.flatten(1).sum(dim=1) // TOP_SHARE).clamp(min=1)
    largest = candidates.topk(max(1, candidates.shape[1] // TOP_SHARE), dim=1).values.double()
    taken = torch.arange(largest.shape[1], device=largest.device) < count[:, None]
    return (largest.where(taken, 0.0).sum(dim=1) / count).float()
