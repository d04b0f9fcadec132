"""The report as Chromium shows it: what its script does, and what it looks like on paper, by night and on a phone."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from html import escape, unescape
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
from tests.unit.pipeline.reporting.folders import (
    CASES,
    FALSE_ALARM,
    FOUND,
    MISSED,
    exhibit,
    image,
    refused,
    write_evaluation,
    write_prediction,
    write_run,
)

from pneumoseg.pipeline.core.files import write_csv
from pneumoseg.pipeline.jobs.report import write_comparison, write_report
from pneumoseg.pipeline.scoring.subgroups import COLUMNS as SUBGROUP_COLUMNS

pytestmark = pytest.mark.browser

FLAGS: Final = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
)  # fmt: skip
LONG: Final = "x" * 300
PHONE: Final = 390
DAY, NIGHT = (f"--blink-settings=preferredColorScheme={number}" for number in (1, 0))


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("Chromium is not installed")


def evaluation(folder: Path) -> Path:
    more = [
        {"id": LONG, **FOUND, "dice": 0.5, "label_area_px": 9, "hausdorff95_mm": 10.0},
        {"id": "<img src=x onerror=alert(1)>", **MISSED, "label_area_px": 1000},
        {"id": "near", **FOUND, "label_area_px": 20, "hausdorff95_mm": 2.5},
        {"id": "alarm two", **FALSE_ALARM, "view": "AP"},
    ]
    write_evaluation(
        folder, [*CASES, *more], exhibits=[exhibit(LONG), exhibit()], manifest=LONG, trained_on=1
    )
    widest = dict.fromkeys(SUBGROUP_COLUMNS, 0.5) | {"subgroup": "mask_area", "value": "no pneumothorax"}
    write_csv(folder / "subgroups.csv", [widest], SUBGROUP_COLUMNS)
    return folder


def prediction(folder: Path) -> Path:
    rows = [image(f"{number:03}", number / 150, side="left", area_px=number) for number in range(120)]
    others = [refused(f"{LONG}.dcm"), refused("b", "NOT_FRONTAL", "skipped")]
    return write_prediction(folder, *rows, *others, pictures=("119", "000"))


PAGES: Final[Mapping[str, Callable[[Path], Path]]] = {
    "run": write_run,
    "evaluation": evaluation,
    "prediction": prediction,
}


@pytest.fixture(scope="module")
def reports(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The text of a report of each kind; none is made where nobody can look at it."""
    assert chromium
    folders = {name: write(tmp_path_factory.mktemp(name)) for name, write in PAGES.items()}
    paths = {name: write_report(folder) for name, folder in folders.items()}
    pair = [folders["run"], folders["evaluation"]]
    paths["comparison"] = write_comparison(pair, tmp_path_factory.mktemp("comparison") / "page.html")
    return {name: path.read_text(encoding="utf-8") for name, path in paths.items()}


def browse(chromium: str, page: Path, folder: Path, *flags: str) -> str:
    """Open a page; returns what it has become, after a check that nothing was said on the console."""
    result = subprocess.run(
        [chromium, *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, page.as_uri()],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=True,
    )
    said = [line for line in result.stderr.splitlines() if "CONSOLE" in line]
    assert said == []
    return result.stdout


def look(
    chromium: str, report: str, folder: Path, script: str, *flags: str, width: int | None = None
) -> dict[str, Any]:
    """What a script sees that runs at the end of a page: it fills ``seen``.

    Args:
        chromium: The browser.
        report: Text of the page.
        folder: For the browser's files.
        script: Statements.
        flags: Of the browser.
        width: Of a frame around the page; windows of less than 500 px are not opened.
    """
    page = report.replace(
        "</body>",
        f"<pre id=seen></pre><script>(() => {{ const seen = {{}}; {script}; "
        "document.getElementById('seen').textContent = JSON.stringify(seen); })();</script></body>",
    )
    if width:
        page = (
            f"<!doctype html><iframe style='width: {width}px; height: 800px; border: 0' srcdoc='{escape(page)}'>"
            "</iframe><pre id=seen></pre><script>const frame = document.querySelector('iframe'); frame.onload = "
            "() => document.getElementById('seen').append(frame.contentDocument.getElementById('seen').textContent)"
            "</script>"
        )
    (folder / "page.html").write_text(page, encoding="utf-8")
    dumped = browse(
        chromium, folder / "page.html", folder, "--virtual-time-budget=2000", "--dump-dom", *flags
    )
    found = re.findall(r'<pre id="seen">(.+?)</pre>', dumped, flags=re.DOTALL)
    assert len(found) == 1, "the script failed"
    seen: dict[str, Any] = json.loads(unescape(found[0]))
    return seen


