"""Decoder of run lengths as a MONAI dictionary transform."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config.type_definitions import KeysCollection
from monai.transforms.transform import MapTransform

from pneumoseg.transforms.labels.rle import decode_rle
from pneumoseg.transforms.reader.record import Orientation, read_directions


class DecodeRLEd(MapTransform):
    """Replace run-length texts by upright masks of zeros and ones, shape ``(1, rows, columns)``, uint8.

    Args:
        keys: Items that hold a run-length text, or the list of texts of an image (empty: no pneumothorax).
        shape_key: Item that holds the size of the upright image as ``(rows, columns)``.
        orientation_key: Item that holds the PatientOrientation of the stored pixels, to which the runs refer; without
            it they are assumed to be upright.
        allow_missing_keys: Whether an item may be absent.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        shape_key: str = "shape",
        orientation_key: str = "orientation",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.shape_key = shape_key
        self.orientation_key = orientation_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Decode each of `keys` in a copy of *data*."""
        sample = dict(data)
        orientation = Orientation.of(read_directions(sample.get(self.orientation_key, "")))
        for key in self.key_iterator(sample):
            stored = decode_rle(sample[key], orientation.swap(sample[self.shape_key]))
            sample[key] = np.ascontiguousarray(orientation.apply(stored))[np.newaxis]
        return sample
