"""The three chains that a radiograph goes through: for training, for evaluation and for inference."""

from collections.abc import Sequence
from typing import Any

from monai.transforms import Compose, EnsureTyped, NormalizeIntensityd, ScaleIntensityRanged

from pneumoseg.transforms.augmentation import DEFAULT_AUGMENTATIONS, Augmentation
from pneumoseg.transforms.geometry import ToNetworkSized
from pneumoseg.transforms.labelling import DecodeRLEd
from pneumoseg.transforms.loading import LoadRadiographd
from pneumoseg.transforms.radiograph import Gates
from pneumoseg.transforms.reasons import RadiographError
from pneumoseg.transforms.rle import RLEError

__all__ = ["cache_chain", "evaluation_chain", "inference_chain", "standardize", "training_chain"]


class _Chain(Compose):
    """A `Compose` that hands on why a file or a label cannot be used; MONAI's says which transform failed."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().__call__(*args, **kwargs)
        except RuntimeError as error:
            if isinstance(error.__cause__, RadiographError | RLEError):
                raise error.__cause__ from None
            raise


def inference_chain(*, image_size: int, gates: Gates | None = None) -> Compose:
    """A file to what the network sees.

    Expects ``image``: a path, or a `Radiograph` that has been read. Gives ``image``: float32, shape
    ``(1, image_size, image_size)``, and beside it what the file says of itself (``shape``, ``spacing_mm``, ...).
    """
    return _Chain(
        [
            LoadRadiographd("image", gates=gates or Gates()),
            ToNetworkSized("image", size=image_size),
            standardize(),
        ]
    )


def evaluation_chain(*, image_size: int, gates: Gates | None = None) -> Compose:
    """A case to what the network sees and should answer.

    Expects ``image``: a path or a `Radiograph`, and ``label``: run-length strings. Gives both as float32 of shape
    ``(1, image_size, image_size)``; the label holds the share of each pixel that is pneumothorax.
    """
    return _Chain([*cache_chain(image_size=image_size, gates=gates).transforms, standardize()])


def cache_chain(*, image_size: int, gates: Gates | None = None) -> Compose:
    """The part of the evaluation chain that is worth doing once: its image still has values in [0, 1]."""
    return _Chain(
        [
            LoadRadiographd("image", gates=gates or Gates()),
            DecodeRLEd("label", shape_key="shape"),
            ToNetworkSized(("image", "label"), size=image_size),
        ]
    )


def standardize() -> Compose:
    """The last step before the network: each image to mean 0 and standard deviation 1, as a plain tensor.

    Without any normalisation inside, the network learns several times faster from centred images, and the
    exposure of a radiograph means nothing.
    """
    return Compose([NormalizeIntensityd("image"), EnsureTyped("image", track_meta=False)])


def training_chain(
    *, image_size: int, augmentations: Sequence[Augmentation] = DEFAULT_AUGMENTATIONS
) -> Compose:
    """The augmentation of a case that has the network's size already.

    Expects ``image`` and ``label`` as `cache_chain` gives them, and gives them as `evaluation_chain` does.
    """
    return Compose(
        [
            *(augmentation.make(image_size) for augmentation in augmentations),
            ScaleIntensityRanged(("image", "label"), a_min=0, a_max=1, b_min=0, b_max=1, clip=True),
            standardize(),
        ]
    )
