"""Random crops of training images, for less computation at a resolution that shows a small pneumothorax."""

from collections.abc import Hashable, Mapping
from typing import Any, Final

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection
from monai.transforms.transform import MapTransform, Randomizable
from torch import Tensor

__all__ = ["RandCropd"]

_LABEL_PROB: Final = 0.5
_HALF_STEP: Final = 0.5 / 255  # half a grey level of the cache: a smaller value is a rounding error of a warp


class RandCropd(MapTransform, Randomizable):
    """Crop items at one random position, and update whether the crop shows a pneumothorax.

    Positions are uniform over the image. Half of the crops of a positive are uniform among those that contain a random
    pixel of its label, since uniform positions miss many small pneumothoraces at the edge of a lung.

    Args:
        keys: Items of shape ``(channels, side, side)``; the label is one of them.
        size: Side of the crop in pixels, at most that of the items.
        label_key: Item that holds the share of each pixel that is pneumothorax.
        positive_key: Item that is set to 0 where the crop shows none.
    """

    def __init__(
        self, keys: KeysCollection, *, size: int, label_key: str = "label", positive_key: str = "positive"
    ) -> None:
        super().__init__(keys)
        self.size = size
        self.label_key = label_key
        self.positive_key = positive_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Crop each of `keys` in a copy of *data*."""
        sample = dict(data)
        top, left = self._position(torch.as_tensor(sample[self.label_key])[0])
        for key in self.key_iterator(sample):
            sample[key] = sample[key][..., top : top + self.size, left : left + self.size]
        shown = bool((sample[self.label_key] > _HALF_STEP).any())
        sample[self.positive_key] = sample[self.positive_key] * shown
        return sample

    def _position(self, label: Tensor) -> tuple[int, int]:
        """Sample the first row and the first column of the crop."""
        last = label.shape[0] - self.size
        inside = (
            np.argwhere(label.numpy() > _HALF_STEP) if self.R.random() < _LABEL_PROB else np.empty((0, 2))
        )
        if not len(inside):
            return self.R.randint(last + 1), self.R.randint(last + 1)
        row, column = (
            self.R.randint(max(0, at - self.size + 1), min(at, last) + 1)
            for at in inside[self.R.randint(len(inside))]
        )
        return row, column
