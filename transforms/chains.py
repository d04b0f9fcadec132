"""The three chains that a radiograph goes through: for training, for evaluation and for inference."""

import math

from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAffined,
    RandCoarseDropoutd,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandGridDistortiond,
    RandScaleIntensityFixedMeand,
    RandShiftIntensityd,
    ScaleIntensityRanged,
)

from pneumoseg.transforms.geometry import ToNetworkSized
from pneumoseg.transforms.labelling import DecodeRLEd
from pneumoseg.transforms.loading import LoadRadiographd
from pneumoseg.transforms.radiograph import Gates

__all__ = ["evaluation_chain", "inference_chain", "training_chain"]


def inference_chain(*, image_size: int, gates: Gates | None = None) -> Compose:
    """A file to what the network sees.

    Expects ``image``: a path. Gives ``image``: float32, shape ``(1, image_size, image_size)``, values in
    [0, 1], and beside it what the file says of itself (``shape``, ``spacing_mm``, ...).
    """
    return Compose(
        [
            LoadRadiographd("image", gates=gates or Gates()),
            ToNetworkSized("image", size=image_size),
        ]
    )


def evaluation_chain(*, image_size: int, gates: Gates | None = None) -> Compose:
    """A case to what the network sees and should answer.

    Expects ``image``: a path, and ``label``: run-length strings. Gives both as float32 of shape
    ``(1, image_size, image_size)``; the label holds the share of each pixel that is pneumothorax.
    """
    return Compose(
        [
            LoadRadiographd("image", gates=gates or Gates()),
            DecodeRLEd("label", shape_key="shape"),
            ToNetworkSized(("image", "label"), size=image_size),
        ]
    )


def training_chain(*, image_size: int) -> Compose:
    """The augmentation of a case that has the network's size already, after the winners of the challenge.

    Expects and gives ``image`` and ``label``: float32, shape ``(1, image_size, image_size)``, in [0, 1].
    A mirrored chest is a rare but possible one, and the pneumothorax does not mind.
    """
    both = ("image", "label")
    linear = ("bilinear", "bilinear")
    hole = max(1, image_size // 16)
    return Compose(
        [
            RandFlipd(both, prob=0.5, spatial_axis=1),
            RandAffined(
                both,
                prob=0.7,
                rotate_range=math.radians(12),
                translate_range=0.06 * image_size,
                scale_range=0.12,
                mode=linear,
                padding_mode="zeros",
            ),
            RandGridDistortiond(both, prob=0.15, distort_limit=0.12, mode="bilinear", padding_mode="zeros"),
            RandAdjustContrastd("image", prob=0.5, gamma=(0.7, 1.4)),
            RandScaleIntensityFixedMeand("image", prob=0.3, factors=0.2),
            RandShiftIntensityd("image", prob=0.3, offsets=0.1),
            RandGaussianNoised("image", prob=0.2, std=0.03),
            RandGaussianSmoothd("image", prob=0.1, sigma_x=(0.3, 1.0), sigma_y=(0.3, 1.0)),
            RandCoarseDropoutd(
                "image",
                prob=0.1,
                holes=1,
                max_holes=6,
                spatial_size=hole,
                max_spatial_size=2 * hole,
                fill_value=0,
            ),
            ScaleIntensityRanged(both, a_min=0, a_max=1, b_min=0, b_max=1, clip=True),
        ]
    )
