"""Elements of a DICOM data set, converted from their bytes, without the warnings of the DICOM libraries.

Values are converted here, because pydicom's conversion emits warnings that contain the values, and raises many kinds of
errors. Here a value exists, is missing, or raises a `ValueError`; the VR that a file declares does not change how it is
converted.
"""

import logging
import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, cached_property
from threading import Lock
from typing import Final, Literal

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.valuerep import TEXT_VR_DELIMS

from pneumoseg.transforms.reader.charset import decode_text

UNDEFINED_LENGTH: Final = 0xFFFFFFFF
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")


@cache
def tags_of(keywords: frozenset[str]) -> frozenset[int]:
    """Look up the tags of DICOM keywords.

    Args:
        keywords: Keywords as spelled in the standard.

    Raises: KeyError: If a keyword is unknown.
    """
    return frozenset(map(_tag, keywords))


@dataclass(frozen=True)
class Elements:
    """Read access to one data set, or to one item of a sequence.

    Attributes:
        dataset: Elements by their tags, as they come out of a file.
        little_endian: Whether the bytes of a number are in ascending order.
        outer_charset: Specific Character Set of what surrounds an item, which it inherits.
    """

    dataset: Dataset | Mapping[int, RawDataElement]
    little_endian: bool = True
    outer_charset: str = ""

    @cached_property
    def _by_tag(self) -> dict[int, RawDataElement | DataElement]:
        # fifty elements are looked up for each file: plain integers take a tenth of the time of pydicom's tags
        return {int(tag): element for tag, element in self.dataset.items()}

    @property
    def charset(self) -> str:
        """Specific Character Set of the texts."""
        own = self.raw("SpecificCharacterSet")
        return own.decode("latin-1") if own else self.outer_charset

    def raw(self, keyword: str) -> bytes | None:
        """Return the bytes of an element.

        Args:
            keyword: Keyword of the element.

        Returns: Bytes; None where the element is absent or a sequence of undefined length.
        """
        element = self._by_tag.get(_tag(keyword))
        if not isinstance(element, RawDataElement) or element.length == UNDEFINED_LENGTH:
            return None
        return element.value or b""

    def vr(self, keyword: str) -> str | None:
        """Return the VR that the file declares for an element; None where it is absent or the VR implicit.

        Args:
            keyword: Keyword of the element.
        """
        element = self._by_tag.get(_tag(keyword))
        return None if element is None else element.VR

    def text(self, keyword: str) -> str:
        """Return a text without its padding, decoded by the character set of the data set.

        Args:
            keyword: Keyword of the element.

        Returns: Text; empty where the element is absent.
        """
        return self.decode(keyword)[0].strip(" \0")

    def decode(self, keyword: str, delimiters: Collection[int] = TEXT_VR_DELIMS) -> tuple[str, bool]:
        """Decode a text by the character set of the data set.

        Args:
            keyword: Keyword of the element.
            delimiters: Bytes that end the effect of an escape sequence.

        Returns: The text with its padding, and whether the file declares how to read it.
        """
        value = self.raw(keyword) or b""
        if (
            value.isascii() and b"\x1b" not in value
        ):  # the same letters in all character sets; almost all texts
            return value.decode("ascii"), True
        return decode_text(value, self.charset, delimiters)

    def code(self, keyword: str) -> str:
        """Return the first value of a code string.

        Args:
            keyword: Keyword of the element.

        Returns: Code in capitals; empty where the element is absent.
        """
        return self.text(keyword).split("\\")[0].strip().upper()

    def uid(self, keyword: str) -> str | None:
        """Return a UID.

        Args:
            keyword: Keyword of the element.

        Returns: UID; None where it is missing or invalid, since any other text could be a path.
        Source: DICOM PS3.5 9.1: digits and dots, at most 64.
        """
        text = self.text(keyword)
        return text if is_uid(text) else None

    def decimals(self, keyword: str) -> list[float] | None:
        """Return the numbers of a DS or IS element.

        Args:
            keyword: Keyword of the element.

        Returns: Numbers; None where the element is absent, [] where it is empty.

        Raises:
            ValueError: If a part is not a number.
        """
        if self.raw(keyword) is None:
            return None
        text = self.text(keyword)
        return [float(part) for part in text.split("\\")] if text else []

    def unsigned(self, keyword: str) -> int | None:
        """Return the number of a US element.

        Args:
            keyword: Keyword of the element.

        Returns: Number; None where the element is absent or empty.

        Raises:
            ValueError: If the element has not two bytes.
        """
        value = self.raw(keyword)
        if not value:
            return None
        if len(value) != 2:
            raise ValueError(f"{keyword} has {len(value)} bytes instead of 2")
        return int.from_bytes(value, self.byte_order)

    def items(self, keyword: str) -> list["Elements"] | None:
        """Return the items of a sequence.

        Args:
            keyword: Keyword of the element.

        Returns: Items; None where the element is absent.

        Raises:
            ValueError: If the element is no sequence.
        """
        element = self._by_tag.get(_tag(keyword))
        if element is None:
            return None
        # by itself, since pydicom converts PixelRepresentation when it converts a sequence beside it
        alone = Dataset()
        alone[element.tag] = element
        sequence = alone[element.tag].value
        if not isinstance(sequence, Sequence):
            raise ValueError(f"{keyword} is no sequence")  # noqa: TRY004  (one error type for wrong content)
        return [Elements(item, self.little_endian, self.charset) for item in sequence]

    @property
    def byte_order(self) -> Literal["little", "big"]:
        """Byte order in the spelling of `int.from_bytes`."""
        return "little" if self.little_endian else "big"


def is_uid(text: str) -> bool:
    """Check whether a text is a UID; any other one could be a path.

    Args:
        text: Text of any content.

    Source: DICOM PS3.5 9.1: digits and dots, at most 64.
    """
    return len(text) <= 64 and _UID.fullmatch(text) is not None


@cache
def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return tag


_reading: ContextVar[bool] = ContextVar("reading", default=False)
_NOISY_MODULES = r"(pydicom|highdicom|PIL|openjpeg|imagecodecs)\b"
_NOISY_LOGGERS = (
    "pydicom",
    "pydicom.pixels.decoders.base",
    "pydicom.pixels.utils",
    "highdicom.base",
    "highdicom.sc.sop",
)

for _name in _NOISY_LOGGERS:
    logging.getLogger(_name).addFilter(lambda _record: not _reading.get())


class _SharedSilence:
    """Filter warnings while at least one thread reads.

    Before Python 3.14 the filters are shared by the whole process. If each thread saved and restored them itself, the
    last one to leave could restore the filters of another thread.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._readers = 0
        self._filters = warnings.catch_warnings()

    def enter(self) -> None:
        with self._lock:
            if self._readers == 0:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=_NOISY_MODULES)
            self._readers += 1

    def leave(self) -> None:
        with self._lock:
            self._readers -= 1
            if self._readers == 0:
                self._filters.__exit__(None, None, None)


_silence = _SharedSilence()


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Suppress warnings and log records of pydicom and the decoders; thread-safe."""
    token = _reading.set(True)
    _silence.enter()
    try:
        yield
    finally:
        _silence.leave()
        _reading.reset(token)
