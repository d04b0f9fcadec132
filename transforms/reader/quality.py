"""Quality checks of the image of a radiograph, independent of its header; they give warnings, since none is certain.

The checks use a few thousand pixels and cost little beside decoding.

One template of 16 x 16 numbers determines rotation, polarity and similarity to a frontal chest. The image is rotated by
each multiple of 90 degrees and inverted, and its likeness is the correlation with the template. The pose with the
highest likeness is that of the image. Where even that likeness is low, the image does not show a frontal chest; where
the image does not have the size of a chest, that is uncertain. The template was fitted so that an upright frontal chest
is preferred to the same one in any other pose; an image and its mirror image have the same likeness. Tilts by less than
a quarter turn are found by tilting the template.

Source: fitted and measured by ``benchmarks/input_quality.py``; ``docs/quality.md`` lists the rates of false warnings.
"""

from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pneumoseg.transforms.reader.reasons import Reason, Warnings
from pneumoseg.transforms.reader.record import Radiograph

LEAST_SIDE_PX: Final = 128
"""Images with a shorter side are not checked for exposure and borders, and for being blank instead of contrast."""
LEAST_LIKENESS: Final = 0.38
LEAST_GAIN: Final = 0.05
LEAST_TILT_GAIN: Final = 0.15
"""Least gain of a tilt: an upright chest may look a little more like the tilted template."""
LEAST_FILL: Final = 0.5
MOST_WHITE: Final = 0.15
MOST_BLACK: Final = 0.35
LEAST_CONTRAST: Final = 0.25
BLANK_CONTRAST: Final = 0.05  # of images with a shorter side
COARSEST_PIXEL_MM: Final = 1.5
LARGEST_PIXEL_MM: Final = 2.5
"""Largest width of a pixel of an image that can be negative: at 3.1 mm the reference model finds next to nothing."""
LEAST_FIELD_MM: Final = 100.0
"""Least longer side of an image of a whole chest: that of a newborn needs as much."""
MOST_EMPTY_END: Final = 0.3
"""Share of the stored rows that hold only zeros at the end of an image that may be incomplete."""
MOST_ELONGATED: Final = 3.0
"""Largest ratio of the longer side to the shorter one, without borders."""
BLACK: Final = 0.02
WHITE: Final = 0.98
MOST_NOISE: Final = 0.03
"""Largest standard deviation of the noise of an image that can be negative, of greys in [0, 1]."""
NOISE_SIDE: Final = 512
"""Longer side of the image at which noise is measured: about that of a network's input, as finer noise averages out."""
LIT_SHARE: Final = 0.05
"""Least share of pixels between black and white in a row or column that is not a border."""

DETECTOR_MM: Final = 400.0
"""Approximate longer side of a chest radiograph, for files without spacing."""
_TURNED = {1: "turned by a quarter, clockwise", 2: "upside down", 3: "turned by a quarter, counterclockwise"}

