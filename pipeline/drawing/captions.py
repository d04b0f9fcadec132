"""Text below a picture, in a strip of its own, so that no pixel of the picture is covered."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

_SMALLEST_FONT_PX: Final = 10  # smaller letters cannot be read
_LINE_HEIGHT: Final = 1.3  # in sizes of the font


def with_caption(picture: npt.NDArray[np.uint8], lines: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Append a black strip with white text below a picture; long lines are wrapped.

    The font grows with the picture, since a viewer shrinks the whole to the size of its window.

    Args:
        picture: RGB picture, shape ``(rows, columns, 3)``.
        lines: Lines of text.

    Returns: The picture with the strip, shape ``(rows + height of the strip, columns, 3)``.
    """
    rows, columns, _ = picture.shape
    size = max(_SMALLEST_FONT_PX, min(max(rows, columns) // 40, columns // 25))
    font = ImageFont.load_default(size)  # Pillow's own, so that every machine renders the same pixels
    wrapped = [part for line in lines for part in _wrap(line, font, columns - size)]
    step = round(_LINE_HEIGHT * size)
    strip = Image.new("RGB", (columns, step * len(wrapped) + size))
    draw = ImageDraw.Draw(strip)
    for number, line in enumerate(wrapped):
        draw.text((size // 2, size // 2 + step * number), line, fill="white", font=font)
    return np.concatenate([picture, np.asarray(strip)])


def _wrap(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Divide a line between words into lines of at most *width* pixels; longer words remain whole."""
    wrapped: list[str] = []
    for word in line.split():
        if wrapped and font.getlength(f"{wrapped[-1]} {word}") <= width:
            wrapped[-1] += f" {word}"
        else:
            wrapped.append(word)
    return wrapped
