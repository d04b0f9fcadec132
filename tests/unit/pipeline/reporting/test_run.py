import json
from pathlib import Path

import pytest
from tests.unit.pipeline.reporting.folders import write_run

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.reporting.content import Charts, Folded, Page, Tiles
from pneumoseg.pipeline.reporting.run import run_page


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts are thought out, but not written."""
    for module in ("charts", "run"):
        monkeypatch.setattr(
            f"pneumoseg.pipeline.reporting.{module}.to_svg", lambda *_, name: f"<svg>{name}</svg>"
        )


def titles(page: Page) -> list[str]:
    return [each.title for each in page.sections]


def charts(page: Page, title: str) -> dict[str, str]:
    blocks = [block for each in page.sections if each.title == title for block in each.blocks]
    return {chart.title: chart.svg for block in blocks if isinstance(block, Charts) for chart in block.charts}


def tiles(page: Page, title: str) -> dict[str, tuple[str, str]]:
    blocks = [block for each in page.sections if each.title == title for block in each.blocks]
    return {
        tile.name: (tile.value, tile.beside)
        for block in blocks
        if isinstance(block, Tiles)
        for tile in block.tiles
    }


def test_a_run_shows_its_scores_first_and_then_how_it_learned(tmp_path: Path) -> None:
    assert titles(run_page(write_run(tmp_path))) == [
        "Summary", "Learning", "Operating point", "Probabilities", "Subgroups", "Gallery", "Cases", "How it was made",
        "Configuration",
    ]  # fmt: skip


def test_the_first_line_says_what_was_scored(tmp_path: Path) -> None:
    assert run_page(write_run(tmp_path)).subtitle.startswith("made up: fold 0, held out; 4 images")


def test_every_learning_curve_is_drawn(tmp_path: Path) -> None:
    assert list(charts(run_page(write_run(tmp_path)), "Learning")) == ["Loss", "Dice", "Classification"]


def test_the_kept_epoch_the_steps_and_the_time_are_told(tmp_path: Path) -> None:
    found = tiles(run_page(write_run(tmp_path)), "Learning")
    assert found["kept epoch"] == ("2", "of 3; its weights were kept")
    assert found["steps per epoch"] == ("30", "1 skipped")
    assert found["time"][0] == "3.0 min"  # three epochs of 60 s


def test_an_average_of_weights_is_said_to_be_one(tmp_path: Path) -> None:
    summary = json.loads((write_run(tmp_path) / "summary.json").read_text())
    (tmp_path / "summary.json").write_text(json.dumps({**summary, "averaged": True}))
    assert "an average of weights" in tiles(run_page(tmp_path), "Learning")["kept epoch"][1]


def test_the_configuration_can_be_unfolded(tmp_path: Path) -> None:
    (block,) = run_page(write_run(tmp_path)).sections[-1].blocks
    assert block == Folded("config.yaml", "optimization:\n  epochs: 3\n")


# runs that have not come to their end


def test_a_run_without_an_evaluation_shows_what_there_is(tmp_path: Path) -> None:
    page = run_page(write_run(tmp_path, evaluated=False))
    assert titles(page) == ["Learning", "Configuration"]
    assert "no evaluation" in page.warnings[0]


@pytest.mark.parametrize(("digest", "is_shown"), [("1" * 64, True), ("2" * 64, False)])
def test_an_evaluation_from_before_a_run_was_made_longer_is_not_shown(
    digest: str, *, is_shown: bool, tmp_path: Path
) -> None:
    model = write_run(tmp_path) / "model"
    model.mkdir(exist_ok=True)
    (model / "model.json").write_text(json.dumps({"members": [{"sha256": digest}]}))
    assert ("Summary" in titles(run_page(tmp_path))) == is_shown


def test_a_run_on_all_images_says_where_its_scores_are(tmp_path: Path) -> None:
    summary = json.loads((write_run(tmp_path, evaluated=False) / "summary.json").read_text())
    (tmp_path / "summary.json").write_text(json.dumps({**summary, "fold": None}))
    page = run_page(tmp_path)
    assert (page.subtitle, titles(page)) == ("on all images", ["Learning", "Configuration"])
    assert "those of the cross-validation before it" in page.warnings[0]


def test_a_run_that_was_interrupted_has_curves_without_a_best_epoch(tmp_path: Path) -> None:
    page = run_page(write_run(tmp_path, ended=False, evaluated=False))
    assert tiles(page, "Learning") == {}
    assert len(charts(page, "Learning")) == 3


def test_a_run_that_ended_before_its_first_epoch_shows_its_configuration(tmp_path: Path) -> None:
    write_run(tmp_path, epochs=0, ended=False, evaluated=False)
    assert titles(run_page(tmp_path)) == ["Configuration"]
    (tmp_path / "metrics.csv").unlink()
    assert titles(run_page(tmp_path)) == ["Configuration"]


def test_an_epoch_that_lost_its_numbers_is_drawn_as_a_gap(tmp_path: Path) -> None:
    table = write_run(tmp_path) / "metrics.csv"
    table.write_text(table.read_text().replace(",0.5,", ",nan,", 1))
    assert len(charts(run_page(tmp_path), "Learning")) == 3


# all folds


def all_folds(run: Path, *, folds: int, evaluated: bool = True) -> Path:
    write_run(run, evaluated=evaluated)
    for name in ("config.yaml", "metrics.csv", "summary.json"):
        (run / name).unlink()
    for fold in range(folds):
        write_run(run / f"fold{fold}", evaluated=False)
    return run


def test_each_fold_has_its_curves_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    page = run_page(all_folds(tmp_path, folds=11))
    assert titles(page)[1:12] == [f"Learning, fold{fold}" for fold in range(11)]
    assert titles(page)[-1] == "Configuration"


def test_no_two_charts_of_all_folds_have_a_name_in_common(tmp_path: Path) -> None:
    page = run_page(all_folds(tmp_path, folds=3))
    names = [
        chart.svg
        for each in page.sections
        for block in each.blocks
        if isinstance(block, Charts)
        for chart in block.charts
    ]
    assert len(names) == len(set(names))


def test_all_folds_that_were_interrupted_show_those_that_began(tmp_path: Path) -> None:
    page = run_page(all_folds(tmp_path, folds=2, evaluated=False))
    assert titles(page) == ["Learning, fold0", "Learning, fold1", "Configuration"]


# damage


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.csv", b"\xff"),
        ("metrics.csv", b""),
        ("metrics.csv", b"a,b\n1,2\n"),
        ("summary.json", b"{}"),
        ("summary.json", b"{"),
        ("config.yaml", b"\xff"),
        ("evaluation/scores.json", b"{}"),
        ("evaluation/cases.csv", b"id\nx\n"),
        ("evaluation/gallery/gallery.json", b"{"),
    ],
)
def test_damage_is_an_error_of_one_line_that_names_the_folder(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (write_run(tmp_path) / name).write_bytes(content)
    with pytest.raises(JobError) as caught:
        run_page(tmp_path)
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)
