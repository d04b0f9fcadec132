"""Conversion of a DICOM file to a radiograph, cheapest checks first, so that no invalid data reach a decoder.

The order: header, acceptance filters, sizes, the compressed stream's own header, decoding by the named decoder,
shape, and then grey. This module does not import torch or MONAI, since a decode worker has to start quickly.
"""

from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.description import (
    DESCRIPTION_KEYWORDS,
    check_uids,
    read_age,
    read_aspect,
    read_body_part,
    read_orientation,
    read_spacing,
    read_uid,
    read_view,
)
from pneumoseg.transforms.reader.dicom_file import read_dicom_file
from pneumoseg.transforms.reader.elements import Elements, quiet_libraries
from pneumoseg.transforms.reader.frame import LAYOUT_KEYWORDS, read_frame, read_layout
from pneumoseg.transforms.reader.grey_header import GREY_KEYWORDS, read_grey_scale
from pneumoseg.transforms.reader.reasons import RadiographError, Reason, Warnings
from pneumoseg.transforms.reader.record import Radiograph

_KEYWORDS = frozenset(
    {*LAYOUT_KEYWORDS, *DESCRIPTION_KEYWORDS, *GREY_KEYWORDS}
    | {"Modality", "PresentationIntentType", "BurnedInAnnotation"}
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
        raise RadiographError(Reason.NO_PIXELS, "there is no Pixel Data")
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
        pixel_aspect=read_aspect(elements, spacing_mm, warnings),
        sop_instance_uid=read_uid(elements, "SOPInstanceUID"),
        study_instance_uid=read_uid(elements, "StudyInstanceUID"),
        series_instance_uid=read_uid(elements, "SeriesInstanceUID"),
        patient_id=elements.text("PatientID") or None,
        view=read_view(elements) or None,
        laterality=elements.code("ImageLaterality") or elements.code("Laterality") or None,
        patient_orientation=read_orientation(elements),
        body_part=read_body_part(elements) or None,
        sex=elements.code("PatientSex") or None,
        age_years=read_age(elements),
        modality=elements.code("Modality") or None,
        photometric_interpretation=layout.photometric,
        bits_stored=layout.bits_stored,
        samples_per_pixel=layout.samples,
        transfer_syntax=file.transfer_syntax,
        burned_in=_is_burned_in(elements),
        warnings=tuple(warnings),
    )


def _check_kind(elements: Elements, acceptance: AcceptanceFilters, warnings: Warnings) -> None:
    """Apply the acceptance filters to the header, and warn about what remains uncertain."""
    modality = elements.code("Modality")
    acceptance.check_modality(modality)
    acceptance.check_view(read_view(elements))
    acceptance.check_body_part(read_body_part(elements))
    if not modality:
        warnings.append((Reason.NO_MODALITY, "Modality is missing or empty"))
    if elements.code("PresentationIntentType") == "FOR PROCESSING":
        warnings.append((Reason.FOR_PROCESSING, "PresentationIntentType is FOR PROCESSING"))
    if _is_burned_in(elements) and not acceptance.allow_burned_in:
        warnings.append((Reason.BURNED_IN, "BurnedInAnnotation is YES"))


def _is_burned_in(elements: Elements) -> bool:
    return elements.code("BurnedInAnnotation") == "YES"
