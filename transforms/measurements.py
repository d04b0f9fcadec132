"""Measurements of a mask, their description for a reader, and the method of each.

The measurements do not use anatomy. No lung, mediastinum or rib is segmented, so there is no share of a lung and no
apical or basal position, and the side is that of the half of the image.
"""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pneumoseg.transforms.reader.reasons import REVIEW_REASONS, Reason
from pneumoseg.transforms.reader.record import Orientation

Side = Literal["left", "right"]
Sides = Literal["left", "right", "both"]
SpacingBasis = Literal["calibrated", "at the detector", "unknown"]

METHODS: Final = {
    "probability": "mean of the largest 0.1 % of the image's pixels; with an image head, the mean of that and of its "
    "output; calibrated, its logit is scaled and shifted by numbers that were fitted on held-out images",
    "uncertainty": "standard deviation of the uncalibrated probability over Monte-Carlo dropout samples",
    "components": "pixels of the mask that touch, also at corners, are one component",
    "area": "number of pixels, times row spacing times column spacing",
    "width": "longest run of pixels from the patient's left to right within one component, times their spacing",
    "height": "pixels from the highest to the lowest of one component towards the patient's head, times their spacing",
    "side": "the half of the image that holds the centroid of the component",
    "spacing": "as the file gives it, in the plane of the detector where it was not calibrated",
}
"""Method of each measurement."""

LOOKS: Final = {
    Reason.LOOKS_TURNED: "looks turned",
    Reason.LOOKS_INVERTED: "looks inverted",
    Reason.LOOKS_UNLIKE_CHEST: "does not look like a whole frontal chest",
    Reason.SMALL_FIELD: "is black or white border in more than half",
    Reason.SATURATED: "is plain white or black in a large part",
    Reason.LOW_CONTRAST: "is blank or nearly so",
    Reason.NOISY: "is so noisy that the edge of a lung is lost",
    Reason.LOW_RESOLUTION: "is too coarse to show the edge of a lung",
}
"""Warnings that the sentence for a reader mentions."""

MAX_POINTS: Final = 8191
"""Largest number of points of an outline: a DICOM element of the VR FL holds 65,534 bytes (PS3.5 7.1.2)."""

_CORNERS: Final = np.ones((3, 3), dtype=np.uint8)


@dataclass(frozen=True, kw_only=True)
class Component:
    """One connected component of a mask.

    Attributes:
        side: Side of the patient; None where the orientation is ambiguous.
        area_px: Number of pixels.
        area_mm2: Area in mm2; None where the spacing is unknown, like all lengths in millimetres.
        width_px: Longest run of pixels along the axis from the patient's left to right.
        width_mm: The same in mm.
        height_px: Number of pixels from the highest to the lowest along the axis from head to feet.
        height_mm: The same in mm.
        box: First row, first column, row after the last, column after the last, of the stored pixels.
    """

    side: Side | None
    area_px: int
    area_mm2: float | None
    width_px: int
    width_mm: float | None
    height_px: int
    height_mm: float | None
    box: tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """Measurements of one mask.

    Attributes:
        components: Components, the largest first.
        area_px: Number of pixels of the mask.
        area_mm2: Area in mm2; None where the spacing is unknown, like all lengths in millimetres.
        width_px: Largest width of a component in pixels.
        width_mm: Largest width of a component in mm.
        height_px: Largest height of a component in pixels.
        height_mm: Largest height of a component in mm.
        side: Side of the patient; None where the mask is empty, or the orientation is ambiguous.
        side_basis: Source of the side of the patient.
        spacing_basis: ``calibrated``, ``at the detector`` or ``unknown``: what the lengths in millimetres refer to.
        sentence: Description for a reader.
    """

    components: tuple[Component, ...]
    area_px: int
    area_mm2: float | None
    width_px: int
    width_mm: float | None
    height_px: int
    height_mm: float | None
    side: Sides | None
    side_basis: str
    spacing_basis: SpacingBasis
    sentence: str

    def as_json(self) -> dict[str, object]:
        """Return all values, ready for JSON."""
        return {**asdict(self), "components": [asdict(component) for component in self.components]}


def probability_text(probability: float, *, digits: int = 2) -> str:
    """Write a probability for a reader; one that is rounded to 0 or 1 is neither, and is given as a bound.

    Args:
        probability: Probability in [0, 1].
        digits: Number of decimals.
    """
    least = 10**-digits
    if probability < least / 2:
        return f"< {least:.{digits}f}"
    return f"> {1 - least:.{digits}f}" if probability > 1 - least / 2 else f"{probability:.{digits}f}"


