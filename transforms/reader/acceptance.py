"""Acceptance filters: which files count as frontal chest radiographs, and how large an image may be."""

import re
from dataclasses import dataclass

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
        any_modality: Read other modalities than projection radiography.
        any_view: Read other views than AP and PA.
        any_body_part: Read other body parts than the chest.
        allow_burned_in: Text burned into the image is expected and no cause for a warning.
        max_pixels: Most pixels an image may have, checked before anything is decoded.
        max_bytes: Most bytes a file, or what it inflates to, may have.
    """

    any_modality: bool = False
    any_view: bool = False
    any_body_part: bool = False
    allow_burned_in: bool = False
    max_pixels: int = 2**26  # four times the largest detectors
    max_bytes: int = 2**28

    def check_modality(self, modality: str) -> None:
        """Skip what is not a radiograph; an empty modality passes."""
        if modality and modality not in _RADIOGRAPHY and not self.any_modality:
            raise RadiographError(Reason.WRONG_MODALITY, f"Modality is {show(modality)}, not CR or DX")

    def check_view(self, view: str) -> None:
        """Skip what is not frontal; an empty view passes."""
        if not view or self.any_view:
            return
        words = view.replace("_", " ")
        if not _FRONTAL.search(words) or _NOT_FRONTAL.search(words):
            raise RadiographError(Reason.WRONG_VIEW, f"the view is {show(view)}, not AP or PA")

    def check_body_part(self, body_part: str) -> None:
        """Skip what is not a chest; an empty body part passes."""
        if body_part and not _CHEST.search(body_part) and not self.any_body_part:
            raise RadiographError(Reason.WRONG_BODY_PART, f"the body part is {show(body_part)}, not CHEST")

    def check_size(self, rows: int, columns: int) -> None:
        """Refuse images that are too large to decode or too small to mean anything."""
        if rows * columns > self.max_pixels:
            raise RadiographError(
                Reason.TOO_LARGE, f"{rows} x {columns} pixels; at most {self.max_pixels} are read"
            )
        if min(rows, columns) < SMALLEST_SIDE_PX:
            raise RadiographError(
                Reason.TOO_SMALL, f"{rows} x {columns} pixels; each side needs at least {SMALLEST_SIDE_PX}"
            )


def show(text: str) -> str:
    """Quote a short piece of a file for a message: printable ASCII, one line, never long."""
    short = text if len(text) <= 40 else text[:37] + "..."
    return ascii(short)
