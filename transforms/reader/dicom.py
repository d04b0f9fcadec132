"""Conversion of a DICOM file to a radiograph, cheapest checks first, so that no invalid data reach a decoder.

The order: header, acceptance filters, sizes, the compressed stream's own header, decoding by the named decoder,
shape, and then grey. This module does not import torch or MONAI, since a decode worker has to start quickly.
"""

import math
import re

from pydicom.uid import UID

from pneumoseg.transforms.reader.acceptance import (
    ACCEPTANCE_KEYWORDS,
    AcceptanceFilters,
    read_body_part,
    read_view,
    show,
)
from pneumoseg.transforms.reader.dicom_file import read_dicom_file
from pneumoseg.transforms.reader.elements import Elements, quiet_libraries
from pneumoseg.transforms.reader.frame import LAYOUT_KEYWORDS, read_frame, read_layout
from pneumoseg.transforms.reader.grey_header import GREY_KEYWORDS, read_grey_scale
from pneumoseg.transforms.reader.reasons import Outcome, RadiographError, Reason, Warnings
from pneumoseg.transforms.reader.record import Radiograph, read_directions

_AGE = re.compile(r"([0-9]{1,3})([DWMY]?)")
_PER_YEAR = {"D": 365.25, "W": 52.18, "M": 12, "Y": 1, "": 1}
_OLDEST = 130
_SMALLEST, _LARGEST = 0.001, 50.0  # mm; no pixel of a chest radiograph is smaller or larger

DESCRIPTION_KEYWORDS = (
    *("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"),
    *("PatientID", "PatientSex", "PatientAge", "ImageLaterality", "Laterality"),
    *("PixelSpacing", "PixelSpacingCalibrationType", "ImagerPixelSpacing", "PixelAspectRatio"),
    "EstimatedRadiographicMagnificationFactor",
)


def check_uids(elements: Elements, meta: Elements, warnings: Warnings) -> None:
    """Warn about an invalid SOPInstanceUID, and about different ones in file header and data set.

    Args:
        elements: Elements of the data set.
        meta: File Meta Information.
        warnings: List to which warnings are added.
    """
    text = elements.text("SOPInstanceUID")
    if elements.uid("SOPInstanceUID") is None:
        warnings.append((Reason.BAD_UID, f"SOPInstanceUID is {show(text)}"))
    elif meta.text("MediaStorageSOPInstanceUID") not in {"", text}:
        warnings.append((Reason.UID_MISMATCH, "MediaStorageSOPInstanceUID differs from SOPInstanceUID"))


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
        spacing = _valid_spacing(elements, name)
        if spacing is not None:
            magnification = _magnification(elements) if name == "ImagerPixelSpacing" else 1.0
            return spacing[0] / magnification, spacing[1] / magnification
        warnings.append((Reason.BAD_SPACING, f"{name} is {show(elements.text(name))}"))
    return None


def is_calibrated(elements: Elements) -> bool:
    """Check whether the pixel spacing is known to be that in the patient, and not that of the detector.

    Args:
        elements: Elements of the data set.

    Source: DICOM PS3.3 10.7.1.3: a PixelSpacing without calibration type that equals the spacing of the detector, or
        stands alone, may be that of the detector.
    """
    own, detector = (_valid_spacing(elements, name) for name in ("PixelSpacing", "ImagerPixelSpacing"))
    if own is None:
        return detector is not None and _magnification(elements) > 1
    differs = detector is not None and not all(map(math.isclose, own, detector))
    return bool(elements.code("PixelSpacingCalibrationType")) or differs


def _valid_spacing(elements: Elements, name: str) -> tuple[float, float] | None:
    spacing = _pair(elements, name)
    return spacing if spacing and all(_SMALLEST < length < _LARGEST for length in spacing) else None


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


_KEYWORDS = frozenset(
    {*ACCEPTANCE_KEYWORDS, *LAYOUT_KEYWORDS, *DESCRIPTION_KEYWORDS, *GREY_KEYWORDS}
    | {"PresentationIntentType", "BurnedInAnnotation"}
)


