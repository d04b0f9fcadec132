"""Names that several packages use, and escapes of texts from files for a line, a file name, a cell or a page."""

import hashlib
import re
from typing import Final

MANUFACTURER: Final = "pneumoseg developers"
"""Manufacturer in the DICOM objects that are written."""
REPORT: Final = "report.html"
"""File name of the report in the folder of a run, an evaluation or a prediction."""
SEGMENTED: Final = "segmented"
REVIEW: Final = "review"
RESULTS: Final = frozenset({SEGMENTED, REVIEW})
"""Statuses of images with a result: one that may stand, and one that a person has to review."""
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
_RESERVED: Final = re.compile(r"(?i)^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)")  # devices of Windows
_FORMULA: Final = tuple("=+-@＝＋－＠")  # Japanese Excel also evaluates the full-width ones
_MARKDOWN: Final = re.compile(r"[\\`*_\[\]<>&|]")


def shown(text: str) -> str:
    """Escape characters that cannot be printed, so that a text is one line and cannot move the cursor.

    Args:
        text: Any text, for example the value of a DICOM tag.
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def safe_name(text: str) -> str:
    """Make a file name that is valid on every system and has no separators.

    Args:
        text: Any text, for example a UID.

    Returns: The text itself if it is valid, or a similar name with a hash of the text.
    """
    name = _UNSAFE.sub("_", text).strip("._-") or "_"  # no hidden file, and no option
    if name == text and len(name) <= 120 and not _RESERVED.match(name):
        return name
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{name[:100]}-{digest}" if not _RESERVED.match(name) else f"_{name[:100]}-{digest}"


def cell(text: str) -> str:
    """Escape a text as a CSV cell that no spreadsheet evaluates.

    Args:
        text: Any text; ``-1``, the label of an empty mask, is kept.
    """
    text = shown(text)
    return f"'{text}" if text.startswith(_FORMULA) and text != "-1" else text


def markdown(text: str) -> str:
    """Escape a text for a Markdown page: one line, without markup.

    Args:
        text: Any text.
    """
    return _MARKDOWN.sub(r"\\\g<0>", shown(text))
