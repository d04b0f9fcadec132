"""The probability of an image as a whole where the network has no image head."""

from typing import Final

import torch
from torch import Tensor

TOP_SHARE: Final = 1000
"""One in so many pixels is averaged: the largest 0.1 %."""


def top_mean(probabilities: Tensor, own: Tensor) -> Tensor:
    """Average the largest 0.1 %, at least one, of the image's own pixels.

    Args:
        probabilities: (B, 1, H, W), in [0, 1].
        own: (B, H, W), True for the pixels that are not padding: see `own_pixels`.

    Returns: (B,), float32. The result of an image does not depend on the rest of the batch.
    """
    candidates = probabilities[:, 0].masked_fill(~own, 0.0).flatten(1)
    count = (own.flatten(1).sum(dim=1) // TOP_SHARE).clamp(min=1)
    largest = candidates.topk(max(1, candidates.shape[1] // TOP_SHARE), dim=1).values.double()
    taken = torch.arange(largest.shape[1], device=largest.device) < count[:, None]
    return (largest.where(taken, 0.0).sum(dim=1) / count).float()


def own_pixels(images: Tensor, content_px: Tensor | None) -> Tensor:
    """Mark the pixels of the placement window, which `to_network_size` centres in the padded square.

    A number of pixels does not say whether the padding lies above and below or on both sides. But padding is
    constant, so that the other direction is taken where the pixels that would be padding are not.

    Args:
        images: (B, C, H, W), as the network takes them.
        content_px: (B,), pixels of the placement window; None stands for images without padding.

    Returns: (B, H, W), boolean.
    """
    rows, columns = images.shape[-2:]
    if content_px is None:
        return images.new_ones((len(images), rows, columns), dtype=torch.bool)
    content_px = content_px.to(images.device)
    in_rows = _centred(rows, content_px // columns)[:, :, None].expand(-1, -1, columns)
    in_columns = _centred(columns, content_px // rows)[:, None, :].expand(-1, rows, -1)
    is_constant = images[:, 0] == images[:, 0, -1:, -1:]
    pads_rows = (in_rows | is_constant).flatten(1).all(dim=1)
    return torch.where(pads_rows[:, None, None], in_rows, in_columns)


def _centred(length: int, count: Tensor) -> Tensor:
    """Mark *count* (B,) positions in the middle of *length*, as `Placement` places them: (B, length)."""
    first = (length - count) // 2
    position = torch.arange(length, device=count.device)
    return (position >= first[:, None]) & (position < (first + count)[:, None])
