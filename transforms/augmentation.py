"""Augmentations by name: their configuration, how each is sampled for an image, and how a batch is changed by it.

Each augmentation is sampled for each image with its own probability; geometric ones transform image and label together.
The defaults are those of the challenge's winners. Lengths are shares of the image's side, so that a configuration has
the same effect at every resolution. Greys lie in [0, 1]; the image is standardised afterwards. `Augmenter`
applies them.
"""

from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from numpy.random import Generator
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from pneumoseg.transforms.grey_changes import (
    add_noise,
    adjust_contrast,
    adjust_gamma,
    blacken,
    blur,
    equalize,
)
from pneumoseg.transforms.warping import sample_affine, sample_elastic, sample_grid, warp

Floats = npt.NDArray[np.float64]

Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_KEYS = 2**24


class _Augmentation(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    moves_pixels: ClassVar[bool] = False
    """Whether the augmentation changes the geometry, and thus the label."""
    name: str
    prob: Share = 0.5
    """Probability of applying the augmentation to an image."""

    def sample(self, random: Generator, size: int) -> Floats:
        """Sample the strength for one image.

        Args:
            random: Source of randomness.
            size: Side of the image in pixels.

        Returns: As many numbers for each image of a size; none above 2**24, so that float32 represents whole ones.
        """
        raise NotImplementedError

    def apply(self, images: Tensor, strength: Tensor) -> Tensor:
        """Change a batch.

        Args:
            images: Shape ``(batch, channels, rows, columns)``; the label is the second channel where geometry changes.
            strength: What `sample` returned for each image, shape ``(batch, n)``.
        """
        raise NotImplementedError


class Flip(_Augmentation):
    """Horizontal flip; a mirrored chest is rare but possible, and a pneumothorax looks the same."""

    moves_pixels: ClassVar[bool] = True
    name: Literal["flip"] = "flip"

    def sample(self, random: Generator, size: int) -> Floats:  # noqa: ARG002
        """Sample for one image; see the base class."""
        return np.empty(0)

    def apply(self, images: Tensor, strength: Tensor) -> Tensor:  # noqa: ARG002
        """Change a batch; see the base class."""
        return images.flip(3)


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

    def sample(self, random: Generator, size: int) -> Floats:
        """Sample for one image; see the base class."""
        shift = self.shift * size
        return sample_affine(random, shift=shift, scale=self.scale, degrees=self.degrees, size=size)

    def apply(self, images: Tensor, strength: Tensor) -> Tensor:
        """Change a batch; see the base class."""
        return warp(images, strength.view(-1, 2, 2, 2), border=self.border)


class _Warp(_Augmentation):
    """Base of warps by as many control points along both axes."""

    moves_pixels: ClassVar[bool] = True

    def apply(self, images: Tensor, strength: Tensor) -> Tensor:
        """Change a batch; see the base class."""
        points = round((strength.shape[1] // 2) ** 0.5)
        return warp(images, strength.view(-1, 2, points, points))


class Grid(_Warp):
    """Grid distortion: resize the columns and rows of a grid of five by five cells."""

    name: Literal["grid"] = "grid"
    limit: Annotated[float, Field(ge=0, lt=1)] = 0.12
    """Largest relative change of the width or height of a cell."""

    def sample(self, random: Generator, size: int) -> Floats:
        """Sample for one image; see the base class."""
        return sample_grid(random, limit=self.limit, size=size)


class Elastic(_Warp):
    """Elastic deformation by a smooth random displacement field."""

    name: Literal["elastic"] = "elastic"
    spacing: Annotated[float, Field(gt=0, le=1)] = 0.12
    """Distance between the control points, as a share of the side."""
    shift: Share = 0.01
    """Largest standard deviation of their displacement, as a share of the side."""

    def sample(self, random: Generator, size: int) -> Floats:
        """Sample for one image; see the base class."""
        return sample_elastic(random, spacing=self.spacing, std=self.shift * size)


class Gamma(_Augmentation):
    """Gamma curve, as by another film or detector."""

    name: Literal["gamma"] = "gamma"
    low: Annotated[float, Field(gt=0)] = 0.7
    """Smallest exponent."""
    high: Annotated[float, Field(gt=0)] = 1.4
    """Largest exponent."""

    def sample(self, random: Generator, size: int) -> Floats:  # noqa: ARG002
        """Sample for one image; see the base class."""
        return random.uniform(self.low, self.high, 1)

    def apply(self, images: Tensor, strength: Tensor) -> Tensor:
        """Change a batch; see the base class."""
        return adjust_gamma(images, strength)


class Contrast(_Augmentation):
    """Contrast: scale the distances of grey values from their mean."""

    name: Literal["contrast"] = "contrast"
    factor: Share = 0.2
    """Largest change."""

    def sample(self, random: Generator, size: int) -> Floats:  # noqa: ARG002
        """Sample for one image; see the base class."""
        return random.uniform(-self.factor, self.factor, 1)

    def apply(self, images: Tensor, strength: Tensor) -> Tensor:
        """Change a batch; see the base class."""
        return adjust_contrast(images, strength)


class Brightness(_Augmentation):
    """Brightness: add a constant to all grey values."""

    name: Literal["brightness"] = "brightness"
    offset: Share = 0.1
    """Largest change; 1 is from black to white."""

    def sample(self, random: Generator, size: int) -> Floats:  # noqa: ARG002
        """Sample for one image; see the base class."""
        return random.uniform(-self.offset, self.offset, 1)

    def apply(self, images: Tensor, strength: Tensor) -> Tensor:
        """Change a batch; see the base class."""
        return images + strength.view(-1, 1, 1, 1)


class Noise(_Augmentation):
    """Gaussian noise, as by a lower dose."""

    name: Literal["noise"] = "noise"
    std: Amount = 0.03
    """Largest standard deviation; 1 is from black to white."""

    def sample(self, random: Generator, size: int) -> Floats:  # noqa: ARG002
        """Sample for one image; see the base class."""
        return np.array([random.uniform(0, self.std), random.integers(_KEYS)])

    def apply(self, images: Tensor, strength: Tensor) -> Tensor:
        """Change a batch; see the base class."""
        return add_noise(images, strength[:, 0], strength[:, 1])


class Blur(_Augmentation):
    """Gaussian blur, as by motion."""

    name: Literal["blur"] = "blur"
    low: Amount = 0.3
    """Smallest standard deviation, in pixels of the network's input."""
    high: Amount = 1.0
    """Largest standard deviation, in pixels of the network's input."""

    def sample(self, random: Generator, size: int) -> Floats:  # noqa: ARG002
        """Sample for one image; see the base class."""
        return random.uniform(self.low, self.high, 2)

    def apply(self, images: Tensor, strength: Tensor) -> Tensor:
        """Change a batch; see the base class."""
        return blur(images, strength, largest=max(self.low, self.high))


class CoarseDropout(_Augmentation):
    """Black squares, similar to electrodes, text, or a hand."""

    name: Literal["coarse-dropout"] = "coarse-dropout"
    holes: Annotated[int, Field(ge=1)] = 6
    """Largest number of squares."""
    side: Annotated[float, Field(gt=0, le=1)] = 0.125
    """Largest side of a square, as a share of the image's side; the smallest is half of it."""

    def sample(self, random: Generator, size: int) -> Floats:
        """Sample for one image; see the base class."""
        largest = max(1, round(self.side * size))
        boxes = np.zeros((self.holes, 4))
        count = random.integers(1, self.holes, endpoint=True)
        sides = random.integers(max(1, largest // 2), largest, (count, 2), endpoint=True)
        boxes[:count] = np.concatenate([random.integers(size - sides + 1), sides], axis=1)
        return boxes

    def apply(self, images: Tensor, strength: Tensor) -> Tensor:
        """Change a batch; see the base class."""
        return blacken(images, strength.view(-1, self.holes, 4))


class CLAHE(_Augmentation):
    """Contrast-limited adaptive histogram equalization, as in the enhancement of a workstation."""

    name: Literal["clahe"] = "clahe"
    clip_limit: Share = 0.02
    """Largest sampled clip limit; 1 does not limit the contrast."""

    def sample(self, random: Generator, size: int) -> Floats:  # noqa: ARG002
        """Sample for one image; see the base class."""
        return random.uniform(0, self.clip_limit, 1)

    def apply(self, images: Tensor, strength: Tensor) -> Tensor:
        """Change a batch; see the base class."""
        return equalize(images, strength[:, 0])


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
