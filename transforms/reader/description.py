"""Identity, patient, view and pixel size from a DICOM header, as plain Python values."""

import math
import re

from pneumoseg.transforms.reader.acceptance import show
from pneumoseg.transforms.reader.elements import Elements
from pneumoseg.transforms.reader.reasons import Reason, Warnings

_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
_AGE = re.compile(r"([0-9]{1,3})([DWMY]?)")
_PER_YEAR = {"D": 365.25, "W": 52.18, "M": 12, "Y": 1, "": 1}
_OLDEST = 130
_SMALLEST, _LARGEST = 0.001, 50.0  # mm; no pixel of a chest radiograph is smaller or larger

DESCRIPTION_KEYWORDS = (
    *("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"),
    *("PatientID", "PatientSex", "PatientAge"),
    *("ViewPosition", "ViewCodeSequence", "ImageLaterality", "Laterality", "PatientOrientation"),
    *("BodyPartExamined", "AnatomicRegionSequence"),
    *("PixelSpacing", "ImagerPixelSpacing", "EstimatedRadiographicMagnificationFactor", "PixelAspectRatio"),
)


def read_uid(elements: Elements, keyword: str) -> str | None:
    """Read a UID.

    Args:
        elements: Elements of the data set.
        keyword: Keyword of the element.

    Returns: UID; None where it is missing or invalid, since any other text could be a path.
    Source: DICOM PS3.5 9.1: digits and dots, at most 64.
    """
    text = elements.text(keyword)
    return text if len(text) <= 64 and _UID.fullmatch(text) else None


def check_uids(elements: Elements, meta: Elements, warnings: Warnings) -> None:
    """Warn about an invalid SOPInstanceUID, and about different ones in file header and data set.

    Args:
        elements: Elements of the data set.
        meta: File Meta Information.
        warnings: List to which warnings are added.
    """
    text = elements.text("SOPInstanceUID")
    if read_uid(elements, "SOPInstanceUID") is None:
        warnings.append((Reason.BAD_UID, f"SOPInstanceUID is {show(text)}"))
    elif meta.text("MediaStorageSOPInstanceUID") not in {"", text}:
        warnings.append((Reason.UID_MISMATCH, "MediaStorageSOPInstanceUID differs from SOPInstanceUID"))


def read_view(elements: Elements) -> str:
    """Read the view from ViewPosition, or else ViewCodeSequence.

    Args:
        elements: Elements of the data set.

    Returns: View in capitals; empty where unknown.
    """
    meaning = elements.code("ViewPosition") or _meaning(elements, "ViewCodeSequence")
    words = re.sub(r"\W+", "-", meaning)
    short = {
        "ANTERO-POSTERIOR": "AP",
        "POSTERO-ANTERIOR": "PA",
        "ANTEROPOSTERIOR": "AP",
        "POSTEROANTERIOR": "PA",
    }
    return short.get(words, meaning)


def read_body_part(elements: Elements) -> str:
    """Read the body part from BodyPartExamined, or else AnatomicRegionSequence.

    Args:
        elements: Elements of the data set.

    Returns: Body part in capitals; empty where unknown.
    """
    return elements.code("BodyPartExamined") or _meaning(elements, "AnatomicRegionSequence")


def _meaning(elements: Elements, keyword: str) -> str:
    try:
        items = elements.items(keyword)
    except Exception:  # noqa: BLE001  (pydicom raises all kinds; a damaged optional sequence is ignored)
        return ""
    return items[0].text("CodeMeaning").upper() if items else ""


def read_orientation(elements: Elements) -> tuple[str, str] | None:
    """Read the directions of rows and columns from PatientOrientation.

    Args:
        elements: Elements of the data set.

    Returns: Two directions of letters ``A P R L H F``; None where they are missing or invalid.
    Source: DICOM PS3.3 C.7.6.1.1.1.
    """
    directions = [part.strip().upper() for part in elements.text("PatientOrientation").split("\\")]
    if len(directions) != 2 or not all(map(_is_direction, directions)):
        return None
    return directions[0], directions[1]


def _is_direction(text: str) -> bool:
    """Check whether *text* names one to three of the three axes, each once."""
    axes = [axis for letter in text for axis in ("AP", "LR", "HF") if letter in axis]
    return 0 < len(text) == len(axes) == len(set(axes))


def read_age(elements: Elements) -> int | None:
    """Read the age of the patient.

    Args:
        elements: Elements of the data set; PatientAge is like ``058Y``, ``006M``, or ``58`` as in the challenge.

    Returns: Full years; None where it is missing or invalid.
    """
    match = _AGE.fullmatch(elements.code("PatientAge"))
    if match is None:
        return None
    years = int(int(match[1]) / _PER_YEAR[match[2]])
    return years if years <= _OLDEST else None


def read_spacing(elements: Elements, warnings: Warnings) -> tuple[float, float] | None:
    """Read the pixel spacing: the calibrated one, or else that of the detector.

    Args:
        elements: Elements of the data set.
        warnings: List to which warnings are added.

    Returns: Spacing of rows and of columns in mm; None where unknown.
    Source: DICOM PS3.3 10.7.1.3; detector spacing is divided by the magnification where that is known.
    """
    given = [name for name in ("PixelSpacing", "ImagerPixelSpacing") if elements.text(name)]
    if not given:
        warnings.append((Reason.NO_SPACING, "there is neither PixelSpacing nor ImagerPixelSpacing"))
    for name in given:
        spacing = _pair(elements, name)
        if spacing is not None and all(_SMALLEST < length < _LARGEST for length in spacing):
            magnification = _magnification(elements) if name == "ImagerPixelSpacing" else 1.0
            return spacing[0] / magnification, spacing[1] / magnification
        warnings.append((Reason.BAD_SPACING, f"{name} is {show(elements.text(name))}"))
    return None


def read_aspect(elements: Elements, spacing_mm: tuple[float, float] | None, warnings: Warnings) -> float:
    """Compute the height of a pixel over its width, from the spacing or else PixelAspectRatio.

    Args:
        elements: Elements of the data set.
        spacing_mm: Spacing of rows and of columns in mm; None where unknown.
        warnings: List to which warnings are added.

    Returns: Ratio; 1 where unknown.
    """
    ratio = _pair(elements, "PixelAspectRatio")
    sources = {"spacing": spacing_mm, "PixelAspectRatio": ratio}
    aspects = {name: pair[0] / pair[1] for name, pair in sources.items() if pair is not None}
    for name, aspect in aspects.items():
        if not math.isclose(aspect, 1, rel_tol=0.01):
            detail = f"pixels are {aspect:.3g} times as high as wide by their {name}"
            warnings.append((Reason.NON_SQUARE, detail))
            break
    return next(iter(aspects.values()), 1.0)


def _pair(elements: Elements, keyword: str) -> tuple[float, float] | None:
    """Read two finite and positive numbers; None otherwise."""
    try:
        numbers = elements.decimals(keyword) or []
    except ValueError:
        return None
    if len(numbers) != 2 or not all(0 < number < math.inf for number in numbers):
        return None
    return numbers[0], numbers[1]


def _magnification(elements: Elements) -> float:
    try:
        factors = elements.decimals("EstimatedRadiographicMagnificationFactor") or []
    except ValueError:
        return 1.0
    return factors[0] if factors and math.isfinite(factors[0]) and factors[0] >= 1 else 1.0
