"""The documentation site builds without a warning, loads nothing from elsewhere, and what is generated is current."""

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from docs.generate import pages

from pneumoseg.pipeline.dataset.manifest import Case, Manifest
from pneumoseg.pipeline.jobs import check
from pneumoseg.pipeline.model.description import ModelDescription
from pneumoseg.pipeline.results import rows
from pneumoseg.pipeline.results.settings import KINDS
from pneumoseg.pipeline.scoring import case_rows, subgroups
from pneumoseg.pipeline.scoring.headline import TITLES
from pneumoseg.pipeline.scoring.submission import FAULT_COLUMNS
from pneumoseg.pipeline.training import history

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", pages())
def test_a_generated_page_is_what_the_code_gives(page: str) -> None:
    written = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert written.rstrip() == pages()[page].rstrip(), "run: make reference"


@pytest.mark.parametrize("package", ["pipeline", "transforms"])
def test_the_page_of_the_python_interface_lists_every_public_name(package: str) -> None:
    public = re.findall(r" as (\w+)$", (ROOT / package / "__init__.pyi").read_text(), flags=re.MULTILINE)
    page = (ROOT / "docs" / "api.md").read_text()
    assert sorted(re.findall(rf"^::: pneumoseg\.{package}\.(\w+)$", page, flags=re.MULTILINE)) == sorted(
        public
    )


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("manifest", Manifest.model_fields),
        ("case", Case.model_fields),
        ("model.json", ModelDescription.model_fields),
        ("predictions.csv", rows.COLUMNS),
        ("predict -t", KINDS),
        ("check.csv", check.COLUMNS),
        ("cases.csv", case_rows.COLUMNS),
        ("metrics.csv", history.COLUMNS),
        ("subgroups.csv", subgroups.COLUMNS),
        ("score --faults", FAULT_COLUMNS),
        ("scores.json", TITLES),
    ],
)
def test_the_page_of_file_formats_describes_every_key(what: str, names: Iterator[str]) -> None:
    page = (ROOT / "docs" / "formats.md").read_text()
    section = page[page.index(f"`{what}`") :] if "." in what else page
    keys = [re.sub(r"^cross_fitted_|_(low|high)$", "", name) for name in names]
    assert [name for name in keys if f"`{name}`" not in section] == []


class _Resources(HTMLParser):
    """Collect what a page loads: scripts, styles, pictures and fonts, but no links that a reader follows."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        loaded = values.get("src") or (
            values.get("href") if tag == "link" and values.get("rel") != "canonical" else None
        )
        if loaded:
            self.found.append(loaded)


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    site = tmp_path / "site"
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(site)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    written = list(site.rglob("*.html"))
    assert len(written) > 15
    resources = _Resources()
    for page in written:
        resources.feed(page.read_text(encoding="utf-8"))
    assert [each for each in resources.found if "//" in each] == []
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"url\(['\"]?(https?:)?//", styles) == []
