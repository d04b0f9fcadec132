"""Which way up a picture of a chest is, in which polarity, and how much it looks like a frontal chest at all.

One template of 16 x 16 numbers answers all three. A picture is turned by each quarter and inverted, and its likeness
to the template is their correlation: the pose of the highest likeness is the picture's, and where even that one is
low, the picture is something else. The template was fitted so that a frontal chest upright is preferred to the same
one in any other pose; a picture and its mirror image are equally like it.

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
    """The pose in which a picture looks most like a frontal chest.

    Attributes:
        quarter_turns: By which it looks turned from upright, clockwise; 0 to 3.
        inverted: Whether what should be bright looks dark.
        likeness: Correlation with the template after both are undone, at most 1.
        likeness_as_it_is: Correlation of the picture as it came, at most `likeness`.
    """

    quarter_turns: int
    inverted: bool
    likeness: float
    likeness_as_it_is: float

    @property
    def gain(self) -> float:
        """How much more a frontal chest it looks like in this pose than as it came; 0 where it is upright."""
        return self.likeness - self.likeness_as_it_is


def find_pose(picture: Picture, *, template: Template | None = None) -> Pose:
    """Turn and invert a picture until it looks most like a frontal chest.

    Args:
        picture: Without borders, shape ``(rows, columns)``, at least 16 pixels a side.
        template: Shape ``(16, 16)``, mean 0 and norm 1; None takes the project's own.
    """
    template = read_template() if template is None else template
    small = standardized(shrink(picture))
    upright = [float((np.rot90(small, turns) * template).sum()) for turns in range(4)]
    likeness = np.array([upright, [-each for each in upright]])  # inversion only changes the sign
    inverted, turns = np.unravel_index(likeness.argmax(), likeness.shape)
    return Pose(
        quarter_turns=int(turns),  # as many are undone, the other way round
        inverted=bool(inverted),
        likeness=float(likeness.max()),
        likeness_as_it_is=upright[0],
    )


def shrink(picture: Picture) -> Template:
    """Average a picture over 16 x 16 fields, whatever its proportions."""
    rows, columns = (np.linspace(0, side, TEMPLATE_SIDE + 1).astype(int) for side in picture.shape)
    sums = np.add.reduceat(np.add.reduceat(picture, rows[:-1], axis=0, dtype=float), columns[:-1], axis=1)
    means: Template = sums / (np.diff(rows)[:, np.newaxis] * np.diff(columns))
    return means


def standardized(small: Template) -> Template:
    """Bring to mean 0 and norm 1, so that a product is a correlation; what is constant becomes zeros."""
    centred = small - small.mean()
    norm = float(np.linalg.norm(centred))
    return centred / norm if norm > 1e-6 else np.zeros_like(centred)


@cache
def read_template() -> Template:
    """The project's own template, fitted to frontal chest radiographs of hundreds of patients."""
    lines = TEMPLATE_FILE.read_text(encoding="ascii").splitlines()
    return standardized(np.array([line.split(",") for line in lines], dtype=np.float64))
