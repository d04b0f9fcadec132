"""Reduce the header of a source image to the elements that its results need, without free text and private tags."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.dataset import Dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)
from pydicom.valuerep import TEXT_VR_DELIMS

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
NO_DATE: Final = "19000101"
"""Date for elements that the standard requires if the source has none; the present date would make runs differ."""

_UIDS: Final = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
# what an archive files by; type 2 in the standard, so that they are there even if empty
_NAMES: Final = ("PatientName", "PatientID", "StudyID", "AccessionNumber", "ReferringPhysicianName")
_DATES: Final = ("PatientBirthDate", "StudyDate")
_LOSSY: Final = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
_KEYWORDS: Final = frozenset({
    *_UIDS, *_NAMES, *_DATES, *_LOSSY, "StudyTime", "PatientSex", "Modality", "SpecificCharacterSet",
    "BodyPartExamined", "Laterality", "ImageLaterality", "PatientOrientation", "BurnedInAnnotation",
})  # fmt: skip
_LONGEST: Final = 64
_TIME: Final = re.compile(r"([01][0-9]|2[0-3])([0-5][0-9]([0-5][0-9](\.[0-9]{1,6})?)?)?")
_DECIMAL: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
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
        header: Identity, study, series and size, each value valid or empty; text in UTF-8.
        spacing_mm: Spacing between rows and between columns; None if it is unknown.
        pixel_sha256: Hash of the pixels, which distinguishes images with the same UID.
    """

    header: Dataset
    spacing_mm: tuple[float, float] | None
    pixel_sha256: str

    @property
    def sop_instance_uid(self) -> str:
        """SOPInstanceUID of the image."""
        return str(self.header.SOPInstanceUID)

    @property
    def orientation(self) -> tuple[str, str]:
        """Directions of rows and columns; the usual ones of a frontal image if the file does not give them."""
        rows, columns = self.header.get("PatientOrientation") or ("L", "F")
        return str(rows), str(columns)

    @property
    def date_and_time(self) -> tuple[str, str]:
        """Date and time of the study, so that a second run writes the same bytes."""
        return self.header.StudyDate or NO_DATE, self.header.StudyTime or "000000"


def read_source(data: bytes, radiograph: Radiograph, *, with_identity: bool = True, max_bytes: int) -> Source:
    """Read the elements of a DICOM file that its results need.

    Args:
        data: Bytes of the whole file.
        radiograph: Radiograph that was read from the same bytes.
        with_identity: Whether to keep name, ID, dates and accession number of the patient.
        max_bytes: Largest number of bytes that a deflated file may inflate to.

    Raises: NoDicomResultError: If the file is no DICOM file, has another SOP class, or has invalid UIDs.
    """
    if not looks_like_dicom(data[:132]):
        raise NoDicomResultError("the image is not DICOM")
    with quiet_libraries():
        try:
            elements = read_dicom_file(data, _KEYWORDS, max_bytes=max_bytes).elements
        except RadiographError as error:
            raise NoDicomResultError(f"the header cannot be read ({error.reason})") from error
        header = _header(elements, radiograph, with_identity=with_identity)
    if header.SOPClassUID not in SOP_CLASSES:
        raise NoDicomResultError("the image is of another SOP class than CR, DX and Secondary Capture")
    return Source(header, radiograph.spacing_mm, radiograph.pixel_sha256)


def _header(elements: Elements, radiograph: Radiograph, *, with_identity: bool) -> Dataset:
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _UIDS:
        value = elements.uid(keyword)
        if value is None:
            raise NoDicomResultError(f"{keyword} is missing or no UID")
        setattr(header, keyword, value)
    for keyword in _NAMES:
        setattr(header, keyword, _text(elements, keyword) if with_identity else "")
    if len(header.PatientID) > _LONGEST:
        raise NoDicomResultError(
            f"PatientID has more than {_LONGEST} letters"
        )  # if cut, it might be another patient's
    for keyword in _DATES:
        setattr(header, keyword, _date(elements.text(keyword)) if with_identity else "")
    header.StudyTime = _time(elements.text("StudyTime")) if with_identity else ""
    header.PatientSex = radiograph.sex if radiograph.sex in {"F", "M", "O"} else ""
    if not with_identity:
        header.PatientIdentityRemoved, header.DeidentificationMethod = "YES", "identity left out by pneumoseg"
    header.Modality = radiograph.modality or "OT"
    header.Rows, header.Columns = radiograph.shape
    header.PatientOrientation = list(radiograph.patient_orientation or ()) or None
    if elements.code("BurnedInAnnotation") in {"YES", "NO"}:
        header.BurnedInAnnotation = elements.code("BurnedInAnnotation")
    _set_body_part(header, elements)
    _set_compression(header, elements)
    return header


def _text(elements: Elements, keyword: str) -> str:
    """Decode a text in the character set of the file."""
    encodings = convert_encodings(elements.text("SpecificCharacterSet").split("\\"))
    text = _CONTROL.sub("", decode_bytes(elements.raw(keyword) or b"", encodings, TEXT_VR_DELIMS)).strip()
    # texts longer than the standard allows are cut, except the ID, which distinguishes patients
    return text if keyword == "PatientID" else text[:_LONGEST]


def _date(text: str) -> str:
    try:
        return datetime.strptime(text, "%Y%m%d").strftime("%Y%m%d") if len(text) == 8 else ""  # noqa: DTZ007
    except ValueError:
        return ""


def _time(text: str) -> str:
    return text if _TIME.fullmatch(text) else ""


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
    if header.LossyImageCompression == "01" and all(
        _DECIMAL.fullmatch(ratio) and len(ratio) <= 16 for ratio in ratios
    ):
        header.LossyImageCompressionRatio = ratios
        if len(methods) == len(ratios) and all(
            re.fullmatch(r"[A-Z0-9_]{1,16}", method) for method in methods
        ):
            header.LossyImageCompressionMethod = methods
