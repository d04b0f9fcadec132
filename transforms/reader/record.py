"""Record of one radiograph: pixels and metadata."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pneumoseg.transforms.reader.grey import GreyScale
from pneumoseg.transforms.reader.reasons import Reason


@dataclass(frozen=True, kw_only=True, eq=False)
class Radiograph:
    """One radiograph in the orientation of its file, with the metadata of the file.

    Attributes:
        stored: Stored integers in a container of 8 or 16 bits, shape ``(rows, columns)``.
        grey: Transforms of stored integers to modality values and to an image.
        spacing_mm: Spacing of rows and of columns in mm; None where it is unknown.
        pixel_aspect: Height of a pixel over its width; 1.0 where it is unknown.
        sop_instance_uid: SOPInstanceUID, safe as a file name; None where it is missing or invalid.
        study_instance_uid: StudyInstanceUID; None where it is missing or invalid.
        series_instance_uid: SeriesInstanceUID; None where it is missing or invalid.
        patient_id: PatientID as in the file, which identifies a person.
        view: View in capitals, such as ``AP`` or ``PA``.
        laterality: ``L``, ``R``, ``B`` or ``U``.
        patient_orientation: Directions of rows and columns in the patient, such as ``("L", "F")``; None where they are
            missing or invalid.
        body_part: Body part in capitals.
        sex: ``F``, ``M`` or ``O``.
        age_years: Age in full years; also read from ages without a unit, as in the challenge.
        modality: Modality, such as ``CR`` or ``DX``; None for PNG.
        photometric_interpretation: PhotometricInterpretation; MONOCHROME2 for PNG.
        bits_stored: Number of significant bits of a stored integer.
        samples_per_pixel: 1, or 3 where grey was stored as colour.
        transfer_syntax: Transfer syntax UID; None for PNG, or where the file does not name it.
        burned_in: Whether the file declares burned-in text.
        file_sha256: Hash of the decoded bytes; empty where the radiograph does not come from a file.
        warnings: Warnings of the closed list of reasons with details, in the order of the checks.
    """

    stored: NDArray[np.integer]
    grey: GreyScale
    spacing_mm: tuple[float, float] | None = None
    pixel_aspect: float = 1.0
    sop_instance_uid: str | None = None
    study_instance_uid: str | None = None
    series_instance_uid: str | None = None
    patient_id: str | None = None
    view: str | None = None
    laterality: str | None = None
    patient_orientation: tuple[str, str] | None = None
    body_part: str | None = None
    sex: str | None = None
    age_years: int | None = None
    modality: str | None = None
    photometric_interpretation: str = "MONOCHROME2"
    bits_stored: int = 8
    samples_per_pixel: int = 1
    transfer_syntax: str | None = None
    burned_in: bool = False
    file_sha256: str = ""
    warnings: tuple[tuple[Reason, str], ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Size as ``(rows, columns)`` in pixels."""
        rows, columns = self.stored.shape
        return rows, columns

    @cached_property
    def values(self) -> NDArray[np.float32]:
        """Modality values in MONOCHROME2 sense before the VOI transform, shape ``(rows, columns)``."""
        return self.grey.values(self.stored)

    @cached_property
    def image(self) -> NDArray[np.float32]:
        """Displayed greys in [0, 1], after VOI transform and at most one inversion, shape ``(rows, columns)``."""
        return self.grey.image(self.stored)

    @cached_property
    def pixel_sha256(self) -> str:
        """Hash of the decoded pixels in the layout of pydicom's `pixel_array`, little-endian.

        Two files with the same picture in different encodings have the same hash.
        """
        pixels = self.stored.astype(self.stored.dtype.newbyteorder("<"), copy=False)
        if self.samples_per_pixel > 1:
            pixels = np.repeat(pixels, self.samples_per_pixel, axis=1)
        return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()
