"""Parser of the elements of a data set: one pass over its top level, up to the pixels.

pydicom's reader takes five times as long, and continues where the parse is lost, which may hide the pixels: a file that
is damaged would count as one without an image. Values are converted by `Elements`, and the items of the few sequences
that are needed are parsed by pydicom.

Source: DICOM PS3.5 7 (data sets), 6.2.2 (VR UN) and Annex A.4 (encapsulated pixels).
"""

import struct
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from pneumoseg.transforms.reader.elements import UNDEFINED_LENGTH
from pneumoseg.transforms.reader.reasons import RadiographError, Reason

_PIXEL_DATA, _FLOAT_PIXEL_DATA, _DOUBLE_FLOAT_PIXEL_DATA = 0x7FE00010, 0x7FE00008, 0x7FE00009
_PIXEL_TAGS = frozenset({_PIXEL_DATA, _FLOAT_PIXEL_DATA, _DOUBLE_FLOAT_PIXEL_DATA})
_ITEM_GROUP, _ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFE, 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG_VRS = frozenset(vr.encode() for vr in EXPLICIT_VR_LENGTH_32)
_EXPLICIT = {True: struct.Struct("<HH2sH"), False: struct.Struct(">HH2sH")}  # by whether it is little endian
_LENGTH = {True: struct.Struct("<L"), False: struct.Struct(">L")}


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


class _Header(NamedTuple):
    """Header of an element, an item or a delimiter; its value begins at `position`, in bytes."""

    tag: int
    vr: str | None
    length: int
    position: int


