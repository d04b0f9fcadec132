"""Random crops of training images, for less computation at a resolution that shows a small pneumothorax."""

from typing import Final

import torch
from torch import Tensor

_LABEL_SHARE: Final = 0.5
_HALF_STEP: Final = 0.5 / 255  # half a grey level of the cache: a smaller value is a rounding error of a warp


def crop(
    images: Tensor, labels: Tensor, positive: Tensor, uniform: Tensor, *, size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Crop each image of a batch and its label at a random position.

    Positions are uniform over the image. Half of the crops of a positive are uniform among those that contain a random
    pixel of its label, since uniform positions miss many small pneumothoraces at the edge of a lung. Nothing is read by
    the host, so that a GPU is not waited for.

    Args:
        images: Shape ``(batch, 1, side, side)``.
        labels: Share of each pixel that is pneumothorax, of the same shape.
        positive: 1 for images with a pneumothorax, else 0, shape ``(batch,)``.
        uniform: Four random numbers from 0 to 1 for each image, shape ``(batch, 4)``.
        size: Side of the crops in pixels, at most that of the images.

    Returns: Crops of the images and of the labels, and *positive*, 0 where a crop shows no pneumothorax.
    """
    side = images.shape[-1]
    inside = labels[:, 0] > _HALF_STEP
    counts = inside.sum(dim=2).cumsum(dim=1)  # pixels of the label down to each row
    total = counts[:, -1:]
    chosen = (uniform[:, 1:2] * total).long().clamp(max=(total - 1).clamp(min=0))
    row = (counts <= chosen).sum(dim=1, keepdim=True).clamp(max=side - 1)
    of_row = inside.gather(1, row[..., None].expand(-1, -1, side))[:, 0].cumsum(dim=1)
    before = counts.gather(1, row) - of_row[:, -1:]
    column = (of_row <= chosen - before).sum(dim=1, keepdim=True).clamp(max=side - 1)

    last = side - size
    place = torch.cat([row, column], dim=1)
    near = (total > 0) & (uniform[:, :1] < _LABEL_SHARE)
    lowest = torch.where(near, (place - size + 1).clamp(min=0), 0)
    highest = torch.where(near, place.clamp(max=last), last)
    first = (lowest + uniform[:, 2:] * (highest - lowest + 1)).long().clamp(max=highest)

    window = torch.arange(size, device=images.device)
    images, labels = (
        torch.stack(
            [
                image.index_select(1, at[0] + window).index_select(2, at[1] + window)
                for image, at in zip(each, first, strict=True)
            ]
        )
        for each in (images, labels)
    )
    return images, labels, positive * (labels > _HALF_STEP).flatten(1).any(dim=1)
