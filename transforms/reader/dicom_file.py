"""Parser of a DICOM file: preamble, file header, encoding, and data set up to the pixels."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, EXPLICIT_VR_LENGTH_32

from pneumoseg.transforms.reader.elements import Elements, tags_of
from pneumoseg.transforms.reader.reasons import RadiographError, Reason, Warnings

_UNDEFINED_LENGTH = 0xFFFFFFFF
_PIXEL_DATA, _FLOAT_PIXEL_DATA, _DOUBLE_FLOAT_PIXEL_DATA = 0x7FE00010, 0x7FE00008, 0x7FE00009
_PIXEL_TAGS = {_PIXEL_DATA, _FLOAT_PIXEL_DATA, _DOUBLE_FLOAT_PIXEL_DATA}
_ITEM_GROUP, _ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFE, 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_SHORT_VRS = frozenset(vr.encode() for vr in EXPLICIT_VR_LENGTH_16)
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
    has_vr = start[4:6].isalpha() and start[4:6].isupper()
    return has_vr or int.from_bytes(start[4:8], "little") < 256


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
    dataset = scan.read(tags_of(keywords))
    elements = Elements(dataset, little_endian)
    return DicomFile(meta, elements, body, scan.pixels, transfer_syntax, little_endian, warnings)


def peek_uid(start: bytes) -> str | None:
    """Read the SOPInstanceUID, which is one of the first elements of a DICOM file, from its first bytes.

    Args:
        start: First bytes of the file.

    Returns: UID; None where the bytes do not suffice, or it is missing or invalid.
    """
    if not looks_like_dicom(start[:132]):
        return None
    (tag,) = tags_of(["SOPInstanceUID"])
    try:
        meta, position = _read_meta(start, 132 if start[128:132] == b"DICM" else 0)
        transfer_syntax = meta.text("TransferSyntaxUID") or None
        if transfer_syntax == uid.DeflatedExplicitVRLittleEndian:
            start = zlib.decompressobj(-zlib.MAX_WBITS).decompress(start[position:], len(start))
            position = 0
        implicit, little_endian = _encoding(start[position : position + 6], transfer_syntax, [])
        scan = _Scan(start, position, implicit, little_endian, stop=lambda found: found > tag)
        return Elements(scan.read([tag]), little_endian).uid("SOPInstanceUID")
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
    """Read group 0002, always explicit little endian; return it and where the data set begins."""
    if data[start : start + 2] != b"\x02\x00":
        return Elements(Dataset()), start
    scan = _Scan(data, start, implicit=False, little_endian=True, stop=lambda tag: tag >> 16 != 2)
    meta = scan.read(None)
    return Elements(meta), scan.buffer.tell()


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
    implicit = not (first[4:6].isalpha() and first[4:6].isupper())
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
    """One pass of pydicom's reader over a data set, which records where elements end and pixels begin."""

    body: bytes
    start: int
    implicit: bool
    little_endian: bool
    stop: Callable[[int], bool] = lambda tag: tag in _PIXEL_TAGS
    pixels: PixelElement | None = None
    end: int = 0
    last_tag: int = 0
    is_stopped: bool = False
    is_sorted: bool = True
    buffer: io.BytesIO = field(init=False)

    def __post_init__(self) -> None:
        self.buffer = io.BytesIO(self.body)

    def read(self, tags: list[int] | None) -> Dataset:
        """Read the data set up to the element that stops the scan, or to its end."""
        self.buffer.seek(self.start)
        try:
            dataset = read_dataset(
                self.buffer, self.implicit, self.little_endian, stop_when=self._watch, specific_tags=tags
            )
        except RadiographError:
            raise
        except RecursionError as error:
            raise _bad("sequences are nested too deeply") from error
        except Exception as error:  # pydicom raises all kinds; their text may quote values
            raise _bad(f"cannot be parsed ({type(error).__name__})") from error
        if self.is_stopped:
            return dataset
        if 0 < len(self.body) - self.end < 8:
            raise RadiographError(Reason.TRUNCATED, "the file ends within the header of an element")
        if self.buffer.tell() < len(self.body) or not self.is_sorted:
            raise _bad("the parse was lost within the data set, which may hold an image behind that place")
        return dataset

    def _watch(self, tag: int, vr: str | None, length: int) -> bool:
        """Check each element of the top level before its value is read."""
        position = self.buffer.tell()
        is_padding = tag == 0 and not self.body[position:].strip(b"\0")
        self.is_stopped = self.stop(tag) or is_padding
        if tag in _PIXEL_TAGS:
            defined = None if length == _UNDEFINED_LENGTH else length
            self.pixels = PixelElement(position, defined, vr == "OW", tag != _PIXEL_DATA)
        if self.is_stopped:
            return True
        if length == _UNDEFINED_LENGTH:
            if vr not in {"SQ", "UN", None}:
                raise _bad(f"the element of VR {vr} at byte {position} has no length")
            _end_of_sequence(self, position)
        elif tag >> 16 == _ITEM_GROUP:
            raise _bad(f"an item or a delimiter is outside of a sequence at byte {position}")
        elif position + length > len(self.body):
            raise RadiographError(
                Reason.TRUNCATED,
                f"the element at byte {position} needs {length} bytes, {len(self.body) - position} are there",
            )
        self.is_sorted &= tag > self.last_tag
        self.last_tag, self.end = tag, position + length
        return False


def _end_of_sequence(scan: _Scan, position: int) -> int:
    """Find the end of a sequence of undefined length.

    Where a delimiter is missing, pydicom takes whatever follows for an item, and so may lose the pixels.
    """
    while True:
        tag, length = _header(scan, position)
        position += 8
        if tag == _SEQUENCE_END:
            return position
        if tag != _ITEM:
            raise _bad(f"a sequence has neither an item nor its end at byte {position - 8}")
        position = _end_of_item(scan, position) if length == _UNDEFINED_LENGTH else position + length


def _end_of_item(scan: _Scan, position: int) -> int:
    """Find the end of an item of undefined length."""
    while True:
        tag, length = _header(scan, position)
        vr = b"" if scan.implicit else scan.body[position + 4 : position + 6]
        position += 8
        if tag == _ITEM_END:
            return position
        if tag >> 16 == _ITEM_GROUP:
            raise _bad(f"an item of a sequence has no end at byte {position - 8}")
        if vr in _SHORT_VRS:
            length = length >> 16 if scan.little_endian else length & 0xFFFF
        elif vr in _LONG_VRS:  # others are implicit, as in a sequence of VR UN
            _, length = _header(scan, position - 4)
            position += 4
        position = _end_of_sequence(scan, position) if length == _UNDEFINED_LENGTH else position + length


def _header(scan: _Scan, position: int) -> tuple[int, int]:
    """Unpack a tag and four bytes of length; these hold the VR of an explicit element."""
    try:
        group, element, length = struct.unpack_from(
            "<HHL" if scan.little_endian else ">HHL", scan.body, position
        )
    except struct.error:
        raise _bad("the file ends within a sequence") from None
    return group << 16 | element, length


def _bad(detail: str) -> RadiographError:
    return RadiographError(Reason.BAD_HEADER, detail)
