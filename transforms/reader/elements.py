"""Elements of a DICOM data set, converted from their bytes.

pydicom finds the elements. Their values are converted here, because pydicom's conversion emits warnings that contain
the values, and raises many kinds of errors. Here a value exists, is missing, or raises a `ValueError`; the VR that a
file declares is ignored.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence


def tags_of(keywords: Iterable[str]) -> list[int]:
    """Look up the tags of DICOM keywords.

    Args:
        keywords: Keywords as spelled in the standard.

    Raises: KeyError: If a keyword is unknown.
    """
    return [_tag(keyword) for keyword in keywords]


@dataclass(frozen=True)
class Elements:
    """Read access to one data set, or to one item of a sequence."""

    dataset: Dataset
    little_endian: bool = True

    def raw(self, keyword: str) -> bytes | None:
        """Return the bytes of an element.

        Args:
            keyword: Keyword of the element.

        Returns: Bytes; None where the element is absent or a sequence.
        """
        tag = _tag(keyword)
        if tag not in self.dataset:
            return None
        element: RawDataElement | DataElement = self.dataset.get_item(tag, keep_deferred=True)
        if isinstance(element, RawDataElement):
            return element.value or b""
        return element.value if isinstance(element.value, bytes) else None

    def text(self, keyword: str) -> str:
        """Return a text without its padding.

        Args:
            keyword: Keyword of the element.

        Returns: Text; empty where the element is absent.
        """
        value = self.raw(keyword) or b""
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = value.decode("latin-1")
        return text.strip(" \0")

    def code(self, keyword: str) -> str:
        """Return the first value of a code string.

        Args:
            keyword: Keyword of the element.

        Returns: Code in capitals; empty where the element is absent.
        """
        return self.text(keyword).split("\\")[0].strip().upper()

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
        tag = _tag(keyword)
        if tag not in self.dataset:
            return None
        sequence = self.dataset[tag].value
        if not isinstance(sequence, Sequence):
            raise ValueError(f"{keyword} is no sequence")  # noqa: TRY004  (one error type for wrong content)
        return [Elements(item, self.little_endian) for item in sequence]

    @property
    def byte_order(self) -> Literal["little", "big"]:
        """Byte order in the spelling of `int.from_bytes`."""
        return "little" if self.little_endian else "big"


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return tag
