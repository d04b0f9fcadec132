from pathlib import Path

import pytest

from pneumoseg.pipeline.core.names import cell, markdown, safe_name, shown

HOSTILE = [
    "../../x", "..", ".", "", "/etc/passwd", "C:\\x", "CON", "con.txt", "nul", "LPT1.dcm", "a\0b", "x" * 300,
    "a/b", "a b", ".hidden", "trailing.", "é", "\udcff", "=cmd|x", "-rf", "a\nb", "\u202eexe.gpj", "CON ", "..con",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_a_safe_name_stays_in_its_folder(tmp_path: Path, text: str) -> None:
    path = tmp_path / f"{safe_name(text)}.png"
    assert path.resolve().parent == tmp_path.resolve()
    path.touch()  # short enough, and no NUL
    assert not path.name.startswith((".", "-"))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_safe_name_is_made_of_letters_that_every_system_takes(text: str) -> None:
    name = safe_name(text)
    assert name.isascii()
    assert not set(name) & set('<>:"/\\|?* \0\n')
    assert name.partition(".")[0].upper() not in {"CON", "NUL", "LPT1", "PRN", "AUX", "COM1"}
    assert len(name) <= 120


def test_different_texts_have_different_safe_names() -> None:
    assert len({safe_name(text).casefold() for text in HOSTILE}) == len(HOSTILE)


@pytest.mark.parametrize("text", ["1.2.840.10008.1", "case_07", "ID_0011fe81e"])
def test_a_name_that_is_safe_already_is_kept(text: str) -> None:
    assert safe_name(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\nb", "a\\nb"),
        ("\u202eabc", "\\u202eabc"),
        ("\udcff", "\\udcff"),
        ("a\u2028b", "a\\u2028b"),
        ("\x9b31m", "\\x9b31m"),
        ("\u061c\u200bx", "\\u061c\\u200bx"),
        ("ä ok", "ä ok"),
    ],
)
def test_what_cannot_be_printed_is_spelled_out(text: str, expected: str) -> None:
    assert shown(text) == expected


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_shown_is_one_line_and_stays_as_it_is_when_shown_again(text: str) -> None:
    assert shown(text).isprintable()
    assert shown(shown(text)) == shown(text)


@pytest.mark.parametrize("text", ["=cmd|x.dcm", "@x", "+1", "-2+3", "＝1+1"])
def test_a_cell_is_no_formula(text: str) -> None:
    assert cell(text) == f"'{text}"


def test_the_label_of_an_empty_mask_is_a_cell_as_it_is() -> None:
    assert cell("-1") == "-1"


@pytest.mark.parametrize(
    ("text", "page"),
    [
        ("siim-acr 2019", "siim-acr 2019"),
        ("<script>", r"\<script\>"),
        ("[x](javascript:y)", r"\[x\](javascript:y)"),
        ("![x](y)", r"!\[x\](y)"),
        ("a\n# b", r"a\\n# b"),
        ("a|b", r"a\|b"),
        ("*a* `b` &lt;", r"\*a\* \`b\` \&lt;"),
    ],
)
def test_nothing_in_a_page_is_acted_upon(text: str, page: str) -> None:
    assert markdown(text) == page
