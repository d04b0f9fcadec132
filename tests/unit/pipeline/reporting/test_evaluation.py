from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.pipeline.reporting.folders import (
    CASES,
    FALSE_ALARM,
    FOUND,
    MISSED,
    SCORES,
    SURFACE,
    exhibit,
    write_evaluation,
)

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.reporting.content import (
    Cell,
    CellValue,
    Chart,
    Charts,
    Folded,
    Page,
    PictureGallery,
    Section,
    Table,
    Text,
    Tile,
    Tiles,
)
from pneumoseg.pipeline.reporting.evaluation import evaluation_page
from pneumoseg.pipeline.reporting.evaluation_tables import outcome
from pneumoseg.pipeline.scoring.headline import TITLES


def section(page: Page, title: str) -> Section:
    (found,) = [each for each in page.sections if each.title == title]
    return found


def titles(page: Page) -> list[str]:
    return [each.title for each in page.sections]


def table(page: Page, title: str) -> Table:
    (found,) = [block for block in section(page, title).blocks if isinstance(block, Table)]
    return found


def texts(shown: Table) -> list[list[object]]:
    """The cells as they are read, with their notes."""
    return [
        [" ".join(filter(None, (cell.text, cell.note))) if isinstance(cell, Cell) else cell for cell in row]
        for row in shown.rows
    ]


def column(shown: Table, name: str) -> list[CellValue]:
    place = shown.columns.index(name)
    return [row[place] for row in shown.rows]


def words(page: Page, title: str) -> str:
    return " ".join(block.text for block in section(page, title).blocks if isinstance(block, Text))


def charts(page: Page, title: str) -> list[str]:
    blocks = [block for block in section(page, title).blocks if isinstance(block, Charts)]
    return [chart.title for block in blocks for chart in block.charts]


def tiles(page: Page) -> list[Tile]:
    blocks = [block for block in section(page, "Summary").blocks if isinstance(block, Tiles)]
    return [tile for block in blocks for tile in block.tiles]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Of one case of each outcome."""
    return evaluation_page(write_evaluation(tmp_path_factory.mktemp("evaluation"), exhibits=[exhibit()]))


@pytest.fixture(autouse=True)
def quick(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other pages than that one are made with charts that are thought out, but not written."""
    monkeypatch.setattr("pneumoseg.pipeline.reporting.charts.to_svg", lambda *_, name: f"<svg>{name}</svg>")


def made_of(folder: Path, *cases: dict[str, Any], **scores: Any) -> Page:
    return evaluation_page(write_evaluation(folder, cases or CASES, **scores))


NEW = {name: {"value": 0.625, "low": None, "high": None} for name in ("dice", "sensitivity")}


# what stands there


def test_a_report_has_a_part_for_each_question(page: Page) -> None:
    assert titles(page) == [
        "Summary", "Operating point", "Probabilities", "Subgroups", "Gallery", "Cases", "How it was made",
    ]  # fmt: skip


def test_the_first_line_says_what_was_scored(page: Page) -> None:
    assert page.subtitle == "made up: fold 0, held out; 4 images of 3 patients, 2 with a pneumothorax"


def test_patients_that_are_not_known_are_not_mentioned(tmp_path: Path) -> None:
    unknown = {"patients": None, "unknown_patients": 4}
    page = made_of(tmp_path, **unknown)
    assert "; 4 images, 2 with a pneumothorax" in page.subtitle
    assert "2,000 bootstrap resamples, resampled by image" in str(page.sections[-1])
    assert "tuned without the image:" in words(
        made_of(tmp_path, TURNED, **CROSS_FITTED, **unknown), "Summary"
    )


def test_all_folds_are_called_so(tmp_path: Path) -> None:
    assert "made up: all folds; 4 images" in made_of(tmp_path, fold=None).subtitle


def test_a_headline_stands_beside_its_interval_and_predicting_nothing(page: Page) -> None:
    first = tiles(page)[0]
    assert (first.name, first.value) == ("Dice", "0.7500")
    assert (first.beside, first.comparison) == ("0.5000 to 0.8750", "predict nothing 0.2500")


