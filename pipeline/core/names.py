"""Texts from files and tags, made fit for where they go: a line, a file name, a cell, a page."""

import hashlib
import re
from typing import Final

REPORT: Final = "report.html"
"""Name of the report in the folder of a run, an evaluation or a prediction."""
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
_RESERVED: Final = re.compile(r"(?i)^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)")  # devices of Windows
_FORMULA: Final = tuple("=+-@＝＋－＠")  # a Japanese Excel computes the wide ones, too
_MARKDOWN: Final = re.compile(r"[\\`*_\[\]<>&|]")


def shown(text: str) -> str:
    """*text* on one line, with all that cannot be printed spelled out: nothing moves a cursor or turns a line."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def safe_name(text: str) -> str:
    """A file name made of *text* that stays in its folder on every system; a changed one carries a hash."""
    name = _UNSAFE.sub("_", text).strip("._-") or "_"  # hidden; an option
    if name == text and len(name) <= 120 and not _RESERVED.match(name):
        return name
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{name[:100]}-{digest}" if not _RESERVED.match(name) else f"_{name[:100]}-{digest}"


def cell(text: str) -> str:
    """*text* as a cell of a CSV table that no spreadsheet computes; ``-1``, the label of an empty mask, stays."""
    text = shown(text)
    return f"'{text}" if text.startswith(_FORMULA) and text != "-1" else text


def markdown(text: str) -> str:
    """*text* in a Markdown page: on one line, and with nothing that a reader of it would act upon."""
    return _MARKDOWN.sub(r"\\\g<0>", shown(text))
