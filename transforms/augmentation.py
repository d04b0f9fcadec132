"""Augmentations by name: their configuration, and the transforms that apply them.

Each augmentation is sampled for each image with its own probability; geometric ones transform image and label together.
The defaults are those of the challenge's winners. Lengths are shares of the image's side, so that a configuration has
the same effect at every resolution. Greys lie in [0, 1]; the image is standardised afterwards.

MONAI is imported where a transform is made: every command reads configurations, and importing MONAI takes seconds.
"""

from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from monai.transforms import Transform

__all__ = ["DEFAULT_AUGMENTATIONS", "Augmentation"]

_IMAGE, _BOTH = "image", ("image", "label")

Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Augmentation(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    moves_pixels: ClassVar[bool] = False
    """Whether the augmentation changes the geometry, and thus the label."""
    name: str
    prob: Share = 0.5
    """Probability of applying the augmentation to an image."""


class Flip(_Augmentation):
    """Horizontal flip; a mirrored chest is rare but possible, and a pneumothorax looks the same."""

    moves_pixels: ClassVar[bool] = True
    name: Literal["flip"] = "flip"

    def make(self, image_size: int) -> "Transform":  # noqa: ARG002
        """Make the transform."""
        from monai.transforms import RandFlipd

        return RandFlipd(_BOTH, prob=self.prob, spatial_axis=1)


class ShiftScaleRotate(_Augmentation):
    """Shift, scale and rotation, as by another position of the patient."""

    moves_pixels: ClassVar[bool] = True
    name: Literal["shift-scale-rotate"] = "shift-scale-rotate"
    shift: Share = 0.06
    """Largest shift along each axis, as a share of the side."""
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.12
    """Largest relative change of size, along each axis by itself."""
    degrees: Annotated[float, Field(ge=0, le=180)] = 12
    """Largest rotation."""
    border: Literal["zeros", "border", "reflection"] = "zeros"
    """Fill of the pixels outside of the original image."""

    def make(self, image_size: int) -> "Transform":
        """Make the transform."""
        from pneumoseg.transforms.warping import RandWarpd, sample_affine

        sample = partial(
            sample_affine,
            shift=self.shift * image_size,
            scale=self.scale,
            degrees=self.degrees,
            size=image_size,
        )
        return RandWarpd(_BOTH, prob=self.prob, sample_control=sample, border=self.border)


class Grid(_Augmentation):
    """Grid distortion: resize the columns and rows of a grid of five by five cells."""

    moves_pixels: ClassVar[bool] = True
    name: Literal["grid"] = "grid"
    limit: Annotated[float, Field(ge=0, lt=1)] = 0.12
    """Largest relative change of the width or height of a cell."""

    def make(self, image_size: int) -> "Transform":
        """Make the transform."""
        from pneumoseg.transforms.warping import RandWarpd, sample_grid

        sample = partial(sample_grid, limit=self.limit, size=image_size)
        return RandWarpd(_BOTH, prob=self.prob, sample_control=sample)


class Elastic(_Augmentation):
    """Elastic deformation by a smooth random displacement field."""

    moves_pixels: ClassVar[bool] = True
    name: Literal["elastic"] = "elastic"
    spacing: Annotated[float, Field(gt=0, le=1)] = 0.12
    """Distance between the control points, as a share of the side."""
    shift: Share = 0.01
    """Largest standard deviation of their displacement, as a share of the side."""

    def make(self, image_size: int) -> "Transform":
        """Make the transform."""
        from pneumoseg.transforms.warping import RandWarpd, sample_elastic

        sample = partial(sample_elastic, spacing=self.spacing, std=self.shift * image_size)
        return RandWarpd(_BOTH, prob=self.prob, sample_control=sample)


class Gamma(_Augmentation):
    """Gamma curve, as by another film or detector."""

    name: Literal["gamma"] = "gamma"
    low: Annotated[float, Field(gt=0)] = 0.7
    """Smallest exponent."""
    high: Annotated[float, Field(gt=0)] = 1.4
    """Largest exponent."""

    def make(self, image_size: int) -> "Transform":  # noqa: ARG002
        """Make the transform."""
        from monai.transforms import RandAdjustContrastd

        return RandAdjustContrastd(_IMAGE, prob=self.prob, gamma=(self.low, self.high))


class Contrast(_Augmentation):
    """Contrast: scale the distances of greys from their mean."""

    name: Literal["contrast"] = "contrast"
    factor: Share = 0.2
    """Largest change."""

    def make(self, image_size: int) -> "Transform":  # noqa: ARG002
        """Make the transform."""
        from monai.transforms import RandScaleIntensityFixedMeand

        return RandScaleIntensityFixedMeand(_IMAGE, prob=self.prob, factors=self.factor)


class Brightness(_Augmentation):
    """Brightness: add a constant to all greys."""

    name: Literal["brightness"] = "brightness"
    offset: Share = 0.1
    """Largest change; 1 is from black to white."""

    def make(self, image_size: int) -> "Transform":  # noqa: ARG002
        """Make the transform."""
        from monai.transforms import RandShiftIntensityd

        return RandShiftIntensityd(_IMAGE, prob=self.prob, offsets=self.offset)


class Noise(_Augmentation):
    """Gaussian noise, as by a lower dose."""

    name: Literal["noise"] = "noise"
    std: Amount = 0.03
    """Largest standard deviation; 1 is from black to white."""

    def make(self, image_size: int) -> "Transform":  # noqa: ARG002
        """Make the transform."""
        from monai.transforms import RandGaussianNoised

        return RandGaussianNoised(_IMAGE, prob=self.prob, std=self.std)


class Blur(_Augmentation):
    """Gaussian blur, as by motion."""

    name: Literal["blur"] = "blur"
    low: Amount = 0.3
    """Smallest standard deviation, in pixels of the network's input."""
    high: Amount = 1.0
    """Largest standard deviation, in pixels of the network's input."""

    def make(self, image_size: int) -> "Transform":  # noqa: ARG002
        """Make the transform."""
        from monai.transforms import RandGaussianSmoothd

        sigma = (self.low, self.high)
        return RandGaussianSmoothd(_IMAGE, prob=self.prob, sigma_x=sigma, sigma_y=sigma)


class CoarseDropout(_Augmentation):
    """Black squares, similar to electrodes, text, or a hand."""

    name: Literal["coarse-dropout"] = "coarse-dropout"
    holes: Annotated[int, Field(ge=1)] = 6
    """Largest number of squares."""
    side: Annotated[float, Field(gt=0, le=1)] = 0.125
    """Largest side of a square, as a share of the image's side; the smallest is half of it."""

    def make(self, image_size: int) -> "Transform":
        """Make the transform."""
        from monai.transforms import RandCoarseDropoutd

        largest = max(1, round(self.side * image_size))
        return RandCoarseDropoutd(
            _IMAGE,
            prob=self.prob,
            holes=1,
            max_holes=self.holes,
            spatial_size=max(1, largest // 2),
            max_spatial_size=largest,
            fill_value=0,
        )


class CLAHE(_Augmentation):
    """Contrast-limited adaptive histogram equalization, as in the enhancement of a workstation."""

    name: Literal["clahe"] = "clahe"
    clip_limit: Share = 0.02
    """Largest sampled clip limit; 1 does not limit the contrast."""

    def make(self, image_size: int) -> "Transform":  # noqa: ARG002
        """Make the transform."""
        from pneumoseg.transforms.equalization import RandCLAHEd

        return RandCLAHEd(_IMAGE, prob=self.prob, clip_limit=self.clip_limit)


Augmentation = Annotated[
    Flip
    | ShiftScaleRotate
    | Grid
    | Elastic
    | Gamma
    | Contrast
    | Brightness
    | Noise
    | Blur
    | CoarseDropout
    | CLAHE,
    Field(discriminator="name"),
]
"""Configuration of one augmentation; in YAML a mapping with ``name``, ``prob`` and its own parameters."""

DEFAULT_AUGMENTATIONS: tuple[Augmentation, ...] = (
    Flip(prob=0.5),
    ShiftScaleRotate(prob=0.7),
    Grid(prob=0.15),
    Gamma(prob=0.5),
    Contrast(prob=0.3),
    Brightness(prob=0.3),
    Noise(prob=0.2),
    Blur(prob=0.1),
    CoarseDropout(prob=0.1),
)
