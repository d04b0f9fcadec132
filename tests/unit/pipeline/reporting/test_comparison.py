import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.unit.pipeline.reporting.folders import write_evaluation, write_run

from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.reporting.comparison import comparison_page
from pneumoseg.pipeline.reporting.content import Cell, Charts, Page, Section, Table
from pneumoseg.pipeline.reporting.paired import read_paired

POSITIVE = {"positive": 1, "label_area_px": 100}
FOUND = {
    **POSITIVE,
    "predicted_positive": 1,
    "area_px": 100,
    "overlap_px": 100,
    "dice": 1.0,
    "probability": 0.9,
}
MISSED = {**POSITIVE, "predicted_positive": 0, "area_px": 0, "overlap_px": 0, "dice": 0.0, "probability": 0.2}
ALARM = {"predicted_positive": 1, "area_px": 50, "dice": 0.0, "probability": 0.7}
QUIET = {"predicted_positive": 0, "area_px": 0, "dice": 1.0, "probability": 0.1}
POOR: Mapping[str, Mapping[str, Any]] = {"a": FOUND, "b": MISSED, "c": ALARM, "d": QUIET}
GOOD: Mapping[str, Mapping[str, Any]] = {"a": FOUND, "b": FOUND, "c": QUIET, "d": QUIET}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts are thought out, but not written."""
    for module in ("charts", "comparison_charts"):
        monkeypatch.setattr(
            f"pneumoseg.pipeline.reporting.{module}.to_svg", lambda *_, name: f"<svg>{name}</svg>"
        )


def write(folder: Path, cases: Mapping[str, Mapping[str, Any]], *, groups: str = "p", **scores: Any) -> Path:
    rows = [{"id": name, "group": f"{groups}{name}", **case} for name, case in cases.items()]
    return write_evaluation(folder, rows, **scores)


def compared(tmp_path: Path, *, second: Mapping[str, Mapping[str, Any]] = GOOD, **scores: Any) -> Page:
    return comparison_page([write(tmp_path / "poor", POOR), write(tmp_path / "good", second, **scores)])


def section(page: Page, title: str) -> Section:
    (found,) = [each for each in page.sections if each.title == title]
    return found


def tables(page: Page, title: str) -> list[dict[object, list[object]]]:
    """The rows of the tables of a section, by their first cell."""
    return [
        {row[0]: [cell.text if isinstance(cell, Cell) else cell for cell in row[1:]] for row in block.rows}
        for block in section(page, title).blocks
        if isinstance(block, Table)
    ]


def test_models_stand_side_by_side_and_beside_predicting_nothing(tmp_path: Path) -> None:
    """Worked by hand: the first finds one of two positives, and is right on two of four images."""
    (scores,) = tables(compared(tmp_path), "Scores")
    assert scores["Dice (the challenge's score)"] == ["0.5000", "1.0000", "0.5000"]
    assert scores["sensitivity"] == ["0.5000", "1.0000", "0.0000"]
    assert scores["AUC of the image probability"] == ["0.7500", "1.0000", "0.5000"]


def test_differences_are_of_the_same_cases(tmp_path: Path) -> None:
    """With four patients all 16 swaps are tried; the 8 that swap both of b and c, or neither, reach the difference."""
    (differences,) = tables(compared(tmp_path), "Differences")
    assert differences["Dice (the challenge's score)"] == ["+0.5000", "0.5000"]
    assert differences["specificity"][0] == "+0.5000"


def test_two_equal_models_do_not_differ(tmp_path: Path) -> None:
    (differences,) = tables(compared(tmp_path, second=POOR), "Differences")
    assert differences["Dice (the challenge's score)"] == ["+0.0000", "1.0000"]


def test_outcomes_are_counted_pair_by_pair(tmp_path: Path) -> None:
    outcomes, cases = tables(compared(tmp_path), "Cases")
    assert outcomes == {"A and B": ["negatives with a false alarm", 0, 1, 0, 1]}  # the last of two such rows
    assert list(cases) == ["b", "c", "a", "d"]  # those that differ come first
    assert cases["b"] == [100, 0.0, 1.0, "missed", "found", 0.2, 0.9]


def test_only_the_cases_of_all_models_are_compared(tmp_path: Path) -> None:
    page = compared(tmp_path, second={name: GOOD[name] for name in ("b", "a", "d")})
    assert page.subtitle == "A, B on the same 3 images of 3 patients, 2 with a pneumothorax"
    assert page.warnings == ["1 images of A are left out, which not all models have scored."]


@pytest.mark.parametrize(
    ("changed", "scores", "warning"),
    [
        ({"a": {**FOUND, "trained_on": 1}}, {}, "B was trained on 1 of these 4 images"),
        ({}, {"operating_point": "in-sample"}, "not of one kind (A fixed, B in-sample)"),
    ],
)
def test_what_makes_a_comparison_unfair_is_a_warning(
    tmp_path: Path, changed: dict[str, Any], scores: dict[str, Any], warning: str
) -> None:
    (found,) = compared(tmp_path, second={**GOOD, **changed}, **scores).warnings
    assert warning in found


def test_patients_are_those_of_the_evaluation_that_knows_them(tmp_path: Path) -> None:
    """Images of unknown patients are groups of their own, whose name begins with "image:"."""
    paired = read_paired([write(tmp_path / "a", POOR, groups="image:"), write(tmp_path / "b", GOOD)])
    assert list(paired.groups) == ["pa", "pb", "pc", "pd"]
    unknown = read_paired([write(tmp_path / name, POOR, groups="image:") for name in ("c", "d")])
    assert str(unknown.count) == "4 images"


def test_masks_are_those_whose_scores_are_quoted(tmp_path: Path) -> None:
    crossed = {
        f"cross_fitted_{name}": value
        for name, value in MISSED.items()
        if name in ("dice", "area_px", "overlap_px")
    }
    folder = write(tmp_path / "crossed", {"a": {**FOUND, **crossed}}, operating_point="cross-fitted")
    paired = read_paired([folder, folder])
    assert paired.images[0].pred_px.tolist() == [0]


def test_runs_are_compared_by_their_evaluations_and_learning_curves(tmp_path: Path) -> None:
    page = comparison_page([write_run(tmp_path / name) for name in ("one", "two")])
    (block,) = section(page, "Learning").blocks
    assert isinstance(block, Charts)
    # there is no loss
    assert [chart.title for chart in block.charts] == [
        "validation Dice",
        "validation AUC",
    ]


def test_a_model_folder_stands_for_the_evaluation_of_its_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "model").mkdir()
    with pytest.raises(UsageError, match="holds no evaluation"):
        read_paired([run, run / "model"])
    description = run / "model" / "model.json"
    description.write_text(json.dumps({"members": [{"sha256": "2" * 64}]}))  # trained further since
    with pytest.raises(UsageError, match="holds no evaluation of this model"):
        read_paired([run / "model"])
    description.write_text("{}")
    with pytest.raises(JobError, match="holds results that this release cannot show"):
        read_paired([run / "model"])
    description.write_text(json.dumps({"members": [{"sha256": "1" * 64}]}))
    assert read_paired([run, run / "model"]).models[1].folder == run / "evaluation"


def test_the_folder_of_an_evaluation_may_have_any_name(tmp_path: Path) -> None:
    named = [write(tmp_path / name, GOOD) for name in ("evaluation", "other")]
    assert [model.folder for model in read_paired(named).models] == named


def test_another_label_of_a_case_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        JobError, match=r"b has a label of 100 px in .*poor and of 90 px in .*good; evaluate both"
    ):
        compared(tmp_path, second={**GOOD, "b": {**FOUND, "label_area_px": 90}})


def test_models_without_a_common_case_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="have no case in common; evaluate both models on one manifest"):
        compared(tmp_path, second={"other": QUIET})


def test_damage_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "good", GOOD)
    (folder / "cases.csv").write_text("id,dice\na,1\n")
    with pytest.raises(JobError, match="good: holds results that this release cannot show"):
        comparison_page([write(tmp_path / "poor", POOR), folder])
