from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pneumoseg.pipeline.drawing.figures import make_case_figure, save_figure


def draw(folder: Path, pred: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))
    label = np.zeros((64, 64), dtype=np.uint8)
    label[10:30, 10:30] = 1
    path = folder / "figure.png"
    attention = np.tile(np.linspace(0, 1, 64, dtype=np.float32)[:, None], (1, 64))
    figure = make_case_figure(
        image=image, label=label, pred=pred, attention=attention, probability=0.93, title="radiograph"
    )
    save_figure(figure, path)
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def test_a_case_is_four_panels_side_by_side(tmp_path: Path) -> None:
    picture = draw(tmp_path, np.zeros((64, 64), np.uint8))
    rows, columns, _ = picture.shape
    assert columns > 3 * rows
    filled = (picture[rows // 2 :].max(axis=2) > 40).any(axis=0)
    panels = np.flatnonzero(np.diff(filled.astype(int)) == 1)
    assert 3 <= len(panels) + filled[0] <= 5


def test_the_prediction_is_drawn_in_the_third_panel(tmp_path: Path) -> None:
    without, with_ = draw(tmp_path, np.zeros((64, 64), np.uint8)), draw(tmp_path, np.ones((64, 64), np.uint8))
    changed = np.flatnonzero((without != with_).any(axis=(0, 2)))
    width = without.shape[1]
    assert width / 2 <= changed.min()
    assert changed.max() < 0.76 * width


def test_a_figure_that_is_saved_again_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    first = draw(tmp_path, np.zeros((64, 64), np.uint8))
    second = draw(tmp_path, np.ones((64, 64), np.uint8))
    assert not np.array_equal(first, second)
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]


def test_each_panel_says_what_it_shows() -> None:
    square, empty = np.zeros((8, 8), dtype=np.float32), np.zeros((8, 8), dtype=np.uint8)
    figure = make_case_figure(
        image=square, label=empty, pred=empty, attention=square, probability=0.93, title="radiograph"
    )
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["radiograph", "label", "prediction, probability 0.93", "attention gate"]


def test_single_bright_pixels_do_not_wash_out_the_attention() -> None:
    square, empty = np.zeros((50, 50), dtype=np.float32), np.zeros((50, 50), dtype=np.uint8)
    attention = np.linspace(0.4, 0.5, 2500, dtype=np.float32).reshape(50, 50)
    attention[0, :10] = 1.0  # 10 of 2500 pixels
    figure = make_case_figure(
        image=square, label=empty, pred=empty, attention=attention, probability=0.0, title=""
    )
    low, high = figure.axes[3].images[1].get_clim()
    assert 0.4 < low < 0.41
    assert 0.49 < high < 0.5
