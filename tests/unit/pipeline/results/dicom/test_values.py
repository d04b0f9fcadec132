"""Expected values follow DICOM PS3.5 6.2: SH 16, LO 64 and PN 64 characters a group; DA, TM and AS in one form."""

import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from pneumoseg.pipeline.results.dicom.values import read_offset, read_value
from pneumoseg.transforms.reader.elements import Elements


def elements(keyword: str, text: str, charset: bytes = b"ISO_IR 192") -> Elements:
    """The element as its bytes stand in a file."""
    data = Dataset()
    for name, value in (("SpecificCharacterSet", charset), (keyword, text.encode())):
        tag = Tag(name)
        data[tag] = RawDataElement(
            tag, None, len(value), value, 0, is_implicit_VR=True, is_little_endian=True
        )
    return Elements(data)


@pytest.mark.parametrize(
    ("keyword", "given", "value", "change"),
    [
        ("AccessionNumber", "A8", "A8", ""),
        ("AccessionNumber", "7" * 16, "7" * 16, ""),
        ("AccessionNumber", "7" * 17, "", "AccessionNumber dropped, it has more than 16 characters"),
        ("StudyID", "7" * 40, "", "StudyID dropped, it has more than 16 characters"),
        ("PatientID", "1" * 65, "", "PatientID dropped, it has more than 64 characters"),
        ("PatientID", "AB\\12/../x", "AB_12/../x", "PatientID: its backslash replaced by _"),
        ("StationName", "n" * 17, "n" * 16, "StationName: cut to 16 characters"),
        ("StudyDescription", "é" * 65, "é" * 64, "StudyDescription: cut to 64 characters"),
        ("InstitutionName", "a\\b", "a_b", "InstitutionName: its backslash replaced by _"),
        (
            "InstitutionName",
            "a\\" + "b" * 64,
            "a_" + "b" * 62,
            "InstitutionName: its backslash replaced by _ and cut to 64 characters",
        ),
        ("PatientName", "Doe^A\\B", "Doe^A_B", "PatientName: its backslash replaced by _"),
        ("PatientName", "X" * 90, "X" * 64, "PatientName: cut to groups of 64 characters"),
        ("PatientName", f"{'a' * 60}={'b' * 60}={'c' * 60}", f"{'a' * 60}={'b' * 60}={'c' * 60}", ""),
        ("PatientName", "a=b=c=d", "a=b=c", "PatientName: cut to groups of 64 characters"),
        ("PatientName", "a^b^c^d^e^f", "a^b^c^d^e", "PatientName: cut to groups of 64 characters"),
        ("PatientName", "a\x00\x1fb ", "ab", ""),
        ("StudyDate", "20200229", "20200229", ""),
        ("StudyDate", "20210229", "", "StudyDate dropped, it is not a valid DA"),
        ("StudyDate", "20200101\\20200102", "", "StudyDate dropped, it is not a valid DA"),
        ("StudyTime", "235959.123456", "235959.123456", ""),
        ("StudyTime", "24", "", "StudyTime dropped, it is not a valid TM"),
        ("PatientAge", "058Y", "058Y", ""),
        ("PatientAge", "58", "058Y", ""),  # as in the challenge
        ("PatientAge", "6M", "006M", ""),
        ("PatientAge", "old", "", "PatientAge dropped, it is not a valid AS"),
        ("PatientAge", "", "", ""),
    ],
)
def test_a_value_is_one_that_its_vr_allows(keyword: str, given: str, value: str, change: str) -> None:
    assert read_value(elements(keyword, given), keyword) == (value, change)


def test_a_missing_element_is_an_empty_value() -> None:
    assert read_value(Elements(Dataset()), "PatientName") == ("", "")


@pytest.mark.parametrize(
    ("given", "offset"),
    [("+0100", "+0100"), ("-1200", "-1200"), ("", ""), ("+1", ""), ("+0160", ""), ("0100", "")],
)
def test_an_offset_is_hours_and_minutes(given: str, offset: str) -> None:
    assert read_offset(elements("TimezoneOffsetFromUTC", given)) == offset


def test_a_nul_within_the_character_set_is_ignored() -> None:
    assert read_value(elements("PatientID", "Ärzte", charset=b"ISO\0_IR 192"), "PatientID") == ("Ärzte", "")


@pytest.mark.parametrize(
    "charset", [b"idna", b"hex", b"rot13", b"base64", b"punycode", b"FOO_BAR", b"", b"ISO_IR 100"]
)
def test_letters_of_no_character_set_are_guessed_and_said_to_be(charset: bytes) -> None:
    change = "PatientName: its letters guessed, SpecificCharacterSet does not fit them"
    assert read_value(elements("PatientName", "Müller", charset=charset), "PatientName") == ("Müller", change)
