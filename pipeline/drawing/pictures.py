"""Pictures of masks and maps over a radiograph."""

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image
from skimage.segmentation import find_boundaries

from pneumoseg.pipeline.core.files import written_atomically

OUTLINE: Final = (255, 176, 0)  # orange contrasts with grey, also for most colour-blind readers
FILL_OPACITY: Final = 0.18
HEAT_OPACITY: Final = 0.55


def overlay(
    image: npt.NDArray[np.float32],
    mask: npt.NDArray[np.uint8],
    *,
    colour: tuple[int, int, int] = OUTLINE,
) -> npt.NDArray[np.uint8]:
    """Render a mask over a radiograph as an outline and a transparent tint.

    Args:
        image: Radiograph with values in [0, 1], shape ``(rows, columns)``.
        mask: Mask of zeros and ones, of the same shape.
        colour: RGB colour of outline and tint.

    Returns: RGB picture, shape ``(rows, columns, 3)``.
    """
    picture = np.repeat(image[..., np.newaxis] * 255, 3, axis=2)
    if mask.any():
        inside = mask.astype(bool)
        picture[inside] += FILL_OPACITY * (np.asarray(colour) - picture[inside])
        width = max(1, round(max(image.shape) / 512))
        edge = find_boundaries(inside, mode="outer")
        for _ in range(width - 1):
            edge |= find_boundaries(edge | inside, mode="outer")
        picture[edge] = colour
    return picture.round().clip(0, 255).astype(np.uint8)


def heat(
    image: npt.NDArray[np.float32],
    map_: npt.NDArray[np.float32],
    *,
    limits: tuple[float, float] | None = None,
) -> npt.NDArray[np.uint8]:
    """Render a map over a radiograph: dark where it is low, yellow where it is high.

    Args:
        image: Radiograph with values in [0, 1], shape ``(rows, columns)``.
        map_: Map of the same shape.
        limits: Values of the darkest and the brightest colour. None stretches the range without the 2 % at each end,
            since single pixels at the border of an attention map are far outside of the range of the others.

    Returns: RGB picture, shape ``(rows, columns, 3)``.
    """
    from matplotlib import colormaps  # noqa: PLC0415  (only maps need it)

    low, high = limits or np.quantile(map_, (0.02, 0.98))
    stretched = np.clip((map_ - low) / max(float(high - low), 1e-6), 0, 1)
    colours = colormaps["inferno"](stretched)[..., :3]
    picture = image[..., np.newaxis] + HEAT_OPACITY * (colours - image[..., np.newaxis])
    bytes_: npt.NDArray[np.uint8] = (255 * picture).round().clip(0, 255).astype(np.uint8)
    return bytes_


def std_picture(std: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Convert standard deviations of probabilities to greys.

    Args:
        std: Standard deviation of each pixel, shape ``(rows, columns)``; 0 is black, and 0.5, the limit of the largest
            possible value, is white.

    Returns: Grey picture of the same shape.
    """
    return (510 * std).round().clip(0, 255).astype(np.uint8)


def save_png(path: Path, pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> None:
    """Write pixels as PNG.

    Args:
        path: Path of the file.
        pixels: Greys of 8 or 16 bits, shape ``(rows, columns)``, or RGB of 8 bits, shape ``(rows, columns, 3)``.
    """
    with written_atomically(path) as temporary:
        Image.fromarray(pixels).save(temporary, optimize=False)
