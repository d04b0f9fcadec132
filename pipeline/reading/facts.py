"""Attributes of a radiograph without its pixels, for checking a folder and preparing a manifest."""

from dataclasses import dataclass, fields
from pathlib import Path

from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.radiograph import read_radiograph
from pneumoseg.transforms.reader.reasons import Reason


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A radiograph without its pixels; see `Radiograph` for its attributes.

    Args:
        file_sha256: Hash of the bytes of the file.
        pixel_sha256: Hash of the decoded pixels, the same in all lossless encodings.
    """

    file_sha256: str
    pixel_sha256: str
    shape: tuple[int, int]
    spacing_mm: tuple[float, float] | None
    patient_orientation: tuple[str, str] | None
    sop_instance_uid: str | None
    patient_id: str | None
    view: str | None
    sex: str | None
    age_years: int | None
    modality: str | None
    photometric_interpretation: str
    bits_stored: int
    transfer_syntax: str | None
    warnings: tuple[tuple[Reason, str], ...]


_NAMES = tuple(field.name for field in fields(Facts))


def read_facts(path: Path, *, acceptance: AcceptanceFilters) -> Facts:
    """Read a radiograph without keeping its pixels, which `Readers` would have to transfer.

    Args:
        path: Path of the file.
        acceptance: Which files are accepted as frontal chest radiographs.

    Raises: RadiographError: If the file cannot be used.
    """
    radiograph = read_radiograph(path, acceptance=acceptance)
    return Facts(**{name: getattr(radiograph, name) for name in _NAMES})