def test_the_table_has_every_number_with_its_interval(page: Page) -> None:
    shown = table(page, "Summary")
    assert list(shown.columns) == ["measure", "value", "predict nothing"]
    lengths = {"hausdorff95_mm", "false_positive_px"}
    assert texts(shown) == [
        [title, "0.8 0.5 to 0.9", "0.2"] if name in lengths else [title, "0.7500 0.5000 to 0.8750", "0.2500"]
        for name, title in TITLES.items()
    ]


def crossed(**values: Any) -> dict[str, Any]:
    """Columns of a case at the cross-fitted operating point."""
    return {f"cross_fitted_{name}": value for name, value in values.items()}


PLATT = {"slope": 0.5, "intercept": -1.0}
CROSS_FITTED: dict[str, Any] = {
    "operating_point": "cross-fitted",
    "scores": NEW,
    "in_sample": SCORES["scores"],
}
TURNED = {**FOUND, "id": "turned", **crossed(predicted_positive=0, dice=0.0, area_px=0)}


def test_cross_fitted_numbers_are_those_to_quote(tmp_path: Path) -> None:
    page = made_of(tmp_path, TURNED, **CROSS_FITTED)
    assert [(tile.name, tile.value, tile.comparison) for tile in tiles(page)] == [
        ("Dice", "0.6250", "predict nothing 0.2500"),
        ("sensitivity", "0.6250", "predict nothing 0.2500"),
    ]
    shown = table(page, "Summary")
    assert list(shown.columns[1:3]) == ["cross-fitted", "in-sample"]
    assert [row[1:3] for row in texts(shown)] == [["0.6250 no interval", "0.7500"]] * 2
    assert "quote these scores" in words(page, "Summary")
    assert "No interval: fewer than 10" in words(page, "Summary")  # the tiles below say "no interval"


