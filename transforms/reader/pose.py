"""Orientation and polarity of a chest image, and its similarity to a frontal chest.

One template of 16 x 16 numbers determines all three. The image is rotated by each multiple of 90 degrees and inverted,
and its likeness is the correlation with the template. The pose with the highest likeness is that of the image; where
even that likeness is low, the image does not show a frontal chest. The template was fitted so that an upright frontal
chest is preferred to the same one in any other pose; an image and its mirror image have the same likeness.

Source: fitted and measured by ``benchmarks/input_quality.py``; see ``docs/quality.md``.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

TEMPLATE_SIDE: Final = 16
TEMPLATE_FILE: Final = Path(__file__).with_name("chest_template.csv")

Picture = NDArray[np.float32]
Template = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Pose in which an image looks most like a frontal chest.

    Attributes:
        quarter_turns: Clockwise rotation from upright in quarter turns, 0 to 3.
        inverted: Whether bright and dark are exchanged.
        likeness: Correlation with the template in the upright pose, at most 1.
        likeness_as_it_is: Correlation of the unchanged image, at most `likeness`.
    """

    quarter_turns: int
    inverted: bool
    likeness: float
    likeness_as_it_is: float

    @property
    def gain(self) -> float:
        """Likeness in the upright pose minus that of the unchanged image; 0 where it is upright."""
        return self.likeness - self.likeness_as_it_is


def find_pose(picture: Picture, *, template: Template | None = None) -> Pose:
    """Find the pose in which an image looks most like a frontal chest.

    Args:
        picture: Image without borders, shape ``(rows, columns)``, each side at least 16 pixels.
        template: Template of shape ``(16, 16)``, mean 0 and norm 1; None selects the project's own.
    """
    template = read_template() if template is None else template
    small = standardized(shrink(picture))
    upright = [float((np.rot90(small, turns) * template).sum()) for turns in range(4)]
    likeness = np.array([upright, [-each for each in upright]])  # inversion only changes the sign
    inverted, turns = np.unravel_index(likeness.argmax(), likeness.shape)
    return Pose(
        quarter_turns=int(turns),  # rot90 turns counterclockwise
        inverted=bool(inverted),
        likeness=float(likeness.max()),
        likeness_as_it_is=upright[0],
    )


def shrink(picture: Picture) -> Template:
    """Average an image of any proportions over 16 x 16 fields.

    Args:
        picture: Image of shape ``(rows, columns)``, each side at least 16 pixels.

    Returns: Means, shape ``(16, 16)``.
    """
    rows, columns = (np.linspace(0, side, TEMPLATE_SIDE + 1).astype(int) for side in picture.shape)
    sums = np.add.reduceat(np.add.reduceat(picture, rows[:-1], axis=0, dtype=float), columns[:-1], axis=1)
    means: Template = sums / (np.diff(rows)[:, np.newaxis] * np.diff(columns))
    return means


def standardized(small: Template) -> Template:
    """Scale to mean 0 and norm 1, so that a dot product is a correlation; a constant image becomes zeros.

    Args:
        small: Means, shape ``(16, 16)``.
    """
    centred = small - small.mean()
    norm = float(np.linalg.norm(centred))
    return centred / norm if norm > 1e-6 else np.zeros_like(centred)


@cache
def read_template() -> Template:
    """Read the project's template, which was fitted to frontal chest radiographs of hundreds of patients."""
    lines = TEMPLATE_FILE.read_text(encoding="ascii").splitlines()
    return standardized(np.array([line.split(",") for line in lines], dtype=np.float64))
