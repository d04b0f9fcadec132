import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import all as every
from benchmarks.comparison import Comparison
from benchmarks.page import make_page, write_page

DOCS = Path(__file__).parents[3] / "docs"


def results(*lines: Comparison, scaling: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {
        "machine": {
            "processor": "X",
            "cores": 2,
            "instructions": [],
            "python": "3",
            "libraries": {"torch": "2"},
        },
        "quick": False,
        "lines": {"some": [line.as_json() for line in lines]},
        "scaling": scaling or [],
    }


def test_a_row_has_costs_ratio_limit_and_fraction() -> None:
    page = make_page(results(Comparison("encode, pycocotools", ours=2e-4, peer=0.0016, limit=7.0)))
    assert "| encode, pycocotools | 200 us | 1.6 ms | 8.00 | 7.00 | 1.14 | passed |\n" in page


def test_what_misses_its_limit_or_was_measured_on_a_busy_machine_says_so() -> None:
    page = make_page(results(Comparison("x", ours=1.0, peer=2.0, limit=7.0, quiet=False)))
    assert "| **missed**; machine was busy |" in page


def test_what_was_not_measured_has_its_reason() -> None:
    assert "| int8 | | | not measured | 7.00 | | no VNNI |\n" in make_page(
        results(Comparison.unmeasured("int8", limit=7.0, note="no VNNI"))
    )


def test_each_series_has_a_plot_and_a_table(tmp_path: Path) -> None:
    points = [
        {"series": "batch", "value": value, "seconds": value / 8, "peak_mib": 512.0} for value in (1, 2)
    ]
    path = tmp_path / "benchmarks.json"
    path.write_text(json.dumps(results(scaling=points)))
    write_page(path)
    first = (tmp_path / "pictures" / "benchmarks-batch.svg").read_bytes()
    assert "| 2 | 0.25 | 512 |" in (tmp_path / "benchmarks.md").read_text()
    write_page(path)
    assert (tmp_path / "pictures" / "benchmarks-batch.svg").read_bytes() == first


@pytest.mark.skipif(not (DOCS / "benchmarks.json").is_file(), reason="make bench was not run yet")
def test_the_page_in_docs_is_that_of_its_results() -> None:
    found = json.loads((DOCS / "benchmarks.json").read_text())
    assert (DOCS / "benchmarks.md").read_text() == make_page(found)
    assert not found["quick"]


def test_every_benchmark_with_a_measure_function_is_run() -> None:
    assert {"networks", "run_lengths", "start_up"} <= set(every.benchmarks())
    assert not {"all", "comparison", "page"} & set(every.benchmarks())


def test_a_benchmark_that_fails_is_a_line_with_its_error(capsys: pytest.CaptureFixture[str]) -> None:
    [line] = every.run_benchmark("there_is_none", [])
    assert "there_is_none" in line["note"]
    assert line["ratio"] is None
    assert "not measured" in make_page({**results(), "lines": {"x": [line]}})