def measure(
    mask: npt.NDArray[np.uint8],
    *,
    probability: float,
    spacing_mm: tuple[float, float] | None,
    is_calibrated: bool = False,
    patient_orientation: tuple[str, str] | None,
    warned_of: Collection[Reason] = (),
) -> Measurements:
    """Measure a mask.

    Args:
        mask: Mask of zeros and ones in the order of the stored pixels, shape ``(rows, columns)``.
        probability: Image probability, for the sentence.
        spacing_mm: Distance between rows and between columns in mm; None gives no values in millimetres.
        is_calibrated: Whether the spacing is known to be that in the patient; otherwise the sentence says "at the
            detector".
        patient_orientation: Value of PatientOrientation; None assumes the usual display, with the patient's left on the
            right of the image.
        warned_of: Warnings of the radiograph; the sentence mentions those that make the result doubtful.
    """
    components = tuple(
        sorted(
            _components(mask, spacing_mm, patient_orientation),
            key=lambda component: (-component.area_px, component.box),
        )
    )
    area_px = sum(component.area_px for component in components)
    width_px = max((component.width_px for component in components), default=0)
    height_px = max((component.height_px for component in components), default=0)
    per_row, per_column = spacing_mm or (None, None)
    high, wide = Orientation.of(patient_orientation).swap((per_row, per_column))
    sides = {component.side for component in components} - {None}
    side: Sides | None = "both" if len(sides) == 2 else next(iter(sides), None)
    area_mm2 = _times(area_px, per_row, per_column)
    width_mm = _times(width_px, wide)
    basis = _side_basis(patient_orientation)
    spacing_basis: SpacingBasis = "calibrated" if is_calibrated else "at the detector"
    return Measurements(
        components=components,
        area_px=area_px,
        area_mm2=area_mm2,
        width_px=width_px,
        width_mm=width_mm,
        height_px=height_px,
        height_mm=_times(height_px, high),
        side=side,
        side_basis=basis,
        spacing_basis="unknown" if spacing_mm is None else spacing_basis,
        sentence=_sentence(
            probability_text(probability),
            len(components),
            side,
            basis,
            size=f"{area_px} pixels; millimetres are not given, as the file does not tell the spacing"
            if area_mm2 is None
            else f"{area_mm2:.0f} mm2, at most {width_mm:.1f} mm wide"
            + ("" if is_calibrated else " at the detector"),
            review=bool(REVIEW_REASONS.intersection(warned_of)),
        )
        + _doubts(warned_of),
    )


def label_components(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    """Number the components of a mask in the order of `measure`.

    Args:
        mask: Mask of zeros and ones, shape ``(rows, columns)``.

    Returns: 0 outside of the mask, and the number of the component, from 1, inside; of the same shape.
    """
    labels, count = ndimage.label(mask, structure=_CORNERS)
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    places = [(rows.start, columns.start) for rows, columns in ndimage.find_objects(labels)]
    order = sorted(range(1, count + 1), key=lambda number: (-areas[number], places[number - 1]))
    numbers = np.zeros(count + 1, np.int32)
    numbers[order] = np.arange(1, count + 1)
    numbered: npt.NDArray[np.int32] = numbers[labels]
    return numbered


def outlines(mask: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float64]]:
    """Trace the outer border of each component, in the order of `measure`.

    A border runs halfway between pixels inside and pixels outside, so that filling it restores the component exactly,
    except that holes are filled too. A line of more than `MAX_POINTS` corners is simplified to fewer.

    Args:
        mask: Mask of zeros and ones, shape ``(rows, columns)``.

    Returns: Closed lines of (column, row) points, shape (n, 2). The top left corner of the image is (0, 0), and
        the centre of its first pixel (0.5, 0.5).
    Source: DICOM PS3.3 C.18.6.1.1 (image relative coordinates).
    """
    from skimage.measure import approximate_polygon, find_contours  # noqa: PLC0415  (imports scipy.signal: a second)

    labels = label_components(mask)
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        inside = labels[rows, columns] == number
        lines = find_contours(np.pad(inside, 1).astype(np.float64), 0.5, fully_connected="high")
        outer = max(lines, key=lambda line: float(np.ptp(line[:, 0]) * np.ptp(line[:, 1])))
        line, tolerance_px = _corners(outer), 0.5
        while len(line) > MAX_POINTS:
            line, tolerance_px = approximate_polygon(line, tolerance_px), 2 * tolerance_px
        found.append(line[:, ::-1] - 0.5 + (columns.start, rows.start))
    return found


