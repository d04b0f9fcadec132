import csv
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)
from torch.utils.tensorboard import SummaryWriter

from pneumoseg.pipeline.training.history import COLUMNS, History, draw_progress


def row(epoch: int, **values: Any) -> dict[str, Any]:
    return {"epoch": epoch, "loss": 1 / epoch, "learning_rate": 0.001, "dice": 0.77, "predict_nothing": 0.7742,
            "dice_positive": 0.1, "sensitivity": 0.5, "specificity": 0.9, "auc": 0.6, **values}  # fmt: skip


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path, SummaryWriter(str(tmp_path / "tensorboard")))


def test_each_epoch_is_a_row_of_the_table(history: History, tmp_path: Path) -> None:
    history.add(row(1))
    history.add(row(2))
    rows = read(tmp_path / "metrics.csv")
    assert list(rows[0]) == list(COLUMNS)
    assert [(one["epoch"], one["loss"], one["predict_nothing"]) for one in rows] == [
        ("1", "1", "0.7742"),
        ("2", "0.5", "0.7742"),
    ]


def test_a_score_that_there_is_not_is_an_empty_cell(history: History, tmp_path: Path) -> None:
    history.add(row(1, dice_positive=None, auc=None))
    assert read(tmp_path / "metrics.csv")[0]["auc"] == ""


def test_a_run_that_goes_on_keeps_the_rows_before(tmp_path: Path) -> None:
    history = History(tmp_path, SummaryWriter(str(tmp_path / "tensorboard")), [row(1), row(2)])
    history.add(row(3))
    assert [one["epoch"] for one in read(tmp_path / "metrics.csv")] == ["1", "2", "3"]


def test_tensorboard_shows_the_numbers_by_epoch(history: History, tmp_path: Path) -> None:
    history.add(row(1, auc=None))
    history.add(row(2))
    history.writer.close()
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in board.Scalars("loss")] == [(1, 1.0), (2, 0.5)]
    assert [event.step for event in board.Scalars("auc")] == [2]


@pytest.mark.parametrize(
    "rows",
    [[row(1)], [row(n) for n in range(1, 60)], [row(1, dice_positive=None, auc=None, sensitivity=None)]],
)
def test_the_picture_is_drawn_for_one_epoch_and_for_many(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    draw_progress(rows, tmp_path / "progress.png")
    with Image.open(tmp_path / "progress.png") as picture:
        assert picture.width > picture.height > 300


def test_the_picture_comes_with_the_table(history: History, tmp_path: Path) -> None:
    history.add(row(1))
    assert (tmp_path / "progress.png").stat().st_size > 1000