TEMPLATE_SIDE: Final = 16
TEMPLATE_FILE: Final = Path(__file__).with_name("chest_template.csv")
_FIELDS: Final = np.arange(TEMPLATE_SIDE**2).reshape(TEMPLATE_SIDE, TEMPLATE_SIDE)
_TURNS: Final = np.stack([np.rot90(_FIELDS, turns).ravel() for turns in range(4)])
TILTS: Final = (-45, -30, -15, 15, 30, 45)
"""Tilts that are told, in degrees clockwise; a network is trained with up to 12."""
_OFF_CENTRE: Final = np.arange(TEMPLATE_SIDE) - (TEMPLATE_SIDE - 1) / 2
DISK: Final = np.hypot(_OFF_CENTRE[:, np.newaxis], _OFF_CENTRE) < TEMPLATE_SIDE / 2 - 0.4
"""Fields of the template that are still within it when it is tilted."""

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
        tilt: Rotation from upright by less than a quarter, one of `TILTS`.
        tilt_gain: Correlation with the template that is tilted by it minus that with the upright one, within `DISK`.
    """

    quarter_turns: int
    inverted: bool
    likeness: float
    likeness_as_it_is: float
    tilt: int
    tilt_gain: float

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
    upright = small.ravel()[_TURNS] @ template.ravel()
    likeness = np.stack([upright, -upright])  # inversion only changes the sign
    inverted, turns = np.unravel_index(likeness.argmax(), likeness.shape)
    tilted = tilted_templates(template.tobytes()) @ standardized(small[DISK])
    tilt = int(tilted[1:].argmax())
    return Pose(
        quarter_turns=int(turns),  # rot90 turns counterclockwise
        inverted=bool(inverted),
        likeness=float(likeness.max()),
        likeness_as_it_is=float(upright[0]),
        tilt=TILTS[tilt],
        tilt_gain=float(tilted[1 + tilt] - tilted[0]),
    )


@lru_cache(maxsize=8)
def tilted_templates(template: bytes) -> Template:
    """Tilt a template by 0 degrees and each of `TILTS`, and scale what is within `DISK` to mean 0 and norm 1.

    Args:
        template: Numbers of the template, shape ``(16, 16)``, as bytes.

    Returns: Shape ``(7, fields of the disk)``.
    """
    upright = np.frombuffer(template).reshape(TEMPLATE_SIDE, TEMPLATE_SIDE)
    picture = Image.fromarray(upright.astype(np.float32))
    tilted = (picture.rotate(-tilt, Image.Resampling.BILINEAR) for tilt in (0, *TILTS))
    return np.stack([standardized(np.asarray(each, dtype=np.float64)[DISK]) for each in tilted])


def shrink(picture: Picture) -> Template:
    """Average an image of any proportions over 16 x 16 fields.

    Args:
        picture: Image of shape ``(rows, columns)``, each side at least 16 pixels.

    Returns: Means, shape ``(16, 16)``.
    """
    rows, columns = (np.arange(TEMPLATE_SIDE + 1) * side // TEMPLATE_SIDE for side in picture.shape)
    strips = np.add.reduceat(picture.astype(np.float64), rows[:-1], axis=0)
    sums = np.add.reduceat(strips, columns[:-1], axis=1)
    means: Template = sums / (np.diff(rows)[:, np.newaxis] * np.diff(columns))
    return means


def standardized(small: Template) -> Template:
    """Scale to mean 0 and norm 1, so that a dot product is a correlation; a constant image becomes zeros.

    Args:
        small: Means, shape ``(16, 16)`` or ``(fields,)``.
    """
    centred = small - small.mean()
    norm = float(np.linalg.norm(centred))
    return centred / norm if norm > 1e-6 else np.zeros_like(centred)


@cache
def read_template() -> Template:
    """Read the project's template, which was fitted to frontal chest radiographs of hundreds of patients."""
    lines = TEMPLATE_FILE.read_text(encoding="ascii").splitlines()
    return standardized(np.array([line.split(",") for line in lines], dtype=np.float64))


def look_at(radiograph: Radiograph, *, template: Template | None = None) -> Warnings:
    """Check the quality of the image.

    Args:
        radiograph: Radiograph; of its header only pixel spacing and orientation are used.
        template: Template of a frontal chest, see `find_pose`; None selects the project's own.

    Returns: Reasons of the outcome WARNED with details.
    """
    warnings: Warnings = []
    _check_resolution(radiograph, warnings)
    picture = sample(radiograph)
    field = lit_field(picture)
    is_small = min(radiograph.shape) < LEAST_SIDE_PX
    contrast = _contrast(field)
    if contrast < (BLANK_CONTRAST if is_small else LEAST_CONTRAST):
        detail = f"98 of 100 pixels lie within {contrast:.0%} of the grey levels"
        warnings.append((Reason.LOW_CONTRAST, detail))
        return warnings  # the pose of a blank image is undefined
    fill = field.size / picture.size
    has_small_field = fill < LEAST_FILL and not is_small
    if not is_small:
        _check_exposure(field, warnings)
        if (noise := noise_of(radiograph)) > MOST_NOISE:
            warnings.append(
                (Reason.NOISY, f"its noise has a standard deviation of {noise:.1%} of the grey levels")
            )
    doubts = [] if has_small_field else _doubts_of_end(radiograph)
    _check_look(field, doubts + _doubts_of_size(field, radiograph), warnings, template)
    if has_small_field:
        warnings.append((Reason.SMALL_FIELD, f"all but {fill:.0%} of the image is a black or white border"))
    return warnings


