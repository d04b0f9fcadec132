"""Dictionary transforms between the stored pixels of a radiograph and the upright image."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection
from monai.transforms.transform import MapTransform

from pneumoseg.transforms.labels.rle import decode_rle
from pneumoseg.transforms.masks import OperatingPoint, to_mask
from pneumoseg.transforms.network_input import to_original_size
from pneumoseg.transforms.reader.record import Orientation, read_directions


class _OnStoredPixels(MapTransform):
    """Base of transforms that need the size and the orientation of the stored pixels."""

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

    def _stored(self, sample: Mapping[Hashable, Any]) -> tuple[tuple[int, int], Orientation]:
        """Return rows and columns of the stored pixels, and their orientation."""
        orientation = Orientation.of(read_directions(sample.get(self.orientation_key, "")))
        rows, columns = (int(side) for side in sample[self.shape_key])  # of the upright image
        return orientation.swap((rows, columns)), orientation


class DecodeRLEd(_OnStoredPixels):
    """Replace run-length texts by upright masks of zeros and ones, shape ``(1, rows, columns)``, uint8.

    Args:
        keys: Items that hold a run-length text, or the list of texts of an image (empty: no pneumothorax).
        shape_key: Item that holds the size of the upright image as ``(rows, columns)``.
        orientation_key: Item that holds the PatientOrientation of the stored pixels, to which the runs refer; without
            it they are assumed to be upright.
        allow_missing_keys: Whether an item may be absent.

    Raises:
        RLEError: If a text is not valid or does not fit the size, when the transform is called.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Decode each of `keys` in a copy of *data*."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            shape, orientation = self._stored(sample)
            stored = decode_rle(sample[key], shape)
            sample[key] = np.ascontiguousarray(orientation.apply(stored))[np.newaxis]
        return sample


class ToOriginalSized(_OnStoredPixels):
    """Resize predictions to the size of the original image, in the order of its stored pixels.

    The result is a float32 tensor of shape ``(channels, rows, columns)``.

    Args:
        keys: Items of shape ``(channels, size, size)``.
        shape_key: Item that holds the size of the upright image as ``(rows, columns)`` in pixels.
        orientation_key: Item that holds the PatientOrientation of the stored pixels; without it they are assumed to be
            upright.
        allow_missing_keys: Whether an item may be absent.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resize each of `keys` in a copy of *data*."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            shape, orientation = self._stored(sample)
            sample[key] = to_original_size(torch.as_tensor(sample[key]).float(), shape, orientation)
        return sample


class ApplyOperatingPointd(_OnStoredPixels):
    """Replace outputs of a model by masks of zeros and ones of the size of their images, and add ``probability``.

    A mask is a uint8 tensor of shape ``(1, rows, columns)``.

    Args:
        keys: Items of shape ``(2, size, size)``: the probability of each pixel, and the image probability, which is
            the same for all pixels.
        threshold: See `OperatingPoint`, like the next three arguments.
        min_area_fraction: Smallest share of the image.
        segmentation_threshold: Threshold of the mask's pixels; None stands for *threshold*.
        image_threshold: Threshold of the image probability.
        as_stored: Whether masks come in the order of the stored pixels; otherwise they are upright, as labels are.
        shape_key: Item that holds the size of the upright image as ``(rows, columns)`` in pixels.
        orientation_key: Item that holds the PatientOrientation of the stored pixels.
        probability_key: Item for the image probability, a float.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        threshold: float,
        min_area_fraction: float = 0.0,
        segmentation_threshold: float | None = None,
        image_threshold: float = 0.0,
        as_stored: bool = True,
        shape_key: str = "shape",
        orientation_key: str = "orientation",
        probability_key: str = "probability",
    ) -> None:
        super().__init__(keys, shape_key=shape_key, orientation_key=orientation_key)
        self.point = OperatingPoint(
            threshold=threshold,
            min_area_fraction=min_area_fraction,
            segmentation_threshold=segmentation_threshold,
            image_threshold=image_threshold,
        )
        self.as_stored = as_stored
        self.probability_key = probability_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Apply the operating point to each of `keys` in a copy of *data*."""
        sample = dict(data)
        shape, orientation = self._stored(sample)
        if not self.as_stored:
            shape, orientation = orientation.swap(shape), Orientation()
        for key in self.key_iterator(sample):
            output = torch.as_tensor(sample[key]).cpu()
            probability = float(output[1, 0, 0])
            probabilities = to_original_size(output[:1], shape, orientation)
            mask = to_mask(probabilities[0].numpy(), self.point, probability)
            sample[key] = torch.from_numpy(mask)[None]
            sample[self.probability_key] = probability
        return sample
