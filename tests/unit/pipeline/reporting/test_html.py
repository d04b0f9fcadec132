import re
from html.parser import HTMLParser

from pneumoseg.pipeline.reporting.content import (
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


def test_a_large_number_is_given_in_full() -> None:
    assert ">14222<" in page_of(Table(("a",), [[14222.3]]))


def test_the_same_content_gives_the_same_page() -> None:
    assert hostile_page() == hostile_page()


def test_a_picture_becomes_an_address_that_holds_it() -> None:
    assert Picture("", b"\x00\x01").address == "data:image/jpeg;base64,AAE="


def test_a_warning_stands_before_all_sections() -> None:
    page = render(Page("Report", "of nothing", [Section("Part", [Text("words")])], warnings=["beware"]))
    assert re.search(r"beware.*<section", page, flags=re.DOTALL)


def test_a_number_is_not_rounded_to_one() -> None:
    text = render(Page("t", "", [Section("s", [Table(["p"], [[0.99996], [1.0], [0.00004], [0.25678]])])]))
    assert [each for each in ("0.99996", ">1<", "4e-05", "0.2568") if each not in text.replace(" ", "")] == []
