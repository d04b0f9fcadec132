"""What is known of a radiograph without its pixels: enough to check a folder or to prepare a manifest."""

from dataclasses import dataclass, fields
from pathlib import Path

from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.radiograph import read_radiograph
from pneumoseg.transforms.reader.reasons import Reason


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A radiograph that could be read, less its pixels; see `Radiograph` for what the attributes mean.

    Args:
        file_sha256: Hash of the file's bytes.
        pixel_sha256: Of the decoded pixels, the same in all lossless encodings.
    """

    file_sha256: str
    pixel_sha256: str
    shape: tuple[int, int]
    spacing_mm: tuple[float, float] | None
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
    """Read a radiograph, and keep what is short; `Readers` hand it over faster than pixels.

    Raises: RadiographError: With its reason, whatever lies at *path*.
    """
    radiograph = read_radiograph(path, acceptance=acceptance)
    return Facts(**{name: getattr(radiograph, name) for name in _NAMES})
