"""Parser of a DICOM file: preamble, file header, encoding, and data set up to the pixels."""

import zlib
from dataclasses import dataclass

from pydicom import uid

from pneumoseg.transforms.reader.elements import Elements, tags_of
from pneumoseg.transforms.reader.reasons import RadiographError, Reason, Warnings
from pneumoseg.transforms.reader.scan import PixelElement, Scan, is_vr

_META_KEYWORDS = frozenset({"TransferSyntaxUID", "MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID"})


@dataclass(frozen=True)
class DicomFile:
    """DICOM file with a parsed header and undecoded pixels.

    Attributes:
        meta: File Meta Information: transfer syntax, SOP class and instance.
        elements: Requested elements.
        body: Bytes of the data set; inflated where it was deflated.
        pixels: Position of the pixels; None without pixels.
        transfer_syntax: Transfer syntax UID; None where the file does not name it.
        little_endian: Actual byte order of the data set, which may differ from the declared one.
        warnings: Warnings about the header.
    """

    meta: Elements
    elements: Elements
    body: bytes
    pixels: PixelElement | None
    transfer_syntax: str | None
    little_endian: bool
    warnings: Warnings


def looks_like_dicom(start: bytes) -> bool:
    """Check whether a file is DICOM by its prefix, or by its first element.

    Args:
        start: First 132 bytes of the file.
    """
    if start[128:132] == b"DICM":
        return True
    group = int.from_bytes(start[:2], "little")
    element = int.from_bytes(start[2:4], "little")
    if group not in {0x0002, 0x0008} or element > 0x0020 or len(start) < 16:
        return False
    return not _is_implicit(start) or int.from_bytes(start[4:8], "little") < 256


def _is_implicit(start: bytes) -> bool:
    """Check whether the first element of a data set has no VR."""
    return not is_vr(start[4:6])


def read_dicom_file(data: bytes, keywords: frozenset[str], *, max_bytes: int) -> DicomFile:
    """Read the header of a DICOM file.

    Args:
        data: Content of the file.
        keywords: Keywords of the elements to keep; all others are skipped.
        max_bytes: Largest inflated size of a deflated data set in bytes.

    Raises:
        RadiographError: NOT_DICOM, BAD_HEADER, TRUNCATED or TOO_LARGE.
    """
    warnings: Warnings = []
    if not looks_like_dicom(data[:132]):
        raise RadiographError(
            Reason.NOT_DICOM, "there is no DICM prefix, and no element that a header starts with"
        )
    start = 132
    if data[128:132] != b"DICM":
        warnings.append((Reason.NO_PREAMBLE, "there is no DICM prefix"))
        start = 0
    meta, start = _read_meta(data, start)
    transfer_syntax = meta.text("TransferSyntaxUID") or None
    if transfer_syntax == uid.DeflatedExplicitVRLittleEndian:
        body, start = _inflate(data[start:], max_bytes), 0
    else:
        body = data
    implicit, little_endian = _encoding(body[start : start + 6], transfer_syntax, warnings)
    scan = Scan(body, start, implicit, little_endian)
    tags = tags_of(keywords | {"SpecificCharacterSet"})  # without which no text can be read
    scan.read(tags)
    if scan.pixels is not None:
        scan.check_rest(tags, scan.pixels)
    elements = Elements(scan.elements, little_endian)
    return DicomFile(meta, elements, body, scan.pixels, transfer_syntax, little_endian, warnings)


def peek_uid(start: bytes) -> str | None:
    """Read the SOPInstanceUID, which is one of the first elements of a DICOM file, from its first bytes.

    Args:
        start: First bytes of the file.

    Returns: UID; None where the bytes do not suffice, or it is missing or invalid.
    """
    if not looks_like_dicom(start[:132]):
        return None
    tags = tags_of(frozenset({"SOPInstanceUID"}))
    try:
        meta, position = _read_meta(start, 132 if start[128:132] == b"DICM" else 0)
        transfer_syntax = meta.text("TransferSyntaxUID") or None
        if transfer_syntax == uid.DeflatedExplicitVRLittleEndian:
            start = zlib.decompressobj(-zlib.MAX_WBITS).decompress(start[position:], len(start))
            position = 0
        implicit, little_endian = _encoding(start[position : position + 6], transfer_syntax, [])
        scan = Scan(start, position, implicit, little_endian)
        scan.read(tags, stop=lambda _tag: bool(scan.elements))
        return Elements(scan.elements, little_endian).uid("SOPInstanceUID")
    except (RadiographError, zlib.error):
        return None


def _read_meta(data: bytes, start: int) -> tuple[Elements, int]:
    """Read group 0002, which should be explicit little endian; return it and where the data set begins."""
    if data[start : start + 2] != b"\x02\x00":
        return Elements({}), start
    implicit = _is_implicit(data[start : start + 6])
    scan = Scan(data, start, implicit, little_endian=True)
    scan.read(tags_of(_META_KEYWORDS), stop=lambda tag: tag >> 16 != 2)
    return Elements(scan.elements), scan.end


def _inflate(deflated: bytes, max_bytes: int) -> bytes:
    """Inflate a data set up to a limit, since 1 KiB can inflate to 1 MiB."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        body = inflater.decompress(deflated, max_bytes + 1)
    except zlib.error as error:
        raise RadiographError(Reason.BAD_HEADER, "the deflated data set is damaged") from error
    if len(body) > max_bytes:
        raise RadiographError(Reason.TOO_LARGE, f"inflates to more than {max_bytes} bytes")
    if not inflater.eof:
        raise RadiographError(Reason.TRUNCATED, "the deflated data set is cut")
    return body


def _encoding(first: bytes, transfer_syntax: str | None, warnings: Warnings) -> tuple[bool, bool]:
    """Detect (implicit VR, little endian) from the first element, and compare it with the transfer syntax."""
    group = int.from_bytes(first[:2], "little")
    little_endian = group < 0x0400  # 0008 with swapped bytes is 0800
    implicit = _is_implicit(first)
    if transfer_syntax is None:
        warnings.append((Reason.NO_TRANSFER_SYNTAX, "there is no TransferSyntaxUID"))
        return implicit, little_endian
    says_implicit = transfer_syntax == uid.ImplicitVRLittleEndian
    says_little_endian = transfer_syntax != uid.ExplicitVRBigEndian
    if first and (says_implicit, says_little_endian) != (implicit, little_endian):
        found = f"{'implicit' if implicit else 'explicit'} VR, {'little' if little_endian else 'big'} endian"
        warnings.append((Reason.WRONG_TRANSFER_SYNTAX, f"the data set is in {found}"))
    return implicit, little_endian
