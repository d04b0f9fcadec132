"""Operating point as a dictionary transform: the output of a whole model to a mask."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config.type_definitions import KeysCollection
from monai.transforms.transform import MapTransform

from pneumoseg.transforms.masks import OperatingPoint, to_mask
from pneumoseg.transforms.network_input import to_original_size
from pneumoseg.transforms.reader.record import Orientation, read_directions


class ApplyOperatingPointd(MapTransform):
    """Replace outputs of a model by masks of zeros and ones of the size of their images, and add ``probability``.

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
        super().__init__(keys)
        self.point = OperatingPoint(
            threshold=threshold,
            min_area_fraction=min_area_fraction,
            segmentation_threshold=segmentation_threshold,
            image_threshold=image_threshold,
        )
        self.as_stored = as_stored
        self.shape_key = shape_key
        self.orientation_key = orientation_key
        self.probability_key = probability_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Apply the operating point to each of `keys` in a copy of *data*."""
        sample = dict(data)
        rows, columns = (int(side) for side in sample[self.shape_key])
        orientation = Orientation()
        if self.as_stored:
            orientation = Orientation.of(read_directions(sample[self.orientation_key]))
        for key in self.key_iterator(sample):
            output = torch.as_tensor(sample[key]).cpu()
            probability = float(output[1, 0, 0])
            probabilities = to_original_size(output[:1], orientation.swap((rows, columns)), orientation)
            mask = to_mask(probabilities[0].numpy(), self.point, probability)
            sample[key] = torch.from_numpy(mask)[None]
            sample[self.probability_key] = probability
        return sample
