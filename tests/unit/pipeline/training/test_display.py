import io
from typing import Any

import pytest
from ignite.engine import Engine, Events
from rich.console import Console

from pneumoseg.pipeline.training.display import TrainingDisplay, _duration
from pneumoseg.pipeline.training.handlers import EpochMeter


def row(**values: Any) -> dict[str, Any]:
    return {"epoch": 2, "loss": 0.5, "dice": 0.8, "predict_nothing": 0.7742, "dice_positive": 0.25, "auc": 0.75,
            "sensitivity": 0.5, "specificity": 0.9, "images_per_s": 12.4, **values}  # fmt: skip


def lines(capsys: pytest.CaptureFixture[str], *rows: dict[str, Any]) -> list[str]:
    with TrainingDisplay(EpochMeter(4), epochs=10, steps=3) as display:
        for one in rows:
            display.print_epoch(one)
    return capsys.readouterr().out.splitlines()


def test_an_epoch_is_one_line_where_standard_output_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert len(lines(capsys, row(), row(epoch=3))) == 2


def test_the_score_stands_beside_that_of_predicting_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = lines(capsys, row())
    assert "epoch   2/10" in line
    assert "loss 0.5000" in line
    assert "Dice 0.8000 (predict nothing 0.7742)" in line
    assert "positives 0.250  AUC 0.750" in line
    assert "12 images/s" in line
    assert line.endswith("left")


def test_scores_that_do_not_exist_are_dashes(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = lines(capsys, row(dice_positive=None, auc=None))
    assert "positives -  AUC -" in line


def test_a_run_that_validates_nothing_shows_its_loss_and_speed(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = lines(capsys, {"epoch": 2, "loss": 0.5, "images_per_s": 12.4})
    assert line.startswith("epoch   2/10  loss 0.5000  12 images/s  ")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3599, "59:59"), (3661, "1:01:01")]
)
def test_a_time_is_shown_in_hours_minutes_and_seconds(seconds: float, text: str) -> None:
    assert _duration(seconds) == text


def test_a_terminal_shows_a_bar_with_the_loss_of_the_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr("pneumoseg.pipeline.training.display.console", screen)
    meter = EpochMeter(4)
    display = TrainingDisplay(meter, epochs=10, steps=3)
    trainer = Engine(lambda _, __: meter.add(0.25))
    meter.attach(trainer)
    display.attach(trainer)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), trainer.terminate)
    with display:
        trainer.run([0, 1, 2], max_epochs=2)
    assert "epoch 1/10" in screen.file.getvalue()  # type: ignore[attr-defined]
    assert "2/30" in screen.file.getvalue()  # type: ignore[attr-defined]
    assert "loss 0.250  Dice -" in screen.file.getvalue()  # type: ignore[attr-defined]
