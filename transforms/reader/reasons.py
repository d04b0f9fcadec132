"""Why a file is refused, skipped or warned about: a closed list, and the error that carries one entry.

Each reason has one sentence: what it means, and what to do. `docs/reasons.md` shows the same list;
``python -m pneumoseg.transforms.reader.reasons`` prints it.
"""

import sys
from enum import StrEnum
from typing import Final, Self


class Outcome(StrEnum):
    """What becomes of a file that has a reason."""

    REFUSED = "refused"  # it should be a radiograph, but cannot be read correctly
    SKIPPED = "skipped"  # a valid file, but not a frontal chest radiograph
    WARNED = "warned"  # it is read, and this should be known about it


_REFUSED, _SKIPPED, _WARNED = Outcome


class Reason(StrEnum):
    """One entry of the closed list.

    Attributes:
        outcome: What becomes of the file.
        sentence: What the reason means, and what to do about it.
    """

    outcome: Outcome
    sentence: str

    def __new__(cls, name: str, outcome: Outcome, sentence: str) -> Self:
        """Make the member a string equal to its name."""
        reason = str.__new__(cls, name)
        reason._value_ = name
        reason.outcome = outcome
        reason.sentence = sentence
        return reason

    # A table: name, outcome, sentence.
    # fmt: off
    # The file
    EMPTY_FILE = "EMPTY_FILE", _REFUSED, (
        "The file has no bytes; copy it again from its source.")
    NOT_A_FILE = "NOT_A_FILE", _REFUSED, (
        "The path is a folder, pipe, device, broken link or missing, and not a regular file; check the path.")
    UNREADABLE = "UNREADABLE", _REFUSED, (
        "The system cannot read the file's bytes; check its permissions and the disk.")
    NOT_DICOM = "NOT_DICOM", _REFUSED, (
        "By its name the file may be DICOM but its content is not; rename it, or copy it again.")
    NOT_PNG = "NOT_PNG", _REFUSED, (
        "The file is named as PNG but its content is not; rename it, or copy it again.")
    TRUNCATED = "TRUNCATED", _REFUSED, (
        "The file ends before its content does; copy it again from its source.")
    TOO_LARGE = "TOO_LARGE", _REFUSED, (
        "File or image exceeds a size limit that no radiograph comes near; check Rows and Columns.")

    # The header
    BAD_HEADER = "BAD_HEADER", _REFUSED, (
        "The header cannot be parsed, contradicts itself or is out of order; ask the sender for a valid file.")
    MISSING_TAG = "MISSING_TAG", _REFUSED, (
        "An element that describes the pixels is missing and is not guessed; ask the sender for it.")
    UNSUPPORTED_TRANSFER_SYNTAX = "UNSUPPORTED_TRANSFER_SYNTAX", _REFUSED, (
        "The pixels are encoded as video or in a private way; convert them to a still-image syntax.")

    # The kind of object
    NO_PIXELS = "NO_PIXELS", _SKIPPED, (
        "No image: a report or a document is skipped; a file that was cut before its image is refused, copy it again.")
    WRONG_MODALITY = "WRONG_MODALITY", _SKIPPED, (
        "The modality is not projection radiography (CR, DX, DR, RG); `--any-modality` accepts it.")
    WRONG_VIEW = "WRONG_VIEW", _SKIPPED, (
        "The view is not frontal (AP, PA); `--any-view` accepts it.")
    WRONG_BODY_PART = "WRONG_BODY_PART", _SKIPPED, (
        "The body part is not the chest; `--any-body-part` accepts it.")
    MULTIFRAME = "MULTIFRAME", _REFUSED, (
        "The file holds several frames, and a radiograph is one; split the file first.")
    UNSUPPORTED_PIXEL = "UNSUPPORTED_PIXEL", _REFUSED, (
        "The pixels are not grey levels of up to 16 bits; convert the image to grey.")
    TOO_SMALL = "TOO_SMALL", _REFUSED, (
        "The image has too few rows or columns to be a radiograph; check the source.")

    # The pixels
    CONFLICTING_SIZE = "CONFLICTING_SIZE", _REFUSED, (
        "Header and pixels disagree about size or depth: ask the sender for a valid file. In `prepare`: the image has "
        "another size than `--label-shape`.")
    DECODE_ERROR = "DECODE_ERROR", _REFUSED, (
        "The compressed pixels are damaged, truncated or of another kind than declared; copy the file again.")
    BAD_RESCALE = "BAD_RESCALE", _REFUSED, (
        "Rescale or Modality LUT cannot be applied (an empty one is ignored with a warning); ask the sender.")

    # The batch and its workers
    DUPLICATE_UID = "DUPLICATE_UID", _REFUSED, (
        "An earlier file has the same SOPInstanceUID: refused with other pixels, skipped with the same; compare them.")
    CHANGED = "CHANGED", _REFUSED, (
        "Another image took the place of the file while the run was under way; run the same command again.")
    TIMED_OUT = "TIMED_OUT", _REFUSED, (
        "Decoding exceeded the time limit; the file is damaged or hostile: copy it again from its source.")
    DECODER_DIED = "DECODER_DIED", _REFUSED, (
        "Decoding killed its worker or exceeded the memory limit; the file is damaged or hostile.")

    # Read, with a word of warning
    NO_PREAMBLE = "NO_PREAMBLE", _WARNED, (
        "The file lacks the DICM prefix, as in old archives; it is read anyway.")
    NO_TRANSFER_SYNTAX = "NO_TRANSFER_SYNTAX", _WARNED, (
        "The file does not name its transfer syntax; it is inferred from the first element.")
    WRONG_TRANSFER_SYNTAX = "WRONG_TRANSFER_SYNTAX", _WARNED, (
        "The data set is not encoded as the file declares; it is read as it is encoded.")
    NO_MODALITY = "NO_MODALITY", _WARNED, (
        "The modality is empty; make sure that this is a chest radiograph.")
    FOR_PROCESSING = "FOR_PROCESSING", _WARNED, (
        "These are raw detector values; prefer the FOR PRESENTATION image where there is one.")
    BURNED_IN = "BURNED_IN", _WARNED, (
        "The image declares burned-in text, maybe a name; no overlay is drawn without `--allow-burned-in`.")
    COLOUR_TO_GREY = "COLOUR_TO_GREY", _WARNED, (
        "A grey image was stored as colour; its grey channel is used.")
    TRAILING_BYTES = "TRAILING_BYTES", _WARNED, (
        "Padding bytes follow the pixels; they are ignored.")
    BAD_WINDOW = "BAD_WINDOW", _WARNED, (
        "The VOI window or LUT is unusable or misses every pixel; what is left of it is used instead.")
    NO_SPACING = "NO_SPACING", _WARNED, (
        "The size of a pixel is not given; areas are reported in pixels only.")
    BAD_SPACING = "BAD_SPACING", _WARNED, (
        "The pixel spacing is impossible; it is treated as missing.")
    NON_SQUARE = "NON_SQUARE", _WARNED, (
        "The pixels are not square; the image is read as stored, and looks stretched.")
    UID_MISMATCH = "UID_MISMATCH", _WARNED, (
        "File header and data set name different SOPInstanceUIDs; the data set's is used.")
    BAD_UID = "BAD_UID", _WARNED, (
        "The SOPInstanceUID is missing or invalid; the file is treated as one without a UID.")
    DUPLICATE_IMAGE = "DUPLICATE_IMAGE", _WARNED, (
        "Another file with another SOPInstanceUID has the same pixels; keep both in one fold, or only one of them.")

    # The look of the picture
    LOOKS_TURNED = "LOOKS_TURNED", _WARNED, (
        "The picture looks rotated or tilted although PatientOrientation was followed; review its result.")
    LOOKS_INVERTED = "LOOKS_INVERTED", _WARNED, (
        "Black and white look exchanged; check PhotometricInterpretation, and review its result.")
    LOOKS_UNLIKE_CHEST = "LOOKS_UNLIKE_CHEST", _WARNED, (
        "The picture looks unlike a whole frontal chest, or is too small, narrow, coarse or cut; review its result.")
    SMALL_FIELD = "SMALL_FIELD", _WARNED, (
        "More than half of the image is black or white border, which hides findings; crop it, and review its result.")
    SATURATED = "SATURATED", _WARNED, (
        "A large part of the picture is plain white or black; check the window, and review its result.")
    LOW_CONTRAST = "LOW_CONTRAST", _WARNED, (
        "The picture is blank or nearly so; check the window and the source, and review its result.")
    NOISY = "NOISY", _WARNED, (
        "The picture is so noisy that the edge of a lung is lost; check the exposure and the source, and review its "
        "result.")
    LOW_RESOLUTION = "LOW_RESOLUTION", _WARNED, (
        "The pixels are too coarse to show the edge of a lung; prefer the original to a thumbnail.")
    # fmt: on


