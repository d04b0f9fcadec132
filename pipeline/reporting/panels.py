"""Small pictures of one case: radiograph, truth, prediction, probability, uncertainty and attention."""

import io
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from pneumoseg.pipeline.drawing.figures import LABEL_COLOUR
from pneumoseg.pipeline.drawing.pictures import heat, overlay
from pneumoseg.pipeline.reporting.content import Picture

SIDE_PX: Final = 400
"""Longer side of a panel; a report of fifteen cases stays small enough for e-mail."""
_QUALITY: Final = 85
_LEAST_SPREAD: Final = 0.02  # smallest range of the uncertainty that is stretched to the whole colour scale
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.uint8]


def case_panels(
    *,
    image: Floats,
    label: Mask | None,
    pred: Mask,
    probabilities: Floats,
    uncertainty: Floats | None,
    attention: Mapping[str, Floats],
) -> list[Picture]:
    """Render the pictures of a case.

    Args:
        image: Radiograph with values in [0, 1], shape ``(rows, columns)``.
        label: True mask of zeros and ones, of the same shape; None where it is unknown.
        pred: Predicted mask of zeros and ones, of the same shape.
        probabilities: Probability of each pixel, of the same shape.
        uncertainty: Standard deviation of each pixel's probability, of the same shape; None without dropout.
        attention: Coefficients of each gate by its name in the network, of the same shape.
    """
    small = np.clip(_shrink(image), 0, 1)
    panels = [("radiograph", overlay(small, np.zeros(small.shape, np.uint8)))]
    if label is not None:
        panels.append(("truth", overlay(small, _shrink_mask(label), colour=LABEL_COLOUR)))
    panels.append(("prediction", overlay(small, _shrink_mask(pred))))
    panels.append(("probability, 0 to 1", heat(small, _shrink(probabilities), limits=(0.0, 1.0))))
    if uncertainty is not None:
        spread = _shrink(uncertainty)
        most = max(float(spread.max()), _LEAST_SPREAD)
        panels.append((f"uncertainty, 0 to {most:.2f}", heat(small, spread, limits=(0.0, most))))
    panels += [(f"attention, {name}", heat(small, _shrink(gate))) for name, gate in attention.items()]
    return [Picture(name, jpeg_of(picture)) for name, picture in panels]


def jpeg_of(picture: npt.NDArray[np.uint8]) -> bytes:
    """Encode a picture as JPEG, with sides of at most `SIDE_PX`.

    Args:
        picture: Greys or RGB, shape ``(rows, columns)`` or ``(rows, columns, 3)``.
    """
    data = io.BytesIO()
    drawn = Image.fromarray(picture)
    drawn.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    drawn.save(data, "JPEG", quality=_QUALITY)
    return data.getvalue()


def _size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Compute width and height of a panel."""
    scale = min(1.0, SIDE_PX / max(shape))
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


def _shrink(map_: Floats) -> Floats:
    small = Image.fromarray(map_.astype(np.float32)).resize(_size(map_.shape), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)


def _shrink_mask(mask: Mask) -> Mask:
    """Shrink a mask; a pixel is set where at least half of its area is."""
    return (_shrink(mask.astype(np.float32)) >= 0.5).astype(np.uint8)
