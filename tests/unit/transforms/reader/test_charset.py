"""Bytes follow DICOM PS3.5 Annexes H to K where the standard has the example, else the codecs of Python."""

from collections.abc import Iterator

import pytest
from pydicom.valuerep import PN_DELIMS

from pneumoseg.transforms.reader.charset import decode_text
from pneumoseg.transforms.reader.elements import quiet_libraries


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Silence pydicom, as the reader does."""
    with quiet_libraries():
        yield


@pytest.mark.parametrize(
    ("charset", "value", "text"),
    [
        ("ISO_IR 100", b"Buc^J\xe9r\xf4me", "Buc^Jérôme"),
        ("ISO_IR 144", "ОГК БОКОВАЯ".encode("iso8859_5"), "ОГК БОКОВАЯ"),
        ("ISO_IR 13", b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
        ("ISO_IR 192", "胸部侧位".encode(), "胸部侧位"),
        ("GB18030", "胸部侧位".encode("gb18030"), "胸部侧位"),
        ("GBK", "胸部侧位".encode("gbk"), "胸部侧位"),
        (r"\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", "Yamada^Tarou=山田^太郎"),
        (
            r"\ISO 2022 IR 149",
            b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
            "Hong^Gildong=洪^吉洞=홍^길동",
        ),
        (
            r"\ISO 2022 IR 58",
            b"Wang^XiaoDong=\x1b$)A\xcd\xf5^\x1b$)A\xd0\xa1\xb6\xab",
            "Wang^XiaoDong=王^小东",
        ),
        ("iso-ir 144", "БОК".encode("iso8859_5"), "БОК"),  # as it is often misspelled
        (r"ISO_IR 100\ISO-2022-IR-87", b"\x1b$BB&LL", "側面"),
    ],
)
def test_a_text_is_read_by_its_character_set(charset: str, value: bytes, text: str) -> None:
    assert decode_text(value, charset, PN_DELIMS) == (text, True)


@pytest.mark.parametrize(
    ("charset", "value", "text"),
    [
        ("", b"M\xfcLLER", "MüLLER"),
        ("", "MÜLLER".encode(), "MÜLLER"),
        ("ISO_IR 6", b"M\xfcLLER", "MüLLER"),
        ("ISO_IR 192", b"M\xfcLLER", "MüLLER"),
        ("ISO_IR 100", "側面".encode(), "側面"),
        ("FOO_BAR", "側面".encode(), "側面"),
        ("UTF-8", "側面".encode(), "側面"),
        ("", b"\x1b[31m\xe9", "\x1b[31mé"),  # no escape sequence of a character set
    ],
)
def test_letters_that_no_character_set_explains_are_guessed(charset: str, value: bytes, text: str) -> None:
    assert decode_text(value, charset, PN_DELIMS) == (text, False)


@pytest.mark.parametrize(
    "charset", ["idna", "hex", "rot13", "base64", "punycode", "utf_7", "zlib", "undefined", "\\", "a\0b", "é"]
)
def test_a_codec_of_python_is_no_character_set(charset: str) -> None:
    assert decode_text(b"M\xfcLLER", charset, PN_DELIMS) == ("MüLLER", False)


@pytest.mark.parametrize(
    "value", [b"\x1b", b"\x1b$B", b"\x1b$B\xff", b"\x1b$)C\xff", b"\x1b$(D\x80", b"\xff\x1b(J"]
)
@pytest.mark.parametrize("charset", ["", "GB18030", r"\ISO 2022 IR 87", r"ISO_IR 192\GBK"])
def test_damaged_text_is_still_a_text(value: bytes, charset: str) -> None:
    assert isinstance(decode_text(value, charset, PN_DELIMS)[0], str)