def _corners(line: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Keep the ends of a line and the points at which its direction changes."""
    steps = np.diff(line, axis=0)
    turns = steps[:-1, 0] * steps[1:, 1] != steps[:-1, 1] * steps[1:, 0]
    corners: npt.NDArray[np.float64] = line[np.concatenate([[True], turns, [True]])]
    return corners


def _components(
    mask: npt.NDArray[np.uint8],
    spacing_mm: tuple[float, float] | None,
    patient_orientation: tuple[str, str] | None,
) -> list[Component]:
    per_row, per_column = spacing_mm or (None, None)
    orientation = Orientation.of(patient_orientation)
    high, wide = orientation.swap((per_row, per_column))
    filled = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if filled[0].size == 0:
        return []
    top, left = (int(places[0]) for places in filled)
    box = mask[top : filled[0][-1] + 1, left : filled[1][-1] + 1]  # most of an image is empty
    labels, _ = ndimage.label(box, structure=_CORNERS)
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        inside = labels[rows, columns] == number
        upright = orientation.apply(inside)
        area, width, height = int(np.count_nonzero(inside)), _longest_run(upright), len(upright)
        first = top + rows.start, left + columns.start
        centre_row, centre_column = (
            (np.arange(side) @ np.count_nonzero(inside, axis=1 - axis) / area + first[axis] + 0.5)
            / mask.shape[axis]
            for axis, side in enumerate(inside.shape)
        )
        found.append(
            Component(
                side=_side(centre_row, centre_column, patient_orientation),
                area_px=area,
                area_mm2=_times(area, per_row, per_column),
                width_px=width,
                width_mm=_times(width, wide),
                height_px=height,
                height_mm=_times(height, high),
                box=(*first, top + rows.stop, left + columns.stop),
            )
        )
    return found


def _longest_run(inside: npt.NDArray[np.bool_]) -> int:
    """Find the longest horizontal run of pixels."""
    rows = np.pad(inside, ((0, 0), (0, 1))).ravel()  # an empty column keeps the rows apart
    borders = np.flatnonzero(np.diff(rows, prepend=False, append=False))
    return int((borders[1::2] - borders[::2]).max())


def _times(pixels: int, *spacings: float | None) -> float | None:
    """Convert pixels to millimetres; None where a spacing is unknown."""
    product = float(pixels)
    for spacing in spacings:
        if spacing is None:
            return None
        product *= spacing
    return product


def _side(row: float, column: float, orientation: tuple[str, str] | None) -> Side | None:
    """Determine the patient's side of a position in shares of rows and columns; None on the midline or if unknown."""
    along_columns, along_rows = orientation or ("L", "F")
    for direction, share in ((along_columns, column), (along_rows, row)):
        if direction[0] in "LR":  # the letter that counts most comes first
            if share == 0.5:
                return None
            return "left" if (direction[0] == "L") == (share > 0.5) else "right"
    return None


def _side_basis(orientation: tuple[str, str] | None) -> str:
    if orientation is None:
        return "assumed: the image is shown as usual, with the patient's left on its right"
    if any(direction[0] in "LR" for direction in orientation):
        return "PatientOrientation"
    return "unknown: PatientOrientation is not that of a frontal view"


def _sentence(
    probability: str, components: int, side: Sides | None, basis: str, *, size: str, review: bool
) -> str:
    if not components and review:
        return f"Indeterminate: no pneumothorax was outlined (probability {probability})."
    if not components:
        return f"No pneumothorax was found (probability {probability})."
    where = {
        "left": " in the half of the image that is the patient's left",
        "right": " in the half of the image that is the patient's right",
        "both": " in both halves of the image",
        None: "",
    }[side]
    areas = "1 area" if components == 1 else f"{components} areas"
    assumed = "" if basis == "PatientOrientation" or side in (None, "both") else f" Side {basis}."
    return f"Pneumothorax suspected (probability {probability}): {areas}{where}, {size}.{assumed}"


def _doubts(warned_of: Collection[Reason]) -> str:
    looks = ", ".join(words for reason, words in LOOKS.items() if reason in warned_of)
    if REVIEW_REASONS.intersection(warned_of):
        return f" To be reviewed by a person, since the image {looks}."
    return f" In doubt, since the image {looks}." if looks else ""
