"""The three chains that a radiograph goes through: for training, for evaluation and for inference."""

from collections.abc import Sequence
from typing import Any

from monai.transforms import Compose, EnsureTyped, ScaleIntensityRanged

from pneumoseg.transforms.augmentation import DEFAULT_AUGMENTATIONS, Augmentation
from pneumoseg.transforms.cropping import RandCropd
from pneumoseg.transforms.geometry import ToNetworkSized
from pneumoseg.transforms.labels.rle import RLEError
from pneumoseg.transforms.loading import LoadRadiographd
from pneumoseg.transforms.reader.radiograph import AcceptanceFilters
from pneumoseg.transforms.reader.reasons import RadiographError
from pneumoseg.transforms.rle_decoding import DecodeRLEd
from pneumoseg.transforms.standardization import MeasurePixelsd, StandardizePixelsd

__all__ = ["cache_chain", "evaluation_chain", "inference_chain", "standardization_chain", "training_chain"]


class _Chain(Compose):
    """A `Compose` that hands on why a file or a label cannot be used; MONAI's says which transform failed."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().__call__(*args, **kwargs)
        except RuntimeError as error:
            if isinstance(error.__cause__, RadiographError | RLEError):
                raise error.__cause__ from None
            raise


def inference_chain(*, image_size: int, acceptance: AcceptanceFilters | None = None) -> Compose:
    """Make the chain from a file to the input of the network.

    It expects ``image``: a path, or a `Radiograph` that has been read. It returns ``image``: float32, shape
    ``(1, image_size, image_size)``, standardised; ``content``: which pixels of that square are not padding;
    and the facts of the file (``shape``, ``spacing_mm``, ...).
    """
    return _Chain(
        [
            LoadRadiographd("image", acceptance=acceptance or AcceptanceFilters()),
            ToNetworkSized("image", size=image_size),
            standardization_chain(),
        ]
    )


def evaluation_chain(*, image_size: int, acceptance: AcceptanceFilters | None = None) -> Compose:
    """Make the chain from a case to the input of the network and its label.

    It expects ``image``: a path or a `Radiograph`, and ``label``: run-length strings. It returns what `inference_chain`
    does, and ``label``: float32, shape ``(1, image_size, image_size)``, the share of each pixel that is pneumothorax.
    """
    return _Chain(
        [*cache_chain(image_size=image_size, acceptance=acceptance).transforms, standardization_chain()]
    )


def cache_chain(*, image_size: int, acceptance: AcceptanceFilters | None = None) -> Compose:
    """Make the part of the evaluation chain whose result is cached: its image still has values in [0, 1]."""
    return _Chain(
        [
            LoadRadiographd("image", acceptance=acceptance or AcceptanceFilters()),
            DecodeRLEd("label", shape_key="shape"),
            ToNetworkSized(("image", "label"), size=image_size),
        ]
    )


def standardization_chain() -> Compose:
    """Make the last step before the network: standardise ``image`` with its own pixels, and write ``content``.

    It expects ``image``, shape ``(1, size, size)``, and ``shape``, the original ``(rows, columns)``. The exposure of a
    radiograph means nothing, and a network without normalisation learns several times faster from centred images.
    """
    return Compose([MeasurePixelsd("image"), StandardizePixelsd("image")])


def training_chain(
    *,
    image_size: int,
    crop: int | None = None,
    augmentations: Sequence[Augmentation] = DEFAULT_AUGMENTATIONS,
) -> Compose:
    """Make the augmentation of a case that has the network's size already.

    It expects ``image`` and ``label`` as `cache_chain` returns them and ``shape``, the original ``(rows, columns)``. It
    returns image and label as `evaluation_chain` does, but standardised with the statistics of the image before its
    augmentation: those of the augmented image would undo each change of brightness and contrast.

    With *crop*, image and label are random squares of that side, and ``positive``, which then has to be there, becomes
    0 where such a square shows no pneumothorax. They are cut after the last augmentation that moves pixels, so that
    what a rotation brings into view is the image and not black corners, and before the others, which costs less.
    """
    moving = [place for place, each in enumerate(augmentations, start=1) if each.moves_pixels]
    split = max(moving, default=0)
    return Compose(
        [
            MeasurePixelsd("image"),
            *(augmentation.make(image_size) for augmentation in augmentations[:split]),
            *([] if crop is None else [RandCropd(("image", "label"), size=crop)]),
            *(augmentation.make(crop or image_size) for augmentation in augmentations[split:]),
            ScaleIntensityRanged(("image", "label"), a_min=0, a_max=1, b_min=0, b_max=1, clip=True),
            EnsureTyped(("image", "label"), track_meta=False),
            StandardizePixelsd("image"),
        ]
    )
