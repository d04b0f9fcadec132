import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.pipeline.reporting.folders import (
    exhibit,
    image,
    refused,
    write_evaluation,
    write_prediction,
    write_run,
)

from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.jobs.report import write_comparison, write_report

HOSTILE = [
    "<script>alert(1)</script>", "=cmd|' /C calc'!A0", "\u202egnp.exe", "x" * 300, "\x1b[31m", "a\nb", "\"'&lt;",
    "{{ 7 * 7 }}", "</script>", "javascript:alert(1)", "\u05d0\u05d1", "caf\udce9",
]  # fmt: skip


def prediction(folder: Path) -> Path:
    return write_prediction(folder, image("a", 0.9), refused("b"), pictures=("a",))


MADE_BY: dict[str, Callable[[Path], Path]] = {
    "Training": write_run,
    "Evaluation": write_evaluation,
    "Prediction": prediction,
}


def heading(report: Path) -> str:
    found = re.search(r"<h1>(.*)</h1>", report.read_text(encoding="utf-8"))
    assert found is not None
    return found.group(1)


@pytest.mark.parametrize("title", MADE_BY)
def test_a_folder_gets_the_report_of_what_made_it_with_the_same_bytes_again(
    tmp_path: Path, title: str
) -> None:
    folder = MADE_BY[title](tmp_path)
    assert write_report(folder) == folder / "report.html"
    assert heading(folder / "report.html") == title
    first = (folder / "report.html").read_bytes()
    assert write_report(folder).read_bytes() == first


def test_all_folds_are_one_training(tmp_path: Path) -> None:
    write_run(tmp_path / "fold0", evaluated=False)
    write_run(tmp_path / "fold1", evaluated=False)
    assert heading(write_report(tmp_path)) == "Training"


def test_a_page_may_be_asked_for_elsewhere(tmp_path: Path) -> None:
    prediction(tmp_path / "in")
    assert write_report(tmp_path / "in", tmp_path / "page.html") == tmp_path / "page.html"
    assert not (tmp_path / "in" / "report.html").exists()


@pytest.mark.parametrize("name", ["predictions.csv", "overlays/a.png", "new.csv"])
def test_no_result_is_written_over_with_a_page(tmp_path: Path, name: str) -> None:
    before = (prediction(tmp_path) / "predictions.csv").read_bytes()
    with pytest.raises(UsageError, match="may be a result"):
        write_report(tmp_path, tmp_path / "overlays" / ".." / name)
    assert (tmp_path / "predictions.csv").read_bytes() == before


@pytest.mark.parametrize("name", ["empty", "nothing"])
def test_a_folder_of_something_else_is_a_usage_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="give a folder that train, evaluate or predict made"):
        write_report(tmp_path / name)


def test_an_evaluation_that_was_interrupted_is_a_usage_error(tmp_path: Path) -> None:
    (write_evaluation(tmp_path) / "scores.json").unlink()
    with pytest.raises(UsageError):
        write_report(tmp_path)


def test_damage_leaves_the_report_of_before(tmp_path: Path) -> None:
    before = write_report(write_evaluation(tmp_path)).read_bytes()
    (tmp_path / "scores.json").write_text("{")
    with pytest.raises(JobError, match=r"scores\.json"):
        write_report(tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before


@pytest.mark.parametrize("title", MADE_BY)
def test_a_page_leads_nowhere_and_loads_nothing(tmp_path: Path, title: str) -> None:
    page = write_report(MADE_BY[title](tmp_path)).read_text(encoding="utf-8")
    addresses = re.findall(r"""\b(?:href|src|action|srcset|poster|data)\s*=\s*["']?([^"'>\s]*)""", page)
    assert addresses
    assert all(address.startswith(("#", "data:image/")) for address in addresses)
    assert "@import" not in page
    assert all(address.startswith("#") for address in re.findall(r"url\(([^)]*)\)", page))


def hostile_evaluation(folder: Path) -> Path:
    rows = [{"id": name, "dice": 0.5} for name in HOSTILE]
    return write_evaluation(
        folder, rows, exhibits=[exhibit(name) for name in HOSTILE], manifest="<b>" + "x" * 300
    )


def hostile_prediction(folder: Path) -> Path:
    rows: list[dict[str, Any]] = [{**image("a", 0.9), "image": name} for name in HOSTILE]
    rows += [{**refused(name), "reason": name, "detail": name} for name in HOSTILE]
    return write_prediction(folder, *rows, pictures=("a",))


@pytest.mark.parametrize("write", [hostile_evaluation, hostile_prediction])
def test_hostile_names_are_texts(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    page = write_report(write(tmp_path)).read_text(encoding="utf-8")
    assert page.count("<script>") == page.count("</script>") == 1
    assert "&lt;script&gt;alert(1)" in page
    assert "{{ 7 * 7 }}" in page
    assert "x" * 300 in page
    assert not set(page) & {"\u202e", "\x1b"}


@pytest.mark.parametrize("images", [5000, 6000])
@pytest.mark.slow
def test_the_page_of_very_many_images_stays_small(tmp_path: Path, images: int) -> None:
    write_prediction(tmp_path, *(image(f"{number:032}", number / images) for number in range(images)))
    page = write_report(tmp_path)
    assert page.stat().st_size < 2_000_000
    rows = page.read_text(encoding="utf-8").count("<tr>")
    assert rows == 5000 + 1  # and the heads


def test_no_result_is_read_through_a_link(tmp_path: Path) -> None:
    folder = prediction(tmp_path / "out")
    (tmp_path / "secret.png").write_bytes(b"secret")
    (folder / "link").symlink_to(tmp_path / "secret.png")
    with pytest.raises(JobError, match="is a link"):
        write_report(folder)


def test_several_folders_are_compared_on_one_page(tmp_path: Path) -> None:
    folders = [write_evaluation(tmp_path / name) for name in ("one", "two")]
    assert heading(write_comparison(folders, tmp_path / "page.html")) == "Comparison"


def test_one_folder_alone_cannot_be_compared(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least two folders"):
        write_comparison([write_evaluation(tmp_path / "one")], tmp_path / "page.html")
