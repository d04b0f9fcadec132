"""Text of a DICOM element by its character set, without an error for any of them.

pydicom takes any codec of Python for a character set, and some of those raise errors of all kinds or are no text at all
(``idna``, ``hex``, ``rot13``). Here only the terms of DICOM count. Its warnings are silenced by `quiet_libraries`.

Source: DICOM PS3.3 C.12.1.1.2 (Specific Character Set) and PS3.5 6.1 (code extensions by escape sequences).
"""

import re
from collections.abc import Collection
from contextlib import suppress

from pydicom.charset import CODES_TO_ENCODINGS, ESC, decode_bytes, default_encoding, python_encoding

_LATIN_1 = "latin_1"
_UNDECODED = re.compile(
    "[\ufffd\x1b]"
)  # a letter that pydicom replaced, or an escape sequence that it does not know
_LEFT_BY_PYTHON = "\x1b$)A"  # of ISO-IR 58, whose codec does not know its own escape sequence


def decode_text(value: bytes, charset: str, delimiters: Collection[int]) -> tuple[str, bool]:
    """Decode a text by its character set or, where that does not fit, as UTF-8 or else Latin-1.

    UTF-8 comes first where Latin-1 is declared, too, since no word in Latin-1 looks like UTF-8, and many files that
    declare it hold UTF-8. An escape sequence is followed whether its character set is declared or not.

    Args:
        value: Bytes of a text, not all of them ASCII, or with an escape sequence.
        charset: Value of SpecificCharacterSet; empty where it is missing.
        delimiters: Bytes that end the effect of an escape sequence.

    Returns: The text, and whether the file declares how to read it.
    """
    declared = _encodings(charset)
    if ESC in value or declared[0] not in {default_encoding, _LATIN_1}:
        with suppress(ValueError):  # pydicom raises errors where its user asks for them
            text = decode_bytes(value, [*declared, *CODES_TO_ENCODINGS.values()], set(delimiters))
            text = text.replace(_LEFT_BY_PYTHON, "")
            if not _UNDECODED.search(text):
                return text, True
    try:
        return value.decode(), False
    except UnicodeDecodeError:
        return value.decode(_LATIN_1), declared[0] == _LATIN_1


def _encodings(charset: str) -> list[str]:
    """Look up the codecs of a character set, whose terms may have other separators, as in ISO-IR 100."""
    terms = [term.strip() for term in charset.replace("\0", "").upper().split("\\")]
    spelled = [re.sub("^ISO.2022.IR.", "ISO 2022 IR ", re.sub("^ISO.IR.", "ISO_IR ", term)) for term in terms]
    return [python_encoding[term] for term in spelled if term in python_encoding] or [default_encoding]
