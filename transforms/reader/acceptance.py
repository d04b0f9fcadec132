"""Acceptance filters: which files count as frontal chest radiographs, and how large an image may be."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Self

from pneumoseg.transforms.reader.elements import Elements
from pneumoseg.transforms.reader.reasons import RadiographError, Reason

SMALLEST_SIDE_PX = 8

_RADIOGRAPHY = frozenset({"CR", "DX", "DR", "RG"})  # DR is not in the standard, but in the wild
_CHEST = re.compile(
    r"CHEST|THORAX|TORAX|TORAKS|TORACE|TORACIC|\bCXR\b|\bKLATK|LUNG|PULMO|POLMON|POUMON|PECHO|KEUHKO|HRUDNIK|MELLKAS"
    r"|BRUST|BORSTKAS|ГРУД|ЛЕГК|胸|肺"
)
_SPINE_OR_STERNUM = re.compile(  # named after the chest in most of these languages
    r"SPINE|SPINAL|VERTEB|WIRBEL|WERVEL|\bBWS\b|\bCOL\b|COLUMNA|COLUNA|COLONN|COLOANA|\bRA(CHI|QUI)|KREGOS|\bPATER"
    r"|OBRATL|OMURGA|GERINC|CSIGOLY|RANKA|ПОЗВОН|ХРЕБ|椎|脊|BRUSTBEIN|\bE?STERN(O|ON|UM)\b|ГРУДИН|胸骨"
)
_FRONTAL = re.compile(r"\b(AP|PA|FRONTAL\w*|FACE|FRENTE|FRONTE)\b|ПРЯМ|正位|正面")
_LATERAL = re.compile(
    r"\b(LAT|LATERAL\w*|LATERO\w*|LL|L LAT|R LAT|LLAT|RLAT|PROFIL\w*|PERFIL\w*|SEITLICH\w*|SEITE|DWARS|BOCZN\w*|YAN)\b"
    r"|БОКОВ|側|侧"
)
_NOT_FRONTAL = re.compile(r"\b(RL|LLD|RLD|OBLIQ\w*|OBLIC\w*|SCHRAG\w*|[LR][AP]O)\b")
_SPELLINGS = {  # of words without accents, in several languages
    re.compile(r"\bP\W{1,2}A\b"): "PA",
    re.compile(r"\bA\W{1,2}P\b"): "AP",
    re.compile(r"\bPOSTER\w*\W?ANTER\w*"): "PA",
    re.compile(r"\bANTER\w*\W?POSTER\w*"): "AP",
}
_VIEW_CODES = {  # CID 4010, in SNOMED CT and as SRT
    "272479007": "PA", "R-10214": "PA", "399348003": "AP", "R-10206": "AP", "399033003": "FRONTAL",
    "R-10202": "FRONTAL", "R-40888": "PA",
    "399067008": "LATERAL", "R-102CD": "LATERAL", "399173006": "LEFT LATERAL", "R-10236": "LEFT LATERAL",
    "399198007": "RIGHT LATERAL", "R-10232": "RIGHT LATERAL",
}  # fmt: skip
_DESCRIPTIONS = ("SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription")

ACCEPTANCE_KEYWORDS = (
    *("Modality", "ViewPosition", "ViewCodeSequence", "PatientOrientation", *_DESCRIPTIONS),
    *("BodyPartExamined", "AnatomicRegionSequence"),
)


@dataclass(frozen=True, kw_only=True)
class AcceptanceFilters:
    """Select the files to read. Frames, photometric interpretation and size have no flag to relax them.

    Attributes:
        any_modality: Accept modalities other than CR, DX, DR and RG. View and body part are still checked: the option
            ``--any-modality`` sets the next two as well.
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

    @classmethod
    def widened(
        cls, *, any_view: bool, any_modality: bool, any_body_part: bool, allow_burned_in: bool = False
    ) -> Self:
        """Make filters from the options of a command: other modalities have other views and body parts, too.

        Args:
            any_view: Whether to accept views other than AP and PA.
            any_modality: Whether to accept modalities other than CR and DX, with any view and body part.
            any_body_part: Whether to accept body parts other than the chest.
            allow_burned_in: Whether to assume that burned-in annotations contain no identifying text.
        """
        return cls(
            any_view=any_view or any_modality,
            any_modality=any_modality,
            any_body_part=any_body_part or any_modality,
            allow_burned_in=allow_burned_in,
        )

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
        words = _plain(view)
        if not _FRONTAL.search(words) or _LATERAL.search(words) or _NOT_FRONTAL.search(words):
            raise RadiographError(Reason.WRONG_VIEW, f"the view is {show(view)}, not AP or PA")

    def check_not_lateral(self, elements: Elements, directions: tuple[str, str] | None) -> None:
        """Check that no element names a lateral view, whatever the others say.

        A description that also names a frontal view may be that of a series of both.

        Args:
            elements: Elements of the data set.
            directions: Directions of rows and columns by PatientOrientation, see `read_directions`.

        Raises: RadiographError: WRONG_VIEW.
        """
        if self.any_view:
            return
        if any(direction[0] in "AP" for direction in directions or ()):
            raise RadiographError(Reason.WRONG_VIEW, "PatientOrientation is that of a lateral view")
        texts = {keyword: _plain(elements.text(keyword)) for keyword in _DESCRIPTIONS}
        texts["ViewCodeSequence"] = _plain(_read_code(elements, "ViewCodeSequence", _VIEW_CODES))
        for keyword, words in texts.items():
            if _LATERAL.search(words) and not _FRONTAL.search(words):
                raise RadiographError(Reason.WRONG_VIEW, f"{keyword} names a lateral view")

    def check_body_part(self, body_part: str) -> None:
        """Check that the body part is the chest; an empty one is accepted.

        Args:
            body_part: Body part in capitals, see `read_body_part`.

        Raises: RadiographError: WRONG_BODY_PART.
        """
        if not body_part or self.any_body_part:
            return
        words = _plain(body_part)
        if not _CHEST.search(words) or _SPINE_OR_STERNUM.search(words):
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
    view = elements.code("ViewPosition") or _read_code(elements, "ViewCodeSequence", _VIEW_CODES)
    words = _plain(view).strip()
    return words if words in {"AP", "PA"} else view


def read_body_part(elements: Elements) -> str:
    """Read the body part from BodyPartExamined, or else AnatomicRegionSequence.

    Args:
        elements: Elements of the data set.

    Returns: Body part in capitals; empty where unknown.
    """
    return elements.code("BodyPartExamined") or _read_code(elements, "AnatomicRegionSequence")


def _read_code(elements: Elements, keyword: str, known: Mapping[str, str] = MappingProxyType({})) -> str:
    """Read the meaning of a code in capitals; that of a *known* code does not depend on its language."""
    try:
        items = elements.items(keyword)
    except Exception:  # noqa: BLE001  (pydicom raises all kinds; a damaged optional sequence is ignored)
        return ""
    return known.get(items[0].text("CodeValue"), items[0].text("CodeMeaning").upper()) if items else ""


def _plain(text: str) -> str:
    """Write a text in capitals without accents, and a frontal view as AP or PA, however it is spelled."""
    if not text:
        return ""
    letters = unicodedata.normalize("NFKD", text.upper().replace("_", " "))
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    for spelling, word in _SPELLINGS.items():
        plain = spelling.sub(word, plain)
    return plain.strip(" .")


def show(text: str) -> str:
    """Quote a text from a file for a message.

    Args:
        text: Text of any content.

    Returns: Printable ASCII on one line, of at most 40 characters before escaping.
    """
    short = text if len(text) <= 40 else text[:37] + "..."
    return ascii(short)
