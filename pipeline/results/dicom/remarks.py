"""Warnings of a radiograph as its DICOM results state them: in words, and coded where DICOM has a code."""

from collections.abc import Collection
from typing import Final

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from pneumoseg.pipeline.results.dicom.origin import NOTICE
from pneumoseg.transforms.measurements import Measurements
from pneumoseg.transforms.reader.reasons import REVIEW_REASONS, Reason

REMARKS: Final[dict[Reason, tuple[str, Code | None]]] = {
    Reason.LOOKS_TURNED: ("looks rotated", codes.DCM.Positioning),
    Reason.LOOKS_INVERTED: ("looks inverted", codes.DCM.InappropriateImageProcessing),
    Reason.LOOKS_UNLIKE_CHEST: ("looks unlike a chest", None),
    Reason.LOW_CONTRAST: ("has no contrast", None),
    Reason.SMALL_FIELD: ("is mostly border", None),
    Reason.SATURATED: ("is saturated", None),
    Reason.NOISY: ("is noisy", None),
    Reason.LOW_RESOLUTION: ("is coarse", None),
}
"""For each warning that makes a result doubtful, what to say of the image, and its code.

Source: DICOM PS3.16 CID 7011 (reasons of the rejection of an image for its quality).
"""
_LONGEST: Final = 64  # characters of VR LO


def remarks(warnings: Collection[Reason]) -> list[tuple[str, Code | None]]:
    """Select the remarks to make.

    Args:
        warnings: Warnings of a radiograph.

    Returns: For each, what to say of the image, and its code or None.
    """
    of_review = {reason: (reason.lower().replace("_", " "), None) for reason in sorted(REVIEW_REASONS)}
    return [remark for reason, remark in (of_review | REMARKS).items() if reason in warnings]


def needs_review(warnings: Collection[Reason]) -> bool:
    """Check whether a person has to review the result of an image with these warnings."""
    return any(reason in REVIEW_REASONS for reason in warnings)


def presence_of(measurements: Measurements, warnings: Collection[Reason]) -> tuple[Code, str]:
    """State whether a pneumothorax was found; an empty mask decides nothing where the image has to be reviewed.

    Args:
        measurements: Measurements of the mask.
        warnings: Warnings of the radiograph.

    Returns: The code, and the finding in words.
    """
    if measurements.components:
        return codes.SCT.Present, "pneumothorax present"
    if needs_review(warnings):
        return codes.SCT.Indeterminate, "pneumothorax indeterminate"
    return codes.SCT.Absent, "pneumothorax absent"


def description_of(warnings: Collection[Reason]) -> str:
    """Describe a result in at most 64 characters: whether to review it, what the image looks like, and the notice.

    Args:
        warnings: Warnings of the radiograph.
    """
    words = [remark for remark, _ in remarks(warnings)]
    if not words:
        return NOTICE
    start = "REVIEW: " if needs_review(warnings) else "Image "
    ends = ("; not for diagnosis", ", ...; not for diagnosis")
    for count in range(len(words), 0, -1):
        text = start + ", ".join(words[:count]) + ends[count < len(words)]
        if len(text) <= _LONGEST:
            return text
    return (start + words[0])[:_LONGEST]
