"""Reduce the header of a source image to the elements that its results need, without free text and private tags."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)

from pneumoseg.pipeline.results.dicom.values import read_offset, read_value
from pneumoseg.transforms.reader.dicom_file import looks_like_dicom, read_dicom_file
from pneumoseg.transforms.reader.elements import Elements, quiet_libraries
from pneumoseg.transforms.reader.radiograph import Radiograph
from pneumoseg.transforms.reader.reasons import RadiographError

SOP_CLASSES: Final = (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)

_UIDS: Final = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
# what an archive files by; type 2 in the standard, so that they are there even if empty
_FILED_BY: Final = (
    "PatientName", "PatientID", "PatientBirthDate", "StudyID", "StudyDate", "StudyTime", "AccessionNumber",
    "ReferringPhysicianName",
)  # fmt: skip
CARRIED: Final = ("IssuerOfPatientID", "PatientAge", "StudyDescription", "InstitutionName")
"""Elements that results carry on where the source has them."""
_DEVICE: Final = ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "StationName")
_LOSSY: Final = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
_KEYWORDS: Final = frozenset({
    *_UIDS, *_FILED_BY, *CARRIED, *_DEVICE, *_LOSSY, "PatientSex", "Modality", "SpecificCharacterSet",
    "BodyPartExamined", "Laterality", "ImageLaterality", "PatientOrientation", "BurnedInAnnotation",
    "TimezoneOffsetFromUTC", "RequestAttributesSequence",
})  # fmt: skip
_CODE: Final = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
_DECIMAL: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")
_METHOD: Final = re.compile(r"[A-Z0-9_]{1,16}")
_UNPAIRED: Final = frozenset({
    "CHEST", "ABDOMEN", "PELVIS", "HEAD", "SKULL", "NECK", "CSPINE", "TSPINE", "LSPINE", "SSPINE", "COCCYX",
})  # fmt: skip
_CHEST: Final = re.compile(r"CHEST|THORAX|TORAX|LUNG|PULMO")


class NoDicomResultError(Exception):
    """No DICOM result can be made from this source; the message gives the reason without quoting the source."""


@dataclass(frozen=True)
class Source:
    """A source image as its results refer to it.

    Attributes:
        header: Identity, study, series, device and size, each value valid or empty; text in UTF-8.
        requests: Items of Referenced Request Sequence: what the study was requested with.
        spacing_mm: Spacing between rows and between columns; None if it is unknown.
        pixel_sha256: Hash of the pixels, which distinguishes images with the same UID.
        changes: What was cut, dropped, replaced or guessed in the values, without quoting them.
    """

    header: Dataset
    requests: tuple[Dataset, ...]
    spacing_mm: tuple[float, float] | None
    pixel_sha256: str
    changes: tuple[str, ...] = ()

    @property
    def sop_instance_uid(self) -> str:
        """SOPInstanceUID of the image."""
        return str(self.header.SOPInstanceUID)

    @property
    def orientation(self) -> tuple[str, str] | None:
        """Directions of rows and columns; None if they are unknown."""
        directions = self.header.PatientOrientation
        return (str(directions[0]), str(directions[1])) if directions else None

    def local(self, moment: datetime) -> datetime:
        """Convert a moment to the time zone of the source, which applies to all dates and times of a result.

        Args:
            moment: Moment with its time zone, which is kept if the source names none.
        """
        offset = self.header.get("TimezoneOffsetFromUTC")
        return moment.astimezone(datetime.strptime(offset, "%z").tzinfo) if offset else moment


def read_source(radiograph: Radiograph, *, with_identity: bool = True) -> Source:
    """Read the elements of a DICOM file that its results need.

    Args:
        radiograph: Radiograph that was read from the file, with its header.
        with_identity: Whether to keep name, ID, age, dates, requests, institution and device.

    Raises: NoDicomResultError: If the file is no DICOM file, has another SOP class, or has invalid UIDs.
    """
    if not looks_like_dicom(radiograph.header[:132]):
        raise NoDicomResultError("the image is not DICOM")
    with quiet_libraries():
        try:
            elements = read_dicom_file(radiograph.header, _KEYWORDS, max_bytes=0).elements
        except RadiographError as error:
            raise NoDicomResultError(f"the header cannot be read ({error.reason})") from error
        changes: list[str] = []
        header = _header(elements, radiograph)
        if header.SOPClassUID not in SOP_CLASSES:
            raise NoDicomResultError("the image is of another SOP class than CR, DX and Secondary Capture")
        requests: list[Dataset] = []
        if with_identity:
            _set_identity(header, elements, changes)
            requests += _requests(header, elements, changes)
        else:
            header.PatientIdentityRemoved = "YES"
            header.DeidentificationMethod = "identity left out by pneumoseg"
    return Source(
        header, tuple(requests), radiograph.spacing_mm, radiograph.pixel_sha256, tuple(dict.fromkeys(changes))
    )


def _header(elements: Elements, radiograph: Radiograph) -> Dataset:
    """Set all elements but those that identify a person; the elements to file by are empty."""
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _UIDS:
        value = elements.uid(keyword)
        if value is None:
            raise NoDicomResultError(f"{keyword} is missing or no UID")
        setattr(header, keyword, value)
    for keyword in _FILED_BY:
        setattr(header, keyword, "")
    header.PatientSex = radiograph.sex if radiograph.sex in {"F", "M", "O"} else ""
    header.Modality = radiograph.modality or "OT"
    header.Rows, header.Columns = radiograph.shape
    header.PatientOrientation = list(radiograph.patient_orientation or ()) or None
    if elements.code("BurnedInAnnotation") in {"YES", "NO"}:
        header.BurnedInAnnotation = elements.code("BurnedInAnnotation")
    _set_body_part(header, elements)
    _set_compression(header, elements)
    return header


def _set_identity(header: Dataset, elements: Elements, changes: list[str]) -> None:
    """Set the elements that identify patient, study and device, and list what had to be changed in them."""
    for keyword in (*_FILED_BY, *CARRIED, *_DEVICE):
        value, change = read_value(elements, keyword)
        changes += [change] if change else []
        if value:
            setattr(header, keyword, value)
    if elements.text("PatientSex") and not header.PatientSex:
        changes.append("PatientSex dropped, it is not F, M or O")
    if offset := read_offset(elements):
        header.TimezoneOffsetFromUTC = offset
    elif elements.text("TimezoneOffsetFromUTC"):
        changes.append("TimezoneOffsetFromUTC dropped, it is not an offset like +0100")


def _requests(header: Dataset, elements: Elements, changes: list[str]) -> Iterator[Dataset]:
    """Make the items of Referenced Request Sequence from Request Attributes Sequence.

    Source: DICOM PS3.3 C.17.2 (SR Document General Module) and table 10-9 (Request Attributes Macro).
    """

    def value(item: Elements, keyword: str) -> str:
        text, change = read_value(item, keyword)
        changes.extend([change] if change else [])
        return text

    for item in _items(elements, "RequestAttributesSequence"):
        request = Dataset()
        request.StudyInstanceUID = item.uid("StudyInstanceUID") or header.StudyInstanceUID
        request.ReferencedStudySequence = []
        request.AccessionNumber = value(item, "AccessionNumber") or header.AccessionNumber
        request.PlacerOrderNumberImagingServiceRequest = value(item, "PlacerOrderNumberImagingServiceRequest")
        request.FillerOrderNumberImagingServiceRequest = value(item, "FillerOrderNumberImagingServiceRequest")
        request.RequestedProcedureID = value(item, "RequestedProcedureID")
        request.RequestedProcedureDescription = value(item, "RequestedProcedureDescription")
        codes = []
        for given in _items(item, "RequestedProcedureCodeSequence"):
            parts = {keyword: value(given, keyword) for keyword in _CODE}
            if all(parts.values()):
                codes.append(Dataset())
                for keyword, part in parts.items():
                    setattr(codes[-1], keyword, part)
        request.RequestedProcedureCodeSequence = codes
        yield request


def _items(elements: Elements, keyword: str) -> list[Elements]:
    try:
        return elements.items(keyword) or []
    except Exception:  # noqa: BLE001  (pydicom raises all kinds; a damaged optional sequence is ignored)
        return []


def _set_body_part(header: Dataset, elements: Elements) -> None:
    """Set the body part to chest, which has no side, unless the file names another part, which needs its side."""
    part = re.sub(r"[^A-Z0-9 _]", "", elements.code("BodyPartExamined"))[:16]
    header.BodyPartExamined = "CHEST" if not part or _CHEST.search(part) else part
    side = elements.code("Laterality") or elements.code("ImageLaterality")
    if header.BodyPartExamined not in _UNPAIRED:
        header.Laterality = side if side in {"L", "R"} else ""


def _set_compression(header: Dataset, elements: Elements) -> None:
    """Copy the record of lossy compression, which results inherit from their source."""
    if elements.text("LossyImageCompression") not in {"00", "01"}:
        return
    header.LossyImageCompression = elements.text("LossyImageCompression")
    ratios = elements.text("LossyImageCompressionRatio").split("\\")
    methods = elements.text("LossyImageCompressionMethod").split("\\")
    are_valid = all(_DECIMAL.fullmatch(ratio) and len(ratio) <= 16 for ratio in ratios)
    if header.LossyImageCompression == "01" and are_valid:
        header.LossyImageCompressionRatio = ratios
        if len(methods) == len(ratios) and all(map(_METHOD.fullmatch, methods)):
            header.LossyImageCompressionMethod = methods
