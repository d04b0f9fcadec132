"""Reader of one DICOM or PNG file: a radiograph, or the reason why the file is not read."""

import hashlib
import os
import stat
from dataclasses import replace
from enum import StrEnum
from errno import ELOOP, ENAMETOOLONG, ENOTDIR
from pathlib import Path

from pneumoseg.transforms.reader.acceptance import AcceptanceFilters as AcceptanceFilters  # noqa: PLC0414  (public name of this module)
from pneumoseg.transforms.reader.acceptance import show
from pneumoseg.transforms.reader.dicom import read_dicom
from pneumoseg.transforms.reader.dicom_file import looks_like_dicom, peek_uid
from pneumoseg.transforms.reader.elements import quiet_libraries
from pneumoseg.transforms.reader.png import PNG_SIGNATURE, read_png
from pneumoseg.transforms.reader.quality import look_at
from pneumoseg.transforms.reader.reasons import RadiographError as RadiographError  # noqa: PLC0414
from pneumoseg.transforms.reader.reasons import Reason
from pneumoseg.transforms.reader.record import Radiograph as Radiograph  # noqa: PLC0414

_DEFAULT_ACCEPTANCE = AcceptanceFilters()


class FileKind(StrEnum):
    """Format of a file by content, or else by name."""

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

    The file is decoded in this process, after all checks of header and stream. A hostile file can still make a decoder
    allocate much memory; read folders of unknown origin through a worker process.

    Args:
        path: Path of the file; links are followed.
        acceptance: Which files are accepted as frontal chest radiographs.

    Returns: Radiograph; its `values` and `image` are computed on first use. Its warnings report problems of the file,
        and an image that looks rotated, inverted or unlike a frontal chest.
    Raises: RadiographError: If the file is not read, with the reason.
    """
    path = Path(path)
    data = _read_bytes(path, acceptance.max_bytes)
    try:
        return _decode(data, _kind_by_name(path), acceptance)
    except RadiographError as error:
        error.file_sha256 = hashlib.sha256(data).hexdigest()
        error.sop_instance_uid = read_uid(data)
        raise


def _decode(data: bytes, named: FileKind, acceptance: AcceptanceFilters) -> Radiograph:
    kind = _kind_by_content(data)
    try:
        if kind is FileKind.DICOM:
            return _completed(read_dicom(data, acceptance), data)
        if kind is FileKind.PNG and named is not FileKind.DICOM:
            return _completed(read_png(data, acceptance), data)
    except MemoryError as error:
        raise RadiographError(Reason.TOO_LARGE, "the memory does not suffice") from error
    except RadiographError:
        raise
    except Exception as error:  # one unexpected file must not stop a batch
        raise RadiographError(Reason.BAD_HEADER, f"unexpected content ({type(error).__name__})") from error
    reason = Reason.NOT_PNG if named is FileKind.PNG else Reason.NOT_DICOM
    raise RadiographError(reason, f"the file begins with {show(data[:8].decode('latin-1'))}")


def _completed(radiograph: Radiograph, data: bytes) -> Radiograph:
    """Add the hash of the file, and the warnings about the quality of the image."""
    return replace(
        radiograph,
        file_sha256=hashlib.sha256(data).hexdigest(),
        warnings=(*radiograph.warnings, *look_at(radiograph)),
    )


def read_uid(start: bytes) -> str | None:
    """Read the SOPInstanceUID from the first bytes of a file.

    Args:
        start: First bytes of the file, or all of them.

    Returns: UID; None where the file is not DICOM, the bytes do not suffice, or the UID is missing or invalid.
    """
    with quiet_libraries():
        return peek_uid(start)


def read_start(path: str | os.PathLike[str], size: int) -> bytes:
    """Read the first bytes of a regular file.

    Args:
        path: Path of the file. A link is followed.
        size: Largest number of bytes to read.

    Returns: The bytes; none where the file is not regular or cannot be read.
    """
    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would block
            return b""
        with path.open("rb") as file:
            return file.read(size)
    except (OSError, ValueError):
        return b""


def kind_of(path: str | os.PathLike[str], start: bytes) -> FileKind:
    """Tell the kind of a file by its first bytes or, if they do not tell, by its name.

    Args:
        path: Path of the file, which is not opened.
        start: First bytes of the file, at least 132 of a longer file.
    """
    named = _kind_by_name(Path(path))
    found = _kind_by_content(start)
    if found is FileKind.OTHER or (found is FileKind.PNG and named is FileKind.DICOM):
        return named
    return found


def image_name(path: str | os.PathLike[str]) -> str:
    """Give the name of an image: that of its file without ``.dcm``, ``.dicom``, ``.dic`` or ``.png``, in any case.

    Args:
        path: Path of the file. What follows the last point of any other name is kept, such as the end of a UID.
    """
    path = Path(path)
    return path.name if _kind_by_name(path) is FileKind.OTHER else path.stem


def _kind_by_name(path: Path) -> FileKind:
    return _SUFFIXES.get(path.suffix.lower(), FileKind.OTHER)


def _kind_by_content(start: bytes) -> FileKind:
    if start.startswith(PNG_SIGNATURE):
        return FileKind.PNG
    return FileKind.DICOM if looks_like_dicom(start) else FileKind.OTHER


def _read_bytes(path: Path, max_bytes: int) -> bytes:
    """Read a whole file, after checking its type and size."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            os.scandir(path).close()  # a folder without permission is unreadable, any other is not a file
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
