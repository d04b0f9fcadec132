"""Acceptance filters: which files count as frontal chest radiographs, and how large an image may be."""

import re
from dataclasses import dataclass

from pneumoseg.transforms.reader.elements import Elements
from pneumoseg.transforms.reader.reasons import RadiographError, Reason

SMALLEST_SIDE_PX = 8

_RADIOGRAPHY = frozenset({"CR", "DX", "DR", "RG"})  # DR is not in the standard, but in the wild
_CHEST = re.compile(r"CHEST|THORAX|TORAX|LUNG|PULMO")
_FRONTAL = re.compile(r"\b(AP|PA|FRONTAL|(ANTERO|POSTERO)\W?(POSTERIOR|ANTERIOR))\b")
_NOT_FRONTAL = re.compile(r"\b(LAT|LATERAL|LL|RL|LLD|RLD|OBLIQUE|[LR][AP]O)\b")


@dataclass(frozen=True, kw_only=True)
class AcceptanceFilters:
    """Select the files to read. Frames, photometric interpretation and size have no flag to relax them.

    Attributes:
        any_modality: Accept modalities other than projection radiography.
        any_view: Accept views other than AP and PA.
        any_body_part: Accept body parts other than the chest.
        allow_burned_in: Assume that burned-in text contains no identifying text, and do not warn about it.
        max_pixels: Largest number of pixels of an image, checked before decoding.
        max_bytes: Largest size of a file in bytes, also after inflating it.
    """

    any_modality: bool = False
    any_view: bool = False
    any_body_part: bool = False
    allow_burned_in: bool = False
    max_pixels: int = 2**26  # four times the largest detectors
    max_bytes: int = 2**28

    def check_modality(self, modality: str) -> None:
        """Check the modality; an empty one is accepted.

        Args:
            modality: Value of Modality.

        Raises: RadiographError: WRONG_MODALITY.
        """
        if modality and modality not in _RADIOGRAPHY and not self.any_modality:
            raise RadiographError(Reason.WRONG_MODALITY, f"Modality is {show(modality)}, not CR or DX")

    def check_view(self, view: str) -> None:
        """Check that the view is frontal; an empty one is accepted.

        Args:
            view: View in capitals, see `read_view`.

        Raises: RadiographError: WRONG_VIEW.
        """
        if not view or self.any_view:
            return
        words = view.replace("_", " ")
        if not _FRONTAL.search(words) or _NOT_FRONTAL.search(words):
            raise RadiographError(Reason.WRONG_VIEW, f"the view is {show(view)}, not AP or PA")

    def check_body_part(self, body_part: str) -> None:
        """Check that the body part is the chest; an empty one is accepted.

        Args:
            body_part: Body part in capitals, see `read_body_part`.

        Raises: RadiographError: WRONG_BODY_PART.
        """
        if body_part and not _CHEST.search(body_part) and not self.any_body_part:
            raise RadiographError(Reason.WRONG_BODY_PART, f"the body part is {show(body_part)}, not CHEST")

    def check_size(self, rows: int, columns: int) -> None:
        """Check the size of the image.

        Args:
            rows: Number of rows.
            columns: Number of columns.

        Raises: RadiographError: TOO_LARGE or TOO_SMALL.
        """
        if rows * columns > self.max_pixels:
            raise RadiographError(
                Reason.TOO_LARGE, f"{rows} x {columns} pixels; at most {self.max_pixels} are read"
            )
        if min(rows, columns) < SMALLEST_SIDE_PX:
            raise RadiographError(
                Reason.TOO_SMALL, f"{rows} x {columns} pixels; each side needs at least {SMALLEST_SIDE_PX}"
            )


def read_view(elements: Elements) -> str:
    """Read the view from ViewPosition, or else ViewCodeSequence.

    Args:
        elements: Elements of the data set.

    Returns: View in capitals; empty where unknown.
    """
    meaning = elements.code("ViewPosition") or _meaning(elements, "ViewCodeSequence")
    words = re.sub(r"\W+", "-", meaning)
    short = {
        "ANTERO-POSTERIOR": "AP",
        "POSTERO-ANTERIOR": "PA",
        "ANTEROPOSTERIOR": "AP",
        "POSTEROANTERIOR": "PA",
    }
    return short.get(words, meaning)


def read_body_part(elements: Elements) -> str:
    """Read the body part from BodyPartExamined, or else AnatomicRegionSequence.

    Args:
        elements: Elements of the data set.

    Returns: Body part in capitals; empty where unknown.
    """
    return elements.code("BodyPartExamined") or _meaning(elements, "AnatomicRegionSequence")


def _meaning(elements: Elements, keyword: str) -> str:
    try:
        items = elements.items(keyword)
    except Exception:  # noqa: BLE001  (pydicom raises all kinds; a damaged optional sequence is ignored)
        return ""
    return items[0].text("CodeMeaning").upper() if items else ""


def show(text: str) -> str:
    """Quote a text from a file for a message.

    Args:
        text: Text of any content.

    Returns: Printable ASCII on one line, of at most 40 characters before escaping.
    """
    short = text if len(text) <= 40 else text[:37] + "..."
    return ascii(short)
