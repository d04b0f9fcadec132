import re
from html.parser import HTMLParser

import pytest

from pneumoseg.pipeline.reporting.content import (
    Cell,
    Charts,
    Folded,
    Page,
    Picture,
    PictureGallery,
    Section,
    Shown,
    Table,
    Text,
    Tile,
    Tiles,
)
from pneumoseg.pipeline.reporting.html import render

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\u202e\x1b[31m"


class Elements(HTMLParser):
    """The elements of a page with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def page_of(*blocks: Tiles | Text | Charts | Table | PictureGallery | Folded, title: str = "Report") -> str:
    return render(Page(title=title, subtitle="of nothing", sections=[Section("Part", blocks)]))


def hostile_page() -> str:
    return page_of(
        Tiles([Tile(HOSTILE, HOSTILE, HOSTILE)]),
        Text(HOSTILE),
        Table((HOSTILE,), [[HOSTILE]], file=HOSTILE),
        PictureGallery([Shown(HOSTILE, HOSTILE, {HOSTILE: HOSTILE}, [Picture(HOSTILE, b"")])]),
        Folded(HOSTILE, HOSTILE),
        title=HOSTILE,
    )


def test_names_of_files_are_texts_wherever_they_stand() -> None:
    elements = Elements(hostile_page())
    assert len(elements.of("script")) == 1  # ours
    assert not any("onerror" in attributes for _, attributes in elements.found)


def test_nothing_turns_a_line_or_moves_a_cursor() -> None:
    assert not set(hostile_page()) & {"\u202e", "\x1b"}


def test_a_page_loads_nothing_and_may_not() -> None:
    elements = Elements(hostile_page())
    sources = [attributes["src"] for _, attributes in elements.found if "src" in attributes]
    assert all(source and source.startswith("data:") for source in sources)
    assert not elements.of("link")
    policy = next(each for each in elements.of("meta") if each.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in str(policy["content"])


def test_every_section_can_be_gone_to() -> None:
    page = page_of(Text("words"))
    elements = Elements(page)
    assert [link["href"] for link in elements.of("a")] == [
        f"#{each['id']}" for each in elements.of("section")
    ]


def test_numbers_of_a_table_can_be_sorted_by_their_value() -> None:
    cells = Elements(page_of(Table(("a", "b"), [["x", 0.25], ["y", None]]))).of("td")
    assert [cell.get("data-value") for cell in cells] == [None, "0.25", None, None]


def test_a_table_with_choices_can_be_searched() -> None:
    page = page_of(Table(("a", "b"), [["x", "y"]], filters=("b",)))
    assert [choice["data-column"] for choice in Elements(page).of("select")] == ["1"]
    assert "<input" in page


def test_what_a_table_leaves_out_is_told_with_the_file_that_has_it() -> None:
    assert "7 more rows are in cases.csv." in page_of(Table(("a",), [["x"]], left_out=7, file="cases.csv"))


def test_numbers_of_a_column_have_the_same_decimals() -> None:
    page = page_of(Table(("a", "b", "c", "d"), [[14222.3, 0.0, 12, 7.0], [0.0, 0.25, 3, None]]))
    assert re.findall(r"<td[^>]*>([^<]*)</td>", page) == [
        "14222.3", "0.0000", "12", "7.00", "0.0", "0.2500", "3", "",
    ]  # fmt: skip


def test_a_cell_may_have_a_note_and_an_order_of_its_own() -> None:
    page = page_of(
        Table(("a",), [[Cell("0.5", note="0.4 to 0.6", order=0.5)], [Cell("<x", is_number=False)]])
    )
    assert '<td class="n" data-value="0.5">0.5<small>0.4 to 0.6</small></td>' in page
    assert "<td>&lt;x</td>" in page


@pytest.mark.parametrize(
    "name", ["1.2.826.0.1.3680043.8.498.34897737979165", "folder/folder/folder/IM0001.dcm"]
)
def test_a_long_name_is_shown_by_its_end_and_found_by_all_of_it(name: str) -> None:
    exhibit = Shown("best", name, {}, ())
    page = page_of(Table(("case",), [[name]])) + page_of(PictureGallery([exhibit]))
    assert page.count(f'title="{name}"><span hidden>{name[:-24]}</span>{name[-24:]}</span>') == 2


def test_a_sentence_is_not_shortened() -> None:
    text = "a sentence of more than forty characters, all shown"
    assert f'<td class="long">{text}</td>' in page_of(Table(("a",), [[text]]))


def test_the_same_content_gives_the_same_page() -> None:
    assert hostile_page() == hostile_page()


def test_a_picture_becomes_an_address_that_holds_it() -> None:
    assert Picture("", b"\x00\x01").address == "data:image/jpeg;base64,AAE="


def test_a_warning_stands_before_all_sections() -> None:
    page = render(Page("Report", "of nothing", [Section("Part", [Text("words")])], warnings=["beware"]))
    assert re.search(r"beware.*<section", page, flags=re.DOTALL)


def test_a_share_is_not_rounded_to_zero_or_one() -> None:
    page = page_of(Table(("p",), [[0.99996], [1.0], [0.00004], [0.0], [0.25678]]))
    assert re.findall(r"<td[^>]*>([^<]*)</td>", page) == [
        "&gt; 0.9999", "1.0000", "&lt; 0.0001", "0.0000", "0.2568",
    ]  # fmt: skip
