"""What is known of a radiograph without its pixels: enough to check a folder or to prepare a manifest."""

from dataclasses import dataclass, fields
from pathlib import Path

from pneumoseg.pipeline.files import sha256_of
from pneumoseg.transforms.gates import Gates
from pneumoseg.transforms.radiograph import Radiograph, read_radiograph
from pneumoseg.transforms.reasons import RadiographError, Reason


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A radiograph that could be read, less its pixels; see `Radiograph` for what the attributes mean.

    Args:
        file_sha256: Of the file's content.
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


_OF_RADIOGRAPH = tuple(field.name for field in fields(Facts) if field.name != "file_sha256")


def read_facts(path: Path, *, gates: Gates) -> Facts:
    """Read a radiograph, and keep what is short; `Readers` hand it over faster than pixels.

    Raises: RadiographError: With its reason, whatever lies at *path*.
    """
    radiograph, file_sha256 = read_hashed(path, gates=gates)
    return Facts(file_sha256=file_sha256, **{name: getattr(radiograph, name) for name in _OF_RADIOGRAPH})


def read_hashed(path: Path, *, gates: Gates) -> tuple[Radiograph, str]:
    """Read a radiograph, and the SHA-256 of its file.

    Raises: RadiographError: With its reason, whatever lies at *path*.
    """
    radiograph = read_radiograph(path, gates=gates)
    try:
        return radiograph, sha256_of(path)
    except OSError as error:
        raise RadiographError(Reason.UNREADABLE, "the file has gone while it was read") from error
