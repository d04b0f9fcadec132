"""Parser of a DICOM file: preamble, file header, encoding, and data set up to the pixels."""

import struct
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from pydicom import uid
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from pneumoseg.transforms.reader.elements import UNDEFINED_LENGTH, Elements, tags_of
from pneumoseg.transforms.reader.reasons import RadiographError, Reason, Warnings

_PIXEL_DATA, _FLOAT_PIXEL_DATA, _DOUBLE_FLOAT_PIXEL_DATA = 0x7FE00010, 0x7FE00008, 0x7FE00009
_PIXEL_TAGS = frozenset({_PIXEL_DATA, _FLOAT_PIXEL_DATA, _DOUBLE_FLOAT_PIXEL_DATA})
_ITEM_GROUP, _ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFE, 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG_VRS = frozenset(vr.encode() for vr in EXPLICIT_VR_LENGTH_32)


@dataclass(frozen=True)
class PixelElement:
    """Position of the pixels in a file.

    Attributes:
        position: Offset of the value in the body in bytes.
        length: Length of the value in bytes; None where it is undefined, as for compressed pixels.
        words: Whether the VR is OW.
        floating: Whether this is Float or Double Float Pixel Data.
    """

    position: int
    length: int | None
    words: bool
    floating: bool


@dataclass(frozen=True)
class DicomFile:
    """DICOM file with a parsed header and undecoded pixels.

    Attributes:
        meta: File Meta Information.
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
    return not (start[4:6].isalpha() and start[4:6].isupper())


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
    scan = _Scan(body, start, implicit, little_endian)
    elements = Elements(scan.read(tags_of(keywords)), little_endian)
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
        scan = _Scan(start, position, implicit, little_endian, stop=lambda tag: tag > max(tags))
        return Elements(scan.read(tags), little_endian).uid("SOPInstanceUID")
    except (RadiographError, zlib.error):
        return None


def pixel_items(body: bytes, pixels: PixelElement) -> Iterator[memoryview]:
    """Iterate over the items of encapsulated pixel data: the offset table, then the fragments.

    `pydicom.encaps` raises the same error for truncated and for invalid items, and accepts a last fragment that is cut.

    Args:
        body: Bytes of the data set.
        pixels: Position of the pixels.

    Raises: RadiographError: TRUNCATED or DECODE_ERROR.
    Source: DICOM PS3.5 Annex A.4.
    """
    end = len(body) if pixels.length is None else pixels.position + pixels.length
    value = memoryview(body)[pixels.position : end]
    if len(value) < 8:
        raise RadiographError(Reason.TRUNCATED, "the file ends where the pixels begin")
    position = 0
    while position + 8 <= len(value):
        group, element, length = struct.unpack_from("<HHL", value, position)
        tag = group << 16 | element
        if tag == _SEQUENCE_END:
            return
        if tag != _ITEM:
            raise RadiographError(Reason.DECODE_ERROR, "the compressed pixels are not in items")
        begin = position + 8
        position = begin + length
        if position > len(value):
            raise RadiographError(
                Reason.TRUNCATED, f"{len(value) - begin} of {length} bytes of a fragment are there"
            )
        yield value[begin:position]
    if pixels.length is None:
        raise RadiographError(Reason.TRUNCATED, "the file ends before the delimiter of the pixels")


def _read_meta(data: bytes, start: int) -> tuple[Elements, int]:
    """Read group 0002, which should be explicit little endian; return it and where the data set begins."""
    if data[start : start + 2] != b"\x02\x00":
        return Elements({}), start
    implicit = _is_implicit(data[start : start + 6])
    scan = _Scan(data, start, implicit, little_endian=True, stop=lambda tag: tag >> 16 != 2)
    return Elements(scan.read(None)), scan.end


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


@dataclass
class _Scan:
    """One pass over the top level of a data set, which finds its elements, its pixels, and where it is damaged.

    pydicom's reader takes five times as long, and continues where the parse is lost, which may hide the pixels.
    """

    body: bytes
    start: int
    implicit: bool
    little_endian: bool
    stop: Callable[[int], bool] = _PIXEL_TAGS.__contains__
    pixels: PixelElement | None = None
    end: int = 0

    def read(self, tags: Collection[int] | None) -> dict[int, RawDataElement]:
        """Read the elements of *tags*, or all, up to the one that stops the scan; `end` is where that begins."""
        elements: dict[int, RawDataElement] = {}
        self.end, last_tag, is_sorted = self.start, 0, True
        while len(self.body) - self.end >= 8:
            try:
                tag, vr, length, position = self._header(self.end)
            except struct.error:
                break
            if tag in _PIXEL_TAGS:
                defined = None if length == UNDEFINED_LENGTH else length
                self.pixels = PixelElement(position, defined, vr == "OW", tag != _PIXEL_DATA)
            is_padding = tag == 0 and not self.body[position:].strip(b"\0")
            if self.stop(tag) or is_padding:
                return elements
            end = self._end_of_element(tag, vr, length, position)
            if tags is None or tag in tags:
                vr = "SQ" if length == UNDEFINED_LENGTH else vr
                value = self.body[position:end]
                elements[tag] = RawDataElement(
                    BaseTag(tag), vr, length, value, position, self.implicit, self.little_endian
                )
            is_sorted &= tag > last_tag
            self.end, last_tag = end, tag
        if self.end < len(self.body):
            raise RadiographError(Reason.TRUNCATED, "the file ends within the header of an element")
        if not is_sorted:
            raise _bad("the parse was lost within the data set, which may hold an image behind that place")
        return elements

    def _header(self, position: int) -> tuple[int, str | None, int, int]:
        """Unpack tag, VR and length of an element, and where its value begins.

        In an explicit data set, items and the elements of a sequence of VR UN have no VR (PS3.5 6.2.2, 7.5).
        """
        order = "<" if self.little_endian else ">"
        group, element, vr, length = struct.unpack_from(f"{order}HH2sH", self.body, position)
        tag = group << 16 | element
        if self.implicit or group == _ITEM_GROUP or not b"AA" <= vr <= b"ZZ":
            return tag, None, struct.unpack_from(f"{order}L", self.body, position + 4)[0], position + 8
        if vr in _LONG_VRS:
            return (
                tag,
                vr.decode(),
                struct.unpack_from(f"{order}L", self.body, position + 8)[0],
                position + 12,
            )
        return tag, vr.decode("latin-1"), length, position + 8

    def _end_of_element(self, tag: int, vr: str | None, length: int, position: int) -> int:
        """Find the end of an element of the top level."""
        if length == UNDEFINED_LENGTH:
            if vr not in {"SQ", "UN", None}:
                raise _bad(f"the element of VR {vr} at byte {position} has no length")
            try:
                return self._end_of_sequence(position)
            except struct.error:
                raise _bad("the file ends within a sequence") from None
            except RecursionError as error:
                raise _bad("sequences are nested too deeply") from error
        if tag >> 16 == _ITEM_GROUP:
            raise _bad(f"an item or a delimiter is outside of a sequence at byte {position}")
        if position + length > len(self.body):
            raise RadiographError(
                Reason.TRUNCATED,
                f"the element at byte {position} needs {length} bytes, {len(self.body) - position} are there",
            )
        return position + length

    def _end_of_sequence(self, position: int) -> int:
        """Find the end of a sequence of undefined length."""
        while True:
            tag, _, length, begin = self._header(position)
            if tag == _SEQUENCE_END:
                return begin
            if tag != _ITEM:
                raise _bad(f"a sequence has neither an item nor its end at byte {position}")
            position = self._end_of_item(begin) if length == UNDEFINED_LENGTH else begin + length

    def _end_of_item(self, position: int) -> int:
        """Find the end of an item of undefined length."""
        while True:
            tag, _, length, begin = self._header(position)
            if tag == _ITEM_END:
                return begin
            if tag >> 16 == _ITEM_GROUP:
                raise _bad(f"an item of a sequence has no end at byte {position}")
            position = self._end_of_sequence(begin) if length == UNDEFINED_LENGTH else begin + length


def _bad(detail: str) -> RadiographError:
    return RadiographError(Reason.BAD_HEADER, detail)
