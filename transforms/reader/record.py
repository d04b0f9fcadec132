"""Record of one radiograph: pixels, orientation and metadata."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pneumoseg.transforms.reader.grey import GreyScale
from pneumoseg.transforms.reader.reasons import Reason

_AXIS_OF = {letter: axis for axis in ("AP", "LR", "HF") for letter in axis}
_Array = TypeVar("_Array")
_Pair = TypeVar("_Pair", bound=tuple[Any, Any])


def read_directions(text: str) -> tuple[str, str] | None:
    """Read the directions of the stored rows and columns in the patient.

    Args:
        text: Value of PatientOrientation: two directions with a backslash between them.

    Returns: Directions of one to three letters ``A P R L H F`` in capitals, the axis that is followed most coming
        first; None where they are missing, invalid, or along one axis.
    Source: DICOM PS3.3 C.7.6.1.1.1.
    """
    directions = [part.strip().upper() for part in text.split("\\")]
    axes = [[_AXIS_OF.get(letter, "") for letter in direction] for direction in directions]
    if len(axes) != 2 or not all(each and all(each) and len(each) == len(set(each)) for each in axes):
        return None
    return (directions[0], directions[1]) if axes[0][0] != axes[1][0] else None


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways in which stored pixels can differ from an upright image: a rotation, mirrored or not.

    Upright is a frontal image with the head at its top and the patient's right at its left, as it is usually shown.
    Stored pixels become upright by exchanging rows and columns, and then reversing their order.

    Attributes:
        exchanged: Whether stored rows are columns of the upright image.
        rows_reversed: Whether the upright rows are in reverse order.
        columns_reversed: Whether the upright columns are in reverse order.
    """

    exchanged: bool = False
    rows_reversed: bool = False
    columns_reversed: bool = False

    @classmethod
    def of(cls, patient_orientation: Sequence[str] | None) -> "Orientation":
        """Derive the orientation from PatientOrientation.

        Args:
            patient_orientation: Directions as `read_directions` gives them; only the first letter of each counts.

        Returns: Orientation; that of an upright image where the directions are unknown, or not those of a frontal view.
        """
        along_rows, along_columns = (each[0] for each in patient_orientation or ("L", "F"))
        if along_rows in "LR" and along_columns in "HF":
            return cls(False, along_columns == "H", along_rows == "R")
        if along_rows in "HF" and along_columns in "LR":
            return cls(True, along_rows == "H", along_columns == "R")
        return cls()

    def apply(self, stored: _Array) -> _Array:
        """Bring stored pixels upright.

        Args:
            stored: NumPy array or torch tensor whose last two dimensions are the stored rows and columns.

        Returns: Array or tensor of the same kind; the same one where nothing has to be done.
        """
        return self._reverse(_exchange(stored) if self.exchanged else stored)

    def invert(self, upright: _Array) -> _Array:
        """Put pixels of the upright image back into the order of the stored ones.

        Args:
            upright: NumPy array or torch tensor whose last two dimensions are rows and columns of the upright image.

        Returns: Array or tensor of the same kind; the same one where nothing has to be done.
        """
        return _exchange(self._reverse(upright)) if self.exchanged else self._reverse(upright)

    def swap(self, pair: _Pair) -> _Pair:
        """Exchange a value of the rows and one of the columns, such as a shape or a spacing, where these are exchanged.

        Args:
            pair: Values of the stored pixels for those of the upright image, or the other way round.
        """
        return pair[::-1] if self.exchanged else pair  # type: ignore[return-value]  # a pair stays a pair

    def _reverse(self, array: _Array) -> _Array:
        axes = (-2,) * self.rows_reversed + (-1,) * self.columns_reversed
        if not axes:
            return array
        flipped: _Array = array.flip(axes) if hasattr(array, "flip") else np.flip(array, axes)  # type: ignore[call-overload]
        return flipped


def _exchange(array: Any) -> Any:
    return array.swapaxes(-1, -2)


@dataclass(frozen=True, kw_only=True, eq=False)
class Radiograph:
    """One radiograph with its pixels in the order of the file, which `orientation` brings upright, and metadata.

    Attributes:
        stored: Stored integers in a container of 8 or 16 bits, shape ``(rows, columns)``.
        grey: Transforms of stored integers to modality values and to an image.
        spacing_mm: Spacing of rows and of columns in mm; None where it is unknown.
        is_calibrated: Whether the spacing is known to be that in the patient, and not that of the detector.
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
        header: Bytes of a DICOM file before the value of its pixels, inflated where they were deflated; empty for PNG.
            They identify a person.
        warnings: Warnings of the closed list of reasons with details, in the order of the checks.
    """

    stored: NDArray[np.integer]
    grey: GreyScale
    spacing_mm: tuple[float, float] | None = None
    is_calibrated: bool = False
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
    header: bytes = field(default=b"", repr=False)
    warnings: tuple[tuple[Reason, str], ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Size as ``(rows, columns)`` in pixels."""
        rows, columns = self.stored.shape
        return rows, columns

    @property
    def orientation(self) -> Orientation:
        """How the stored pixels become an upright image; nothing is changed where the file does not tell."""
        return Orientation.of(self.patient_orientation)

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
