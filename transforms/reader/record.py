"""What is known of one radiograph after reading it."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pneumoseg.transforms.reader.grey import GreyScale
from pneumoseg.transforms.reader.reasons import Reason


@dataclass(frozen=True, kw_only=True, eq=False)
class Radiograph:
    """One frontal radiograph, upright as stored, with what its file says about it.

    Attributes:
        stored: Integers as stored, (rows, columns), in a container of 8 or 16 bits.
        grey: How stored integers become values and an image.
        spacing_mm: Pixel size as (row, column) spacing, or None where it is not known.
        pixel_aspect: Height of a pixel over its width; 1.0 where nothing says otherwise.
        sop_instance_uid: None where it is missing or invalid, so that it is always safe as a name.
        study_instance_uid: None where it is missing or invalid.
        series_instance_uid: None where it is missing or invalid.
        patient_id: As in the file; it identifies a person.
        view: ``AP``, ``PA``, ... in capitals.
        laterality: ``L``, ``R``, ``B`` or ``U``.
        patient_orientation: Where in the patient the rows and the columns lead, as ``("L", "F")``; None where that
            is missing or no orientation.
        body_part: In capitals.
        sex: ``F``, ``M`` or ``O``.
        age_years: Full years; also read from ages without a unit, as the challenge has them.
        modality: ``CR``, ``DX``, ...; None for PNG.
        photometric_interpretation: As in the file; a PNG counts as MONOCHROME2.
        bits_stored: Significant bits of a stored integer.
        samples_per_pixel: 1, or 3 where grey was stored as colour.
        transfer_syntax: UID; None for PNG or where the file names none.
        burned_in: Whether the file says that text is burned into the pixels.
        file_sha256: Hash of the bytes that were decoded; empty where the radiograph does not come from a file.
        warnings: Reasons of the closed list with their details, in the order found.
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
        """Size as (rows, columns)."""
        rows, columns = self.stored.shape
        return rows, columns

    @cached_property
    def values(self) -> NDArray[np.float32]:
        """Modality values in MONOCHROME2 sense, before any VOI transform, (rows, columns)."""
        return self.grey.values(self.stored)

    @cached_property
    def image(self) -> NDArray[np.float32]:
        """What a reader would see: after VOI and at most one inversion, in [0, 1], (rows, columns)."""
        return self.grey.image(self.stored)

    @cached_property
    def pixel_sha256(self) -> str:
        """Hash of the decoded pixels as pydicom's `pixel_array` lays them out, little-endian.

        Two files with the same picture in different encodings have the same hash.
        """
        pixels = self.stored.astype(self.stored.dtype.newbyteorder("<"), copy=False)
        if self.samples_per_pixel > 1:
            pixels = np.repeat(pixels, self.samples_per_pixel, axis=1)
        return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()
