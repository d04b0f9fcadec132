"""Transform chains for training, evaluation and inference."""

from collections.abc import Sequence
from typing import Any

from monai.transforms import Compose

from pneumoseg.transforms.augmentation import DEFAULT_AUGMENTATIONS, Augmentation
from pneumoseg.transforms.augmenter import Augmenter, RandAugmentd
from pneumoseg.transforms.labels.rle import RLEError
from pneumoseg.transforms.loading import LoadRadiographd
from pneumoseg.transforms.reader.radiograph import AcceptanceFilters
from pneumoseg.transforms.reader.reasons import RadiographError
from pneumoseg.transforms.square_input import StandardizeImage, ToNetworkSized
from pneumoseg.transforms.stored_pixels import DecodeRLEd


class _Chain(Compose):
    """`Compose` that raises the errors of file and label; MONAI's raises which transform failed instead."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().__call__(*args, **kwargs)
        except RuntimeError as error:
            if isinstance(error.__cause__, RadiographError | RLEError):
                raise error.__cause__ from None
            raise


def inference_chain(*, image_size: int, acceptance: AcceptanceFilters | None = None) -> Compose:
    """Make the chain from a file to the input of the network.

    The input has the item ``image``: a path, or a `Radiograph`. The output has ``image``: float32, shape
    ``(1, image_size, image_size)``, standardised; ``content``: boolean of the same shape, False for padding; and the
    metadata of the file (``shape``, ``spacing_mm``, ...).

    Args:
        image_size: Side of the network's input in pixels.
        acceptance: Which files are accepted as frontal chest radiographs.

    Raises: RadiographError: If a file cannot be read or is not accepted, when the chain is called.
    """
    return _Chain(
        [
            LoadRadiographd("image", acceptance=acceptance or AcceptanceFilters(), size=image_size),
            StandardizeImage(),
        ]
    )


def evaluation_chain(*, image_size: int, acceptance: AcceptanceFilters | None = None) -> Compose:
    """Make the chain from a case to the input of the network and its label.

    The input has the items ``image``: a path or a `Radiograph`, and ``label``: run-length strings. The output has the
    items of `inference_chain`, and ``label``: float32, shape ``(1, image_size, image_size)``, the share of each pixel
    that is pneumothorax.

    Args:
        image_size: Side of the network's input in pixels.
        acceptance: Which files are accepted as frontal chest radiographs.

    Raises:
        RadiographError: If a file cannot be read or is not accepted, when the chain is called.
        RLEError: If a label is not valid or does not fit its image, likewise.
    """
    return _Chain([*cache_chain(image_size=image_size, acceptance=acceptance).transforms, StandardizeImage()])


def cache_chain(*, image_size: int, acceptance: AcceptanceFilters | None = None) -> Compose:
    """Make the part of the evaluation chain whose result is cached; its image has values in [0, 1].

    Args:
        image_size: Side of the network's input in pixels.
        acceptance: Which files are accepted as frontal chest radiographs.
    """
    return _Chain(
        [
            LoadRadiographd("image", acceptance=acceptance or AcceptanceFilters(), size=image_size),
            DecodeRLEd("label"),
            ToNetworkSized("label", size=image_size),
        ]
    )


def training_chain(
    *,
    image_size: int,
    crop: int | None = None,
    augmentations: Sequence[Augmentation] = DEFAULT_AUGMENTATIONS,
) -> Compose:
    """Make the augmentation of a cached case.

    The input has the items ``image`` and ``label`` of `cache_chain`, and ``shape``, the original ``(rows, columns)``;
    with *crop* also ``positive``, which is set to 0 where the crop shows no pneumothorax. The output has ``image`` and
    ``label`` as in `evaluation_chain`, but see `Augmenter` for the standardisation.

    Args:
        image_size: Side of the cached images in pixels.
        crop: Side of a random square crop in pixels; None keeps the whole image.
        augmentations: Augmentations in the order of their application.
    """
    return Compose([RandAugmentd(Augmenter(augmentations, image_size=image_size, crop=crop))])