def read_dicom(data: bytes, acceptance: AcceptanceFilters) -> Radiograph:
    """Read a radiograph from the bytes of a DICOM file.

    Args:
        data: Content of the file.
        acceptance: Which files are accepted as frontal chest radiographs.

    Raises:
        RadiographError: With the reason why it is refused or skipped.
    """
    with quiet_libraries():
        return _read(data, acceptance)


def _read(data: bytes, acceptance: AcceptanceFilters) -> Radiograph:
    file = read_dicom_file(data, _KEYWORDS, max_bytes=acceptance.max_bytes)
    elements, warnings = file.elements, file.warnings

    if file.pixels is None:
        raise _without_pixels(elements, file.meta)
    _check_kind(elements, acceptance, warnings)
    if file.pixels.floating:
        raise RadiographError(Reason.UNSUPPORTED_PIXEL, "the pixels are floating-point numbers")
    layout = read_layout(elements)
    acceptance.check_size(layout.rows, layout.columns)

    stored = read_frame(file, file.pixels, layout, warnings)
    grey = read_grey_scale(elements, layout, stored, warnings)

    check_uids(elements, file.meta, warnings)
    spacing_mm = read_spacing(elements, warnings)
    return Radiograph(
        stored=stored,
        grey=grey,
        spacing_mm=spacing_mm,
        is_calibrated=is_calibrated(elements),
        pixel_aspect=read_aspect(elements, spacing_mm, warnings),
        sop_instance_uid=elements.uid("SOPInstanceUID"),
        study_instance_uid=elements.uid("StudyInstanceUID"),
        series_instance_uid=elements.uid("SeriesInstanceUID"),
        patient_id=elements.text("PatientID") or None,
        view=read_view(elements) or None,
        laterality=elements.code("ImageLaterality") or elements.code("Laterality") or None,
        patient_orientation=read_directions(elements.text("PatientOrientation")),
        body_part=read_body_part(elements) or None,
        sex=elements.code("PatientSex") or None,
        age_years=read_age(elements),
        modality=elements.code("Modality") or None,
        photometric_interpretation=layout.photometric,
        bits_stored=layout.bits_stored,
        samples_per_pixel=layout.samples,
        transfer_syntax=file.transfer_syntax,
        burned_in=_is_burned_in(elements),
        header=file.body[: file.pixels.position],
        warnings=tuple(warnings),
    )


def _without_pixels(elements: Elements, meta: Elements) -> RadiographError:
    """Refuse a file without pixels whose header is that of an image, as where it is cut between two elements."""
    name = UID(meta.text("MediaStorageSOPClassUID")).name
    if "Image Storage" in name or elements.raw("Rows"):
        detail = "the header is that of an image, but the file ends before its Pixel Data"
        return RadiographError(Reason.NO_PIXELS, detail, Outcome.REFUSED)
    return RadiographError(Reason.NO_PIXELS, "there is no Pixel Data")


def _check_kind(elements: Elements, acceptance: AcceptanceFilters, warnings: Warnings) -> None:
    """Apply the acceptance filters to the header, and warn about what remains uncertain."""
    modality = elements.code("Modality")
    acceptance.check_modality(modality)
    acceptance.check_view(read_view(elements))
    acceptance.check_not_lateral(elements, read_directions(elements.text("PatientOrientation")))
    acceptance.check_body_part(read_body_part(elements))
    if not modality:
        warnings.append((Reason.NO_MODALITY, "Modality is missing or empty"))
    if elements.code("PresentationIntentType") == "FOR PROCESSING":
        warnings.append((Reason.FOR_PROCESSING, "PresentationIntentType is FOR PROCESSING"))
    if _is_burned_in(elements) and not acceptance.allow_burned_in:
        warnings.append((Reason.BURNED_IN, "BurnedInAnnotation is YES"))


def _is_burned_in(elements: Elements) -> bool:
    return elements.code("BurnedInAnnotation") == "YES"