Warnings = list[tuple[Reason, str]]
"""Reasons of the outcome WARNED with what was found, in the order found."""


REVIEW_REASONS: Final = frozenset({
    Reason.LOOKS_TURNED, Reason.LOOKS_INVERTED, Reason.LOOKS_UNLIKE_CHEST, Reason.SMALL_FIELD, Reason.SATURATED,
    Reason.LOW_CONTRAST, Reason.NOISY,
})  # fmt: skip
"""Warnings with which a result has to be reviewed: the network was trained on upright images with a lung to see."""


class RadiographError(ValueError):
    """A file that is not read, with its reason.

    Attributes:
        reason: Entry of the closed list.
        detail: What was found in this file, on one line; never the value of an identifying element.
        outcome: What becomes of the file; that of the reason, except for a copy of another file, which is skipped, and
            an image that lacks its pixels, which is refused.
        file_sha256: Hash of the bytes that were read; empty where the file was not read to its end.
        sop_instance_uid: SOPInstanceUID; None where these bytes do not hold a valid one.
    """

    def __init__(self, reason: Reason, detail: str, outcome: Outcome | None = None) -> None:
        super().__init__(reason, detail, outcome)  # all, so that the error survives pickling
        self.reason = reason
        self.detail = detail
        self.outcome = outcome or reason.outcome
        self.file_sha256 = ""
        self.sop_instance_uid: str | None = None

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


def reasons_page() -> str:
    """Write the list as a Markdown page."""
    titles = {
        Outcome.REFUSED: "Refused: should be a radiograph, but cannot be read correctly",
        Outcome.SKIPPED: "Skipped: a valid file, but not a frontal chest radiograph",
        Outcome.WARNED: "Warned: read, with a warning",
    }
    lines = [
        "# Reasons",
        "",
        "Why a file was refused, skipped or accepted with a warning, and what to do. The list is closed; a file may "
        "have several reasons. What was found in a file stands beside its reasons: in the column `detail` of "
        "`check.csv` and `predictions.csv`, under `refused` in a manifest, and in the `audit.log` of `listen`.",
    ]
    for outcome, title in titles.items():
        lines += ["", f"## {title}", "", "| reason | meaning, and what to do |", "| --- | --- |"]
        lines += [f"| `{reason}` | {reason.sentence} |" for reason in Reason if reason.outcome is outcome]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(reasons_page())