@dataclass
class Scan:
    """One pass over the top level of a data set, which finds its elements, its pixels, and where it is damaged.

    Attributes:
        body: Bytes of the data set, and maybe others before it.
        start: Offset of the first element in bytes.
        implicit: Whether elements have no VR.
        little_endian: Whether the bytes of a number are in ascending order.
        elements: Elements that were read.
        pixels: Position of the pixels, where the pass ends.
        end: Where the element begins that the pass ended at.
    """

    body: bytes
    start: int
    implicit: bool
    little_endian: bool
    elements: dict[int, RawDataElement] = field(default_factory=dict)
    pixels: PixelElement | None = None
    end: int = 0

    def read(self, tags: Collection[int], stop: Callable[[int], bool] = lambda _tag: False) -> None:
        """Read elements up to the pixels.

        Args:
            tags: Tags of the elements to keep.
            stop: Function of a tag that tells whether to stop before that element.

        Raises: RadiographError: TRUNCATED or BAD_HEADER.
        """
        self.end, last_tag, is_sorted = self.start, 0, True
        while len(self.body) - self.end >= 8:
            try:
                tag, vr, length, position = self._header(self.end, implicit=self.implicit)
            except struct.error:
                break
            if tag in _PIXEL_TAGS:
                defined = None if length == UNDEFINED_LENGTH else length
                self.pixels = PixelElement(position, defined, vr == "OW", tag != _PIXEL_DATA)
            if tag in _PIXEL_TAGS or stop(tag) or self._is_padding(tag, position):
                return
            end = self._end_of_element(tag, vr, length, position)
            if tag in tags:
                vr = "SQ" if length == UNDEFINED_LENGTH else vr
                element = RawDataElement(
                    BaseTag(tag),
                    vr,
                    length,
                    self.body[position:end],
                    position,
                    self.implicit,
                    self.little_endian,
                )
                first = self.elements.setdefault(tag, element)
                if first.value != element.value:  # some readers use the first, others the last
                    raise _bad(f"{keyword_for_tag(tag)} is there twice, with different values")
            is_sorted &= tag > last_tag
            self.end, last_tag = end, tag
        if self.end < len(self.body):
            raise RadiographError(Reason.TRUNCATED, "the file ends within the header of an element")
        if not is_sorted:
            raise _bad("the parse was lost within the data set, which may hold an image behind that place")

    def check_rest(self, tags: Collection[int], pixels: PixelElement) -> None:
        """Refuse elements of *tags* behind the pixels, since their place is before them and other readers use them.

        Whatever else follows the pixels is not needed, and may be damaged.

        Args:
            tags: Tags of the elements that were read.
            pixels: Position of the pixels.

        Raises: RadiographError: BAD_HEADER.
        """
        rest = Scan(self.body, 0, self.implicit, self.little_endian)
        with suppress(RadiographError, struct.error):
            if pixels.length is None:
                rest.start = self._end_of_sequence(pixels.position, implicit=self.implicit)
            else:
                rest.start = pixels.position + pixels.length
            rest.read(tags)
        if rest.pixels is not None:
            raise _bad("there are two elements of pixels")
        for tag in rest.elements:
            raise _bad(f"{keyword_for_tag(tag)} follows the pixels; its place is before them")

    def _header(self, position: int, *, implicit: bool) -> _Header:
        """Unpack the header at *position*.

        In an explicit data set, items and the elements of a sequence of VR UN have no VR (PS3.5 6.2.2, 7.5).
        """
        group, element, vr, length = _EXPLICIT[self.little_endian].unpack_from(self.body, position)
        tag = group << 16 | element
        if implicit or group == _ITEM_GROUP or not is_vr(vr):
            return _Header(tag, None, self._length(position + 4), position + 8)
        if vr in _LONG_VRS:
            return _Header(tag, vr.decode(), self._length(position + 8), position + 12)
        return _Header(tag, vr.decode(), length, position + 8)

    def _length(self, position: int) -> int:
        length: int = _LENGTH[self.little_endian].unpack_from(self.body, position)[0]
        return length

    def _is_padding(self, tag: int, position: int) -> bool:
        """Check whether a data set ends in zeros, which look like elements without a value."""
        if tag != 0:
            return False
        if self.body[position:].strip(b"\0"):
            raise _bad(f"the parse was lost at byte {position}, before the pixels")
        return True

    def _end_of_element(self, tag: int, vr: str | None, length: int, position: int) -> int:
        """Find the end of an element of the top level."""
        if length == UNDEFINED_LENGTH:
            if vr not in {"SQ", "UN", None}:
                raise _bad(f"the element of VR {vr} at byte {position} has no length")
            try:
                return self._end_of_sequence(position, implicit=self.implicit)
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

    def _end_of_sequence(self, position: int, *, implicit: bool) -> int:
        """Find the end of a sequence of undefined length."""
        while True:
            tag, _, length, begin = self._header(position, implicit=implicit)
            if tag == _SEQUENCE_END:
                return begin
            if tag != _ITEM:
                raise _bad(f"a sequence has neither an item nor its end at byte {position}")
            position = (
                self._end_of_item(begin, implicit=implicit) if length == UNDEFINED_LENGTH else begin + length
            )

    def _end_of_item(self, position: int, *, implicit: bool) -> int:
        """Find the end of an item of undefined length."""
        # an item may be implicit in an explicit data set: its first element tells, as in pydicom
        implicit = implicit or not is_vr(self.body[position + 4 : position + 6])
        while True:
            tag, _, length, begin = self._header(position, implicit=implicit)
            if tag == _ITEM_END:
                return begin
            if tag >> 16 == _ITEM_GROUP:
                raise _bad(f"an item of a sequence has no end at byte {position}")
            position = (
                self._end_of_sequence(begin, implicit=implicit)
                if length == UNDEFINED_LENGTH
                else begin + length
            )


def is_vr(octets: bytes) -> bool:
    """Check whether two bytes can be a VR: other bytes in its place are the length of an element without one.

    Args:
        octets: Fifth and sixth byte of an element.
    """
    return octets.isalpha() and octets.isupper()


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


def _bad(detail: str) -> RadiographError:
    return RadiographError(Reason.BAD_HEADER, detail)
