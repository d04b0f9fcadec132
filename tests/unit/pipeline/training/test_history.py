import csv
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from PIL import Image

from pneumoseg.pipeline.training.gallery import Gallery
from pneumoseg.pipeline.training.history import COLUMNS, History, WrittenHistory, draw_progress


def row(epoch: int, **values: Any) -> dict[str, Any]:
    return {"epoch": epoch, "loss": 1 / epoch, "learning_rate": 0.001, "dice": 0.77, "predict_nothing": 0.7742,
            "dice_positive": 0.1, "sensitivity": 0.5, "specificity": 0.9, "auc": 0.6, **values}  # fmt: skip


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class Told:
    """A tracker that keeps what it is told."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.pictures: list[tuple[str, Figure, int]] = []

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def show(self, name: str, figure: Figure, epoch: int) -> None:
        self.pictures.append((name, figure, epoch))

    def close(self) -> None:
        pass


class TwoPictures(Gallery):
    """Two pictures without a network."""

    def __init__(self) -> None:
        self.figures = [("a", Figure()), ("b", Figure())]

    def draw(self, _: Any) -> Any:
        return iter(self.figures)


@pytest.fixture
def history(tmp_path: Path) -> WrittenHistory:
    return WrittenHistory(tmp_path)


def test_a_history_of_a_process_that_writes_nothing_keeps_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    history = History([row(1)])
    history.add(row(2))
    history.show_best(None)  # type: ignore[arg-type]
    assert [one["epoch"] for one in history.rows] == [1, 2]
    assert list(tmp_path.iterdir()) == []


def test_rows_that_are_handed_over_are_not_changed(tmp_path: Path) -> None:
    rows = [row(1)]
    History(rows).add(row(2))
    WrittenHistory(tmp_path, rows=rows).add(row(2))
    assert len(rows) == 1


def test_each_epoch_is_a_row_of_the_table(history: WrittenHistory, tmp_path: Path) -> None:
    history.add(row(1))
    history.add(row(2))
    rows = read(tmp_path / "metrics.csv")
    assert list(rows[0]) == list(COLUMNS)
    assert [(one["epoch"], one["loss"], one["predict_nothing"]) for one in rows] == [
        ("1", "1", "0.7742"),
        ("2", "0.5", "0.7742"),
    ]


def test_a_score_that_there_is_not_is_an_empty_cell(history: WrittenHistory, tmp_path: Path) -> None:
    history.add(row(1, dice_positive=None, auc=None))
    assert read(tmp_path / "metrics.csv")[0]["auc"] == ""


def test_a_run_that_goes_on_keeps_the_rows_before(tmp_path: Path) -> None:
    history = WrittenHistory(tmp_path, rows=[row(1), row(2)])
    history.add(row(3))
    assert [one["epoch"] for one in read(tmp_path / "metrics.csv")] == ["1", "2", "3"]


def test_every_tracker_gets_each_row(tmp_path: Path) -> None:
    trackers = [Told(), Told()]
    history = WrittenHistory(tmp_path, trackers=trackers, rows=[row(1)])
    history.add(row(2))
    history.add(row(3))
    assert [tracker.rows for tracker in trackers] == [[row(2), row(3)]] * 2


def test_every_tracker_gets_the_pictures_of_the_best_epoch(tmp_path: Path) -> None:
    trackers, gallery = [Told(), Told()], TwoPictures()
    history = WrittenHistory(tmp_path, trackers=trackers, gallery=gallery)
    history.add(row(1))
    history.add(row(2))
    history.show_best(None)  # type: ignore[arg-type]
    assert [tracker.pictures for tracker in trackers] == [[(*one, 2) for one in gallery.figures]] * 2


def test_without_trackers_no_picture_is_drawn(tmp_path: Path) -> None:
    class Never(TwoPictures):
        def draw(self, _: Any) -> Any:
            raise AssertionError

    history = WrittenHistory(tmp_path, gallery=Never())
    history.add(row(1))
    history.show_best(None)  # type: ignore[arg-type]
    assert history.trackers == ()


@pytest.mark.parametrize(
    "rows",
    [[row(1)], [row(n) for n in range(1, 60)], [row(1, dice_positive=None, auc=None, sensitivity=None)]],
)
def test_the_picture_is_drawn_for_one_epoch_and_for_many(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    draw_progress(rows, tmp_path / "progress.png")
    with Image.open(tmp_path / "progress.png") as picture:
        assert picture.width > picture.height > 300


def test_the_picture_comes_with_the_table(history: WrittenHistory, tmp_path: Path) -> None:
    history.add(row(1))
    assert (tmp_path / "progress.png").stat().st_size > 1000
