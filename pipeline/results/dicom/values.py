"""Values of header elements, as the value representation (VR) and multiplicity of each element allow them."""

import re
from datetime import datetime
from typing import Final

from pydicom.datadict import dictionary_VR
from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS

from pneumoseg.transforms.reader.elements import Elements

_LONGEST: Final = {"SH": 16, "LO": 64, "PN": 64}
"""Largest number of characters, of a person name in each of its groups."""
_IDENTIFIERS: Final = frozenset({
    "PatientID", "IssuerOfPatientID", "AccessionNumber", "StudyID", "RequestedProcedureID", "DeviceSerialNumber",
    "CodeValue", "CodingSchemeDesignator",
})  # fmt: skip
"""Texts that are never cut, since the rest might identify another patient, request or device."""
_GROUPS, _COMPONENTS = 3, 5  # of a person name
_TIME: Final = re.compile(r"([01][0-9]|2[0-3])([0-5][0-9]([0-5][0-9](\.[0-9]{1,6})?)?)?")
_AGE: Final = re.compile(r"([0-9]{1,3})([DWMY]?)")
_OFFSET: Final = re.compile(r"[+-](0[0-9]|1[0-4])[0-5][0-9]")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def read_value(elements: Elements, keyword: str) -> tuple[str, str]:
    """Read a single value of an element, as its VR allows it.

    A backslash, which would make two values of one, becomes an underscore. Texts that are too long are cut, identifiers
    that are too long are dropped, and so are dates, times and ages that are none. Letters whose character set the file
    does not tell are guessed, which counts as a change.

    Args:
        elements: Elements of the data set.
        keyword: Keyword of an element of the VR SH, LO, PN, DA, TM or AS.

    Returns: The value, and what had to be changed, without quoting it; both may be empty.
    Source: DICOM PS3.5 6.2 (value representations) and 6.4 (value multiplicity).
    """
    vr = dictionary_VR(keyword)
    delimiters = PN_DELIMS if vr == "PN" else TEXT_VR_DELIMS
    decoded, is_declared = elements.decode(keyword, delimiters)
    text = _CONTROL.sub("", decoded).strip()
    if vr in _READ:
        value = _READ[vr](text)
        return value, f"{keyword} dropped, it is not a valid {vr}" if text and not value else ""
    changes = [] if is_declared else ["its letters guessed, SpecificCharacterSet does not fit them"]
    if "\\" in text:
        text = text.replace("\\", "_")
        changes.append("its backslash replaced by _")
    longest = _LONGEST[vr]
    if vr == "PN":
        fitting = "=".join(_fitting_group(group) for group in text.split("=")[:_GROUPS])
    else:
        fitting = text[:longest].rstrip()
    if fitting != text and keyword in _IDENTIFIERS:
        return "", f"{keyword} dropped, it has more than {longest} characters"
    if fitting != text:
        changes.append(
            f"cut to {longest} characters" if vr != "PN" else f"cut to groups of {longest} characters"
        )
    return fitting, f"{keyword}: {' and '.join(changes)}" if changes else ""


def read_offset(elements: Elements) -> str:
    """Read TimezoneOffsetFromUTC.

    Args:
        elements: Elements of the data set.

    Returns: Offset like ``+0100``; empty where it is missing or invalid.
    """
    text = elements.text("TimezoneOffsetFromUTC")
    return text if _OFFSET.fullmatch(text) else ""


def _fitting_group(group: str) -> str:
    return "^".join(group.split("^")[:_COMPONENTS])[: _LONGEST["PN"]].rstrip()


def _date(text: str) -> str:
    try:
        return datetime.strptime(text, "%Y%m%d").strftime("%Y%m%d") if len(text) == 8 else ""  # noqa: DTZ007
    except ValueError:
        return ""


def _time(text: str) -> str:
    return text if _TIME.fullmatch(text) else ""


def _age(text: str) -> str:
    """Write an age with three digits and its unit, which is years if it is missing."""
    match = _AGE.fullmatch(text)
    return f"{match[1]:0>3}{match[2] or 'Y'}" if match else ""


_READ: Final = {"DA": _date, "TM": _time, "AS": _age}