def test_cases_are_shown_at_the_operating_point_whose_numbers_are_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mask of this case is there in-sample, and not at the cross-fitted operating point."""
    drawn: dict[str, Any] = {}

    def size_chart(areas: Any, dices: Any, predicted: Any, *, at: str) -> Chart:
        drawn.update(dices=dices.tolist(), predicted=predicted.tolist(), at=at)
        return Chart("Dice and size", "<svg/>")

    monkeypatch.setattr("pneumoseg.pipeline.reporting.charts.size_chart", size_chart)
    for options, outcome_, dice in (
        (CROSS_FITTED, "missed", 0),
        ({"operating_point": "in-sample"}, "found", 0.8),
    ):
        page = made_of(tmp_path, TURNED, **options)
        shown = table(page, "Cases")
        assert (column(shown, "outcome"), column(shown, "Dice")) == ([outcome_], [dice])
        assert (drawn["dices"], drawn["predicted"]) == ([dice], [outcome_ == "found"])
        assert options["operating_point"] in drawn["at"]


@pytest.mark.parametrize("kind", ["cross-fitted", "in-sample", "fixed"])
def test_every_figure_says_which_operating_point_it_is_at(tmp_path: Path, kind: str) -> None:
    case = {**TURNED, "positive": 1}
    page = evaluation_page(
        write_evaluation(tmp_path, [case], exhibits=[exhibit()], operating_point=kind, scores=NEW)
    )
    name = {"fixed": "operating point of the model"}.get(kind, kind)
    for title in ("Subgroups", "Gallery", "Cases"):
        assert name in words(page, title)
    said = {"fixed": "not tuned on these images"}.get(kind, kind)
    assert said in words(page, "Summary")  # above the tiles
    # whatever point is quoted, the charts try all of them
    assert "in-sample" in words(page, "Operating point")
    notes = {
        chart.title: chart.note
        for title in ("Probabilities", "Operating point")
        for block in section(page, title).blocks
        if isinstance(block, Charts)
        for chart in block.charts
    }
    assert name in notes["Dice and size"]
    assert notes["Each threshold"].startswith("In-sample")
    assert notes["Threshold and minimum area"].startswith("In-sample")


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({"calibration": None}, "those that the model outputs"),
        ({"calibration": PLATT, "operating_point": "in-sample"}, "calibrated in-sample"),
        ({"calibration": PLATT, **CROSS_FITTED}, "with cross-fitted numbers"),
        ({"calibration": PLATT}, "as in training"),
    ],
)
def test_a_reliability_curve_says_how_it_is_calibrated(
    tmp_path: Path, scores: dict[str, Any], expected: str
) -> None:
    page = made_of(tmp_path, TURNED, **scores)
    (block,) = [each for each in section(page, "Probabilities").blocks if isinstance(each, Charts)]
    (note,) = [chart.note for chart in block.charts if chart.title == "Reliability"]
    assert expected in note


def test_an_operating_point_that_was_tuned_on_these_images_is_said_to_be(tmp_path: Path) -> None:
    text = words(made_of(tmp_path, operating_point="in-sample"), "Summary")
    assert "in-sample scores are somewhat too high" in text


def test_a_number_that_there_is_not_is_a_dash(tmp_path: Path) -> None:
    page = made_of(
        tmp_path,
        scores={name: {"value": None, "low": None, "high": None} for name in TITLES},
        predict_nothing={**dict.fromkeys(TITLES), "dice": 0.25},
    )
    assert (tiles(page)[0].value, tiles(page)[0].beside) == ("-", "-")
    assert texts(table(page, "Summary"))[1] == [TITLES["dice_positive"], "-", "-"]


@pytest.mark.parametrize(
    ("scores", "warning"),
    [
        ({"trained_on": 3}, "trained on 3 of these 4 images"),
        ({"leakage_unchecked": 4}, "Leakage cannot be checked for 4 images"),
    ],
)
def test_what_takes_worth_from_the_scores_is_a_warning(
    tmp_path: Path, scores: dict[str, Any], warning: str
) -> None:
    (found,) = made_of(tmp_path, **scores).warnings
    assert warning in found


def test_scores_that_can_be_trusted_have_no_warning(page: Page) -> None:
    assert len(page.warnings) == 0


# the operating point


@pytest.mark.parametrize(
    ("scores", "sentence"),
    [
        ({}, "when more than 0.100% of its pixels exceed 0.500. Both"),
        ({"min_area_fraction": 0.0}, "when any of its pixels exceeds 0.500. Both"),
        ({"segmentation_threshold": 0.25}, "exceed 0.500. Its mask then holds the pixels above 0.250."),
        ({"image_threshold": 0.125}, "exceed 0.500 and its image probability exceeds 0.125. Both"),
        ({"image_threshold": 0.125}, "(in-sample), beside the image threshold of 0.125"),
    ],
)
def test_the_operating_point_is_a_sentence(tmp_path: Path, scores: dict[str, Any], sentence: str) -> None:
    assert sentence in words(made_of(tmp_path, **scores), "Operating point")


def test_thresholds_are_drawn_for_the_minimum_area_that_is_nearest(tmp_path: Path) -> None:
    (block,) = [
        each
        for each in section(made_of(tmp_path, min_area_fraction=0.0008), "Operating point").blocks
        if isinstance(each, Charts)
    ]
    assert "0.100% of the image" in block.charts[1].note


def test_an_evaluation_without_a_score_surface_shows_all_else(tmp_path: Path) -> None:
    page = made_of(tmp_path, surface=None)
    assert titles(page) == ["Summary", "Probabilities", "Subgroups", "Cases", "How it was made"]


def test_a_score_that_no_threshold_has_is_not_drawn(tmp_path: Path) -> None:
    nothing = {**SURFACE, "sensitivity": [[None] * 4] * 2}
    assert len(charts(made_of(tmp_path, surface=nothing), "Operating point")) == 2


# probabilities


def test_probabilities_are_drawn_in_every_way(page: Page) -> None:
    assert charts(page, "Probabilities") == [
        "ROC of the images", "Precision and recall", "Reliability", "Image probability", "Dice and size",
    ]  # fmt: skip


def test_images_of_one_kind_have_neither_roc_nor_precision(tmp_path: Path) -> None:
    negative = made_of(tmp_path / "negative", FALSE_ALARM, {})
    assert charts(negative, "Probabilities") == ["Reliability", "Image probability"]
    positive = made_of(tmp_path / "positive", FOUND, MISSED)
    assert charts(positive, "Probabilities") == ["Reliability", "Image probability", "Dice and size"]


def test_uncertainty_is_shown_where_it_is_known(tmp_path: Path, page: Page) -> None:
    unsure = made_of(tmp_path, {"uncertainty": 0.125}, {**FOUND, "uncertainty": 0.25})
    assert charts(unsure, "Probabilities")[-1] == "Uncertainty of the images"
    assert column(table(unsure, "Cases"), "uncertainty") == [0.25, 0.125]
    assert "uncertainty" not in table(page, "Cases").columns


@pytest.mark.parametrize("case", [FOUND, MISSED, FALSE_ALARM, {}])
def test_a_single_case_has_a_report(tmp_path: Path, case: dict[str, Any]) -> None:
    assert len(table(made_of(tmp_path, case), "Cases").rows) == 1


# tables


def test_a_subgroup_has_counts_rounded_numbers_and_intervals(page: Page) -> None:
    shown = table(page, "Subgroups")
    assert texts(shown) == [["mask area quartile 1", 2, 1, 2, 1, "0.123 0.100 to 0.200", *4 * ["-"]]]
    assert len(shown.columns) == len(shown.rows[0])


def test_a_score_of_few_patients_says_that_it_has_no_interval_and_why(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path)
    swap("subgroups.csv", "0.1,0.2", ",")(folder)
    page = evaluation_page(folder)
    assert texts(table(page, "Subgroups"))[0][5] == "0.123 no interval"
    assert "No interval: fewer than 10 patients count" in words(page, "Subgroups")


def test_unknown_patients_have_no_column_among_the_subgroups(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path)
    swap("subgroups.csv", "quartile 1,2,1,2", "quartile 1,2,,2")(folder)
    assert "patients" not in table(evaluation_page(folder), "Subgroups").columns


def test_tile_curve_and_table_have_the_same_number(tmp_path: Path) -> None:
    """Calibrated, too: another number beside the curve would be that of other probabilities."""
    page = made_of(tmp_path, calibration=PLATT)
    notes = [
        chart.note
        for block in section(page, "Probabilities").blocks
        if isinstance(block, Charts)
        for chart in block.charts[:2]
    ]
    value = {tile.name: tile.value for tile in tiles(page)}
    assert notes[0].startswith(f"AUC {value['AUC']}.")
    assert notes[1].startswith(f"Average precision {value['average precision']}.")
    assert all("at the operating point of the model" in note for note in notes)
    assert all("may lie off the curve" in note for note in notes)


def test_the_cases_that_went_worst_come_first(page: Page) -> None:
    assert column(table(page, "Cases"), "case") == ["missed", "alarm", "found", "quiet"]


def test_every_case_has_its_outcome(page: Page) -> None:
    assert column(table(page, "Cases"), "outcome") == ["missed", "false alarm", "found", "rightly negative"]


@pytest.mark.parametrize(
    ("positive", "called", "expected"),
    [("1", "1", "found"), ("1", "0", "missed"), ("0", "1", "false alarm"), ("0", "0", "rightly negative")],
)
def test_the_outcome_is_of_truth_and_call(positive: str, called: str, expected: str) -> None:
    assert outcome({"positive": positive, "predicted_positive": called}) == expected


def test_cases_can_be_chosen_by_what_they_differ_in(page: Page) -> None:
    assert list(table(page, "Cases").filters) == ["outcome", "view", "sex"]  # all are of one fold


@pytest.mark.parametrize("name", ["007", "1e5", "nan", "-1", "<script>", "x" * 300])
def test_the_name_of_a_case_stays_as_it_is(tmp_path: Path, name: str) -> None:
    assert column(table(made_of(tmp_path, {"id": name}), "Cases"), "case") == [name]


def test_what_is_not_known_of_a_case_is_an_empty_cell(page: Page) -> None:
    assert column(table(page, "Cases"), "age") == [58, 58, 58, None]
    assert column(table(page, "Cases"), "Hausdorff mm") == [None] * 4


def test_of_very_many_cases_the_best_are_left_to_the_file(tmp_path: Path) -> None:
    cases = [{"id": f"{number}", "dice": number / 5003} for number in range(5003)]
    shown = table(made_of(tmp_path, *cases), "Cases")
    assert (len(shown.rows), shown.left_out, shown.file) == (5000, 3, "cases.csv")
    assert column(shown, "case")[-1] == "4999"


def test_the_pictures_of_the_gallery_are_in_the_report(page: Page) -> None:
    _, gallery = section(page, "Gallery").blocks
    assert isinstance(gallery, PictureGallery)
    assert [panel.name for panel in gallery.cases[0].panels] == ["radiograph", "truth"]


def test_what_was_set_can_be_unfolded(tmp_path: Path) -> None:
    page = made_of(tmp_path, tta=["flip"], model_weights_sha256=[], calibration=None)
    (folded,) = [each for each in section(page, "How it was made").blocks if isinstance(each, Folded)]
    lines = folded.text.split("\n")
    assert {"threshold: 0.5", "tta: flip", "objective: none", "model_weights_sha256: none"} <= set(lines)


# damage


def drop(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def put(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


def swap(name: str, old: str, new: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return change


@pytest.mark.parametrize(
    "damage",
    [
        drop("scores.json"),
        drop("cases.csv"),
        drop("subgroups.csv"),
        drop("gallery/01-1.jpg"),
        put("scores.json", "{}"),
        put("scores.json", "[]"),
        put(
            "scores.json",
            '{"manifest": "x", "images": 1, "patients": 1, "unknown_patients": 0, "positives": 1}',
        ),
        swap("scores.json", '"value": 0.75', '"value": "much"'),
        swap("scores.json", '"reliability": {', '"reliability": [], "was": {'),
        swap("scores.json", '"images": [{', '"images": [3, {'),
        swap("scores.json", '"min_area_fraction": 0.001', '"min_area_fraction": null'),
        put("cases.csv", ""),
        put("cases.csv", "id,dice\nx,1\n"),
        put("cases.csv", "\x00"),
        swap("cases.csv", ",0.9,", ",likely,"),
        swap("cases.csv", ",0.9,", ",nan,"),
        swap("cases.csv", "alarm,p0,0,0,0,", "alarm,p0,0,0,perhaps,"),
        swap("subgroups.csv", "0.1,0.2", "low,high"),
        put("subgroups.csv", "a,b\n1,2\n"),
        put("score_surface.json", "{}"),
        swap("score_surface.json", "[0.0, 0.001]", "[]"),
        swap("score_surface.json", "[0.2, 0.5, 0.7, 0.5]", "[0.2]"),
        swap("score_surface.json", "[[0.2, 0.4, 0.6, 0.5], [0.2, 0.5, 0.7, 0.5]]", "[]"),
        put("gallery/gallery.json", '[{"kind": "best", "name": "x", "facts": [1], "panels": []}]'),
        put("gallery/gallery.json", "[" * 100_000),
    ],
)
def test_damage_is_an_error_of_one_line_that_names_the_folder(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    folder = write_evaluation(tmp_path / "evaluation", exhibits=[exhibit()])
    damage(folder)
    with pytest.raises(JobError) as caught:
        evaluation_page(folder)
    assert str(caught.value).startswith(str(folder))
    assert "anew" in str(caught.value)
    assert "\n" not in str(caught.value)
