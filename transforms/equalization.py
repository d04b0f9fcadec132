"""Dictionary transform for contrast-limited adaptive histogram equalization (CLAHE)."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from skimage.exposure import equalize_adapthist
from torch import Tensor

__all__ = ["RandCLAHEd"]


class RandCLAHEd(RandomizableTransform, MapTransform):
    """Apply scikit-image's CLAHE to images in [0, 1]; MONAI has no such transform.

    Args:
        keys: Items that hold images of shape ``(C, H, W)``.
        prob: Probability of applying the transform.
        clip_limit: Largest clip limit; each call samples one between 0 and this.
    """

    def __init__(self, keys: KeysCollection, *, prob: float, clip_limit: float) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.clip_limit = clip_limit

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Equalize each of `keys` in a copy of *data*, with the given probability."""
        self.randomize(None)
        if not self._do_transform:
            return dict(data)
        limit = self.R.uniform(0, self.clip_limit)
        return {**data, **{key: _equalize(data[key], limit) for key in self.key_iterator(data)}}


def _equalize(image: Tensor, limit: float) -> Tensor:
    channels = [equalize_adapthist(channel, clip_limit=limit) for channel in np.clip(image.numpy(), 0, 1)]
    return torch.from_numpy(np.stack(channels).astype(np.float32))