TABLE: Final = """
const section = (title) => [...document.querySelectorAll('section')].find(
  (each) => each.querySelector('h2').textContent === title);
const box = section(TITLE).querySelector('[data-searchable]');
const heads = [...box.querySelectorAll('th')];
const place = (name) => heads.findIndex((head) => head.textContent === name);
const rows = () => [...box.querySelectorAll('tbody tr')].filter((row) => row.offsetHeight > 0);
const column = (name) => rows().map((row) => row.cells[place(name)].textContent);
const click = (name) => heads[place(name)].querySelector('button').click();
const search = box.querySelector('input');
const type = (text) => { search.value = text; search.dispatchEvent(new Event('input')); };
const choose = (name, value) => {
  const select = [...box.querySelectorAll('select')].find(
    (each) => each.dataset.column === String(place(name)));
  select.value = value;
  select.dispatchEvent(new Event('input'));
};
const count = () => box.querySelector('output').textContent;
"""


@pytest.fixture(scope="module")
def cases(chromium: str, reports: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What becomes of the table of cases as one clicks, types and chooses."""
    script = """
    seen.first = column('case');
    click('truth px'); seen.up = column('truth px'); seen.sort = heads[place('truth px')].ariaSort;
    click('truth px'); seen.down = column('truth px'); seen.sortAgain = heads[place('truth px')].ariaSort;
    click('Hausdorff mm'); seen.emptyUp = column('Hausdorff mm');
    seen.sorted = heads.filter((head) => head.ariaSort).map((head) => head.textContent);
    click('Hausdorff mm'); seen.emptyDown = column('Hausdorff mm');
    click('age'); seen.ages = column('age');
    click('case'); seen.names = column('case').map((name) => name.slice(0, 5));
    seen.all = count();
    type('ALARM'); seen.found = column('case'); seen.foundCount = count();
    type('two alarm'); seen.words = column('case');
    type('nowhere'); seen.none = column('case'); seen.noneCount = count();
    type(''); choose('outcome', 'missed'); seen.missed = column('outcome'); seen.missedCount = count();
    choose('view', 'AP'); seen.both = column('case');
    type('xyz'); seen.three = column('case');
    type(''); choose('view', ''); choose('outcome', ''); seen.back = count();
    seen.options = [...box.querySelectorAll('select')].map((each) => [...each.options].map((one) => one.value));
    """
    folder = tmp_path_factory.mktemp("cases")
    return look(chromium, reports["evaluation"], folder, TABLE.replace("TITLE", "'Cases'") + script)


def test_a_click_sorts_by_number_and_another_turns_the_order(cases: dict[str, Any]) -> None:
    assert cases["up"] == ["0", "0", "0", "9", "20", "100", "300", "1000"]
    assert cases["down"] == cases["up"][::-1]
    assert (cases["sort"], cases["sortAgain"]) == ("ascending", "descending")


def test_only_one_column_is_said_to_be_sorted(cases: dict[str, Any]) -> None:
    assert cases["sorted"] == ["Hausdorff mm"]


def test_empty_cells_come_last_either_way(cases: dict[str, Any]) -> None:
    assert cases["emptyUp"] == ["2.50", "10.00", *[""] * 6]
    assert cases["emptyDown"] == ["10.00", "2.50", *[""] * 6]
    assert cases["ages"] == ["58"] * 7 + [""]


def test_names_are_sorted_as_people_do(cases: dict[str, Any]) -> None:
    assert cases["names"] == ["<img ", "alarm", "alarm", "found", "misse", "near", "quiet", "xxxxx"]


def test_a_search_hides_what_does_not_fit_and_counts_the_rest(cases: dict[str, Any]) -> None:
    assert sorted(cases["found"]) == ["alarm", "alarm two"]  # by their outcome, too
    assert (cases["all"], cases["foundCount"]) == ("8 rows", "2 of 8 rows")
    assert (cases["none"], cases["noneCount"]) == ([], "0 of 8 rows")


def test_every_word_has_to_fit_wherever_it_stands(cases: dict[str, Any]) -> None:
    assert cases["words"] == ["alarm two"]


def test_a_choice_leaves_the_rows_that_fit(cases: dict[str, Any]) -> None:
    assert (cases["missed"], cases["missedCount"]) == (["missed", "missed"], "2 of 8 rows")


def test_choices_and_search_work_together(cases: dict[str, Any]) -> None:
    assert (cases["both"], cases["three"], cases["back"]) == (["missed"], [], "8 rows")


def test_choices_are_the_values_that_there_are(cases: dict[str, Any]) -> None:
    assert cases["options"] == [
        ["", "false alarm", "found", "missed", "rightly negative"], ["", "AP", "PA"], ["", "F", "M"],
    ]  # fmt: skip


# on a phone, by night, and for those who do not see


AROUND: Final = """
const wide = innerWidth;
seen.width = [document.documentElement.scrollWidth, innerWidth];
seen.outside = [...document.querySelectorAll('body *')].filter((each) => {
  const box = each.getBoundingClientRect();
  return box.width > 0 && box.right > wide + 1 && !each.closest('.scroll, .drawing, pre');
}).map((each) => each.outerHTML.slice(0, 80));
seen.dark = matchMedia('(prefers-color-scheme: dark)').matches;
seen.ground = getComputedStyle(document.body).backgroundColor;
seen.ink = getComputedStyle(document.body).color;
seen.chartInk = getComputedStyle(document.querySelector('.drawing svg text, .drawing svg')).color;
const named = (each) => (each.ariaLabel || (each.labels && each.labels[0] || each).textContent).trim();
seen.nameless = [...document.querySelectorAll('button, input, select, a, summary, [role=region], [role=img]')]
  .filter((each) => !named(each)).map((each) => each.outerHTML.slice(0, 80));
seen.pictures = [...document.images].filter((each) => !each.alt || !each.naturalWidth).length;
seen.headings = [...document.querySelectorAll('h1, h2, h3')].map((each) => Number(each.tagName[1]));
seen.scrollers = [...document.querySelectorAll('.scroll, .drawing')].filter(
  (each) => each.scrollWidth > each.clientWidth + 1 && each.tabIndex < 0).length;
const ids = [...document.querySelectorAll('[id]')].map((each) => each.id);
seen.twice = ids.filter((id, place) => ids.indexOf(id) !== place);
seen.links = [...document.links].filter((each) => !document.querySelector(each.hash)).length;
seen.loaded = performance.getEntriesByType('resource').map((each) => each.name).filter(
  (name) => !name.startsWith('data:'));
"""


@pytest.fixture(scope="module", params=(*PAGES, "comparison"))
def on_a_phone(
    chromium: str,
    reports: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> dict[str, Any]:
    """What there is to see of each report on a narrow screen, by day."""
    folder = tmp_path_factory.mktemp("phone")
    return look(chromium, reports[request.param], folder, AROUND, DAY, width=PHONE)


def test_a_page_is_no_wider_than_a_phone(on_a_phone: dict[str, Any]) -> None:
    content, screen = on_a_phone["width"]
    assert screen == PHONE
    assert content <= screen
    assert on_a_phone["outside"] == []


def test_all_that_can_be_used_has_a_name(on_a_phone: dict[str, Any]) -> None:
    assert on_a_phone["nameless"] == []


def test_every_picture_is_shown_and_has_words_for_it(on_a_phone: dict[str, Any]) -> None:
    assert on_a_phone["pictures"] == 0


def test_headings_go_down_one_step_at_a_time(on_a_phone: dict[str, Any]) -> None:
    levels = on_a_phone["headings"]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_what_scrolls_can_be_reached_with_the_keyboard(on_a_phone: dict[str, Any]) -> None:
    assert on_a_phone["scrollers"] == 0


def test_no_two_parts_of_a_page_have_one_name_and_every_link_has_its_end(on_a_phone: dict[str, Any]) -> None:
    assert (on_a_phone["twice"], on_a_phone["links"]) == ([], 0)


def test_nothing_is_loaded(on_a_phone: dict[str, Any]) -> None:
    assert on_a_phone["loaded"] == []


@pytest.mark.parametrize("kind", [*PAGES, "comparison"])
def test_no_column_is_cut_off_on_a_usual_screen(
    chromium: str, reports: dict[str, str], tmp_path: Path, kind: str
) -> None:
    script = """
    seen.tables = document.querySelectorAll('.scroll').length;
    seen.cut = [...document.querySelectorAll('.scroll')].filter((each) => each.scrollWidth > each.clientWidth).length;
    """
    seen = look(chromium, reports[kind], tmp_path, script, width=1280)
    assert seen["tables"] > 0
    assert seen["cut"] == 0


def test_a_phone_shows_the_scores_whole_and_keeps_the_names_of_subgroups_in_view(
    chromium: str, reports: dict[str, str], tmp_path: Path
) -> None:
    script = """
    const box = (title) => [...document.querySelectorAll('section')].find(
      (each) => each.querySelector('h2').textContent === title).querySelector('.scroll');
    const scores = box('Summary'), subgroups = box('Subgroups');
    seen.scores = scores.scrollWidth - scores.clientWidth;
    subgroups.scrollLeft = 999;
    seen.scrolled = subgroups.scrollLeft;
    seen.name = subgroups.querySelector('td').getBoundingClientRect().left - subgroups.getBoundingClientRect().left;
    """
    seen = look(chromium, reports["evaluation"], tmp_path, script, width=PHONE)
    assert seen["scores"] == 0
    assert seen["scrolled"] > 0
    assert 0 <= seen["name"] <= 1  # the border


def brightness(colour: str) -> int:
    return sum(map(int, re.findall(r"\d+", colour)[:3]))


def test_by_night_the_ground_is_dark_and_the_ink_bright_in_charts_too(
    chromium: str, reports: dict[str, str], tmp_path: Path
) -> None:
    day, night = (look(chromium, reports["evaluation"], tmp_path, AROUND, each) for each in (DAY, NIGHT))
    dark, bright = 150, 600  # of 765
    assert brightness(night["ground"]) < dark
    assert brightness(day["ground"]) > bright
    for ink in ("ink", "chartInk"):
        assert brightness(day[ink]) < dark
        assert brightness(night[ink]) > bright


# on paper


def pages(chromium: str, report: str, folder: Path) -> int:
    """How many pages a report has when it is printed."""
    (folder / "page.html").write_text(report, encoding="utf-8")
    browse(chromium, folder / "page.html", folder, f"--print-to-pdf={folder / 'page.pdf'}")
    pdf = (folder / "page.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-")
    return len(re.findall(rb"/Type\s*/Page\b", pdf))


@pytest.mark.parametrize("kind", ["evaluation", "prediction"])
def test_a_report_can_be_printed(chromium: str, reports: dict[str, str], tmp_path: Path, kind: str) -> None:
    assert 2 <= pages(chromium, reports[kind], tmp_path) <= 12


def test_what_is_folded_is_printed_too(chromium: str, reports: dict[str, str], tmp_path: Path) -> None:
    long = reports["run"].replace("epochs: 3", "line\n" * 500)
    assert pages(chromium, long, tmp_path) >= pages(chromium, reports["run"], tmp_path) + 3


def test_on_paper_are_the_first_hundred_rows_of_those_that_were_asked_for(
    chromium: str, reports: dict[str, str], tmp_path: Path
) -> None:
    """76 of 120 images are negative; the most probable ones, which are not, come before them."""
    script = """
    seen.all = rows().length;
    seen.cut = box.querySelector('.scroll').scrollHeight - box.querySelector('.scroll').clientHeight;
    choose('decision', 'negative'); seen.chosen = rows().length;
    """
    paper = reports["prediction"].replace("@media print", "@media all")
    seen = look(chromium, paper, tmp_path, TABLE.replace("TITLE", "'Images'") + script)
    assert seen == {"all": 100, "cut": 0, "chosen": 76}
