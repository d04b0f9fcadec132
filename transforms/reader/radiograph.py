"""The door: one file, DICOM or PNG, to one radiograph, or to the reason why not."""

import hashlib
import os
import stat
from dataclasses import replace
from enum import StrEnum
from errno import ELOOP, ENAMETOOLONG, ENOTDIR
from pathlib import Path

from pneumoseg.transforms.reader.acceptance import AcceptanceFilters as AcceptanceFilters  # noqa: PLC0414  (a name of this door)
from pneumoseg.transforms.reader.acceptance import show
from pneumoseg.transforms.reader.dicom import read_dicom
from pneumoseg.transforms.reader.dicom_file import looks_like_dicom
from pneumoseg.transforms.reader.png import PNG_SIGNATURE, read_png
from pneumoseg.transforms.reader.quality import look_at
from pneumoseg.transforms.reader.reasons import RadiographError as RadiographError  # noqa: PLC0414
from pneumoseg.transforms.reader.reasons import Reason
from pneumoseg.transforms.reader.record import Radiograph as Radiograph  # noqa: PLC0414

_START_BYTES = 132  # preamble and prefix
_DEFAULT_ACCEPTANCE = AcceptanceFilters()


class FileKind(StrEnum):
    """What a file is or claims to be."""

    DICOM = "dicom"
    PNG = "png"
    OTHER = "other"


_SUFFIXES = {
    ".dcm": FileKind.DICOM,
    ".dicom": FileKind.DICOM,
    ".dic": FileKind.DICOM,
    ".png": FileKind.PNG,
}


def read_radiograph(
    path: str | os.PathLike[str], *, acceptance: AcceptanceFilters = _DEFAULT_ACCEPTANCE
) -> Radiograph:
    """Read one radiograph from a DICOM or PNG file.

    Decoding happens in this process, after all checks of header and stream. A hostile file can still
    ask a decoder for much memory: folders of unknown origin are read through a worker process.

    Args:
        path: The file. A link is followed.
        acceptance: What may pass.

    Returns: The radiograph, as stored; its `values` and `image` are computed when first used. Its warnings tell
        what is odd about the file, and where the picture looks turned, inverted or like no frontal chest.
    Raises: RadiographError: With its reason, whatever lies at *path*.
    """
    path = Path(path)
    data = _read_bytes(path, acceptance.max_bytes)
    kind = _kind_by_content(data[:_START_BYTES])
    named = _SUFFIXES.get(path.suffix.lower(), FileKind.OTHER)
    try:
        if kind is FileKind.DICOM:
            return _completed(read_dicom(data, acceptance), data)
        if kind is FileKind.PNG and named is not FileKind.DICOM:
            return _completed(read_png(data, acceptance), data)
    except MemoryError as error:
        raise RadiographError(Reason.TOO_LARGE, "the memory does not suffice") from error
    except RadiographError:
        raise
    except Exception as error:  # a file may surprise us, and the batch must go on
        raise RadiographError(Reason.BAD_HEADER, f"unexpected content ({type(error).__name__})") from error
    reason = Reason.NOT_PNG if named is FileKind.PNG else Reason.NOT_DICOM
    raise RadiographError(reason, f"the file begins with {show(data[:8].decode('latin-1'))}")


def sniff(path: str | os.PathLike[str]) -> FileKind:
    """Tell what a file is by its first bytes, or what it claims to be by its name.

    Cheap enough for every file of a folder. What is neither by content nor by name is OTHER; what
    claims to be DICOM or PNG and is not gets its reason from `read_radiograph`.
    """
    path = Path(path)
    named = _SUFFIXES.get(path.suffix.lower(), FileKind.OTHER)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
            return named
        with path.open("rb") as file:
            found = _kind_by_content(file.read(_START_BYTES))
    except (OSError, ValueError):
        return named
    if found is FileKind.OTHER or (found is FileKind.PNG and named is FileKind.DICOM):
        return named
    return found


def _completed(radiograph: Radiograph, data: bytes) -> Radiograph:
    """Add the hash of the file, and warnings about the look of the picture to those about the file."""
    return replace(
        radiograph,
        file_sha256=hashlib.sha256(data).hexdigest(),
        warnings=(*radiograph.warnings, *look_at(radiograph)),
    )


def _kind_by_content(start: bytes) -> FileKind:
    if start.startswith(PNG_SIGNATURE):
        return FileKind.PNG
    return FileKind.DICOM if looks_like_dicom(start) else FileKind.OTHER


def _read_bytes(path: Path, max_bytes: int) -> bytes:
    """Read a whole file, after asking the system what and how large it is."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            os.scandir(path).close()  # one that may not be listed is unreadable, any other is no file
        _check_status(status, max_bytes)
        return path.read_bytes()
    except RadiographError:
        raise
    except FileNotFoundError as error:
        raise RadiographError(Reason.NOT_A_FILE, "there is no such file") from error
    except OSError as error:
        reason = Reason.NOT_A_FILE if error.errno in {ELOOP, ENOTDIR, ENAMETOOLONG} else Reason.UNREADABLE
        raise RadiographError(reason, (error.strerror or type(error).__name__).lower()) from error
    except ValueError as error:
        raise RadiographError(Reason.NOT_A_FILE, "no path holds a NUL") from error


def _check_status(status: os.stat_result, max_bytes: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise RadiographError(Reason.NOT_A_FILE, "not a regular file")
    if status.st_size == 0:
        raise RadiographError(Reason.EMPTY_FILE, "0 bytes")
    if status.st_size > max_bytes:
        raise RadiographError(Reason.TOO_LARGE, f"{status.st_size} bytes; at most {max_bytes} are read")