def sample(radiograph: Radiograph) -> Picture:
    """Sample every n-th pixel of the upright image, 128 to 255 of them on its shorter side if it has so many.

    Args:
        radiograph: Radiograph.

    Returns: Greys in [0, 1], shape ``(rows, columns)``.
    """
    step = max(1, min(radiograph.shape) // LEAST_SIDE_PX)
    stored = np.ascontiguousarray(radiograph.stored[::step, ::step])
    return radiograph.orientation.apply(radiograph.grey.image(stored))


def lit_field(picture: Picture) -> Picture:
    """Crop black and white borders, which come from collimators and padding.

    Args:
        picture: Greys in [0, 1], shape ``(rows, columns)``.

    Returns: Image of at least 16 pixels a side; the whole image where the crop would be smaller.
    """
    lit = (picture > BLACK) & (picture < WHITE)
    rows, columns = (np.flatnonzero(lit.mean(axis=axis) > LIT_SHARE) for axis in (1, 0))
    if min(rows.size, columns.size) < TEMPLATE_SIDE:
        return picture
    return picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def noise_of(radiograph: Radiograph) -> float:
    """Estimate the standard deviation of the noise in the middle of an image, from a few rows of it.

    Mixed second differences of neighbouring pixels cancel what is smooth, and edges along rows or columns; their median
    leaves out the rest of the picture.

    Args:
        radiograph: Radiograph of at least `LEAST_SIDE_PX` a side.

    Returns: Standard deviation of greys in [0, 1], with a longer side of `NOISE_SIDE` pixels or up to twice as many; 0
        where the middle is black or white, or a strip is too narrow.

    Source: J. Immerkaer, Fast noise variance estimation, Computer Vision and Image Understanding 64 (1996), whose mean
    is a median here.
    """
    rows, columns = radiograph.stored.shape
    step = max(1, max(rows, columns) // NOISE_SIDE)
    height, width = 3 * step, columns // 2 // step * step
    tops = range(rows // 5, rows - height, rows // 5)
    middle = slice(columns // 4, columns // 4 + width)
    if not tops or not width:  # a strip, which has too few rows or columns at that resolution
        return 0.0
    stored = np.concatenate([radiograph.stored[top : top + height, middle] for top in tops])
    means = radiograph.grey.image(stored).reshape(len(tops), 3, step, -1, step).mean(axis=(2, 4))
    down = means[:, 0] - 2 * means[:, 1] + means[:, 2]
    mixed = down[:, :-2] - 2 * down[:, 1:-1] + down[:, 2:]
    centre = means[:, 1, 1:-1]
    lit = np.abs(mixed[(centre > BLACK) & (centre < WHITE)])
    # the weights' squares sum to 36; .6745 is the median of the absolute values of a normal distribution
    return float(np.median(lit)) / (6 * 0.6745) if lit.size else 0.0


def _check_resolution(radiograph: Radiograph, warnings: Warnings) -> None:
    pixel_mm = _pixel_mm(radiograph)
    basis = "if it shows a whole chest, pixels" if radiograph.spacing_mm is None else "pixels"
    if pixel_mm > COARSEST_PIXEL_MM:
        rows, columns = radiograph.shape
        detail = f"{rows} x {columns} pixels; {basis} are {pixel_mm:.1f} mm wide"
        warnings.append((Reason.LOW_RESOLUTION, detail))


def _pixel_mm(radiograph: Radiograph) -> float:
    """Give the width of a pixel; without a pixel spacing, that of an image of a whole detector."""
    return max(radiograph.spacing_mm or [DETECTOR_MM / max(radiograph.shape)])


def _contrast(field: Picture) -> float:
    """Compute the difference of the percentiles 99 and 1, or a number below it that is no lack of contrast."""
    low, high = 0.35, 0.65
    if min(_share(field < low), _share(field > high)) > 0.02:  # counting takes a tenth of the time of sorting
        return high - low
    dark, bright = np.percentile(field, (1, 99))
    return float(bright - dark)


def _share(pixels: NDArray[np.bool_]) -> float:
    return np.count_nonzero(pixels) / pixels.size


def _check_exposure(field: Picture, warnings: Warnings) -> None:
    white, black = _share(field >= 0.99), _share(field <= 0.01)
    if white > MOST_WHITE or black > MOST_BLACK:
        warnings.append((Reason.SATURATED, f"{white:.0%} of the field is white, {black:.0%} black"))


def _check_look(field: Picture, doubts: list[str], warnings: Warnings, template: Template | None) -> None:
    """Check whether the image looks like a whole chest, beside other *doubts* that it shows one, and is upright."""
    pose = find_pose(field, template=template) if min(field.shape) >= TEMPLATE_SIDE else None
    if pose is not None and pose.likeness < LEAST_LIKENESS:
        doubts.append(f"its likeness to a frontal chest is {pose.likeness:.2f}, not {LEAST_LIKENESS} or more")
    if doubts:
        warnings.append((Reason.LOOKS_UNLIKE_CHEST, "; ".join(doubts)))
    if pose is None or pose.likeness < LEAST_LIKENESS:
        return
    if pose.gain < LEAST_GAIN:
        if pose.tilt_gain > LEAST_TILT_GAIN:
            way = "clockwise" if pose.tilt > 0 else "counterclockwise"
            detail = f"it looks tilted by about {abs(pose.tilt)} degrees, {way}"
            warnings.append(
                (Reason.LOOKS_TURNED, f"{detail}: its likeness rises by {pose.tilt_gain:.2f} upright")
            )
        return
    by = f"its likeness to a frontal chest is {pose.likeness_as_it_is:.2f}, and {pose.likeness:.2f} once corrected"
    if pose.quarter_turns:
        warnings.append((Reason.LOOKS_TURNED, f"it looks {_TURNED[pose.quarter_turns]}: {by}"))
    if pose.inverted:
        warnings.append((Reason.LOOKS_INVERTED, f"black and white look exchanged: {by}"))


def _doubts_of_end(radiograph: Radiograph) -> list[str]:
    """Tell whether so many rows at the end of the file hold only zeros that a copy of it may be incomplete.

    Programs that copy reserve the whole length of a file beforehand, so that uncompressed pixels do not look cut.
    """
    rows = radiograph.stored[-round(MOST_EMPTY_END * len(radiograph.stored)) :]
    if rows[-1].any() or rows.any():  # the last row is enough for almost all images
        return []
    return [f"its last {len(rows)} rows or more hold only zeros, as where a copy of the file is incomplete"]


def _doubts_of_size(field: Picture, radiograph: Radiograph) -> list[str]:
    """List why an image of this size may not show a whole chest, or is too small to be checked."""
    doubts = []
    shorter, longer = sorted(field.shape)
    if shorter < TEMPLATE_SIDE:
        doubts.append(f"{shorter} pixels are too few to tell a chest, {TEMPLATE_SIDE} a side would do")
    if longer > MOST_ELONGATED * shorter:
        doubts.append(f"one side is {longer / shorter:.1f} times the other, more than {MOST_ELONGATED:.0f}")
    if (pixel_mm := _pixel_mm(radiograph)) > LARGEST_PIXEL_MM:
        doubts.append(f"pixels of {pixel_mm:.1f} mm are too coarse to show a pneumothorax")
    if radiograph.spacing_mm is not None:
        height, width = np.multiply(radiograph.shape, radiograph.spacing_mm)
        if max(height, width) < LEAST_FIELD_MM:
            doubts.append(
                f"it shows {height:.0f} x {width:.0f} mm by its pixel spacing, a chest needs {LEAST_FIELD_MM:.0f}"
            )
    return doubts
