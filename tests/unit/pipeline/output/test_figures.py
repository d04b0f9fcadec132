from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pneumoseg.pipeline.output.figures import draw_case


def draw(folder: Path, pred: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))
    label = np.zeros((64, 64), dtype=np.uint8)
    label[10:30, 10:30] = 1
    path = folder / "figure.png"
    attention = np.tile(np.linspace(0, 1, 64, dtype=np.float32)[:, None], (1, 64))
    draw_case(
        path, image=image, label=label, pred=pred, attention=attention, probability=0.93, title="radiograph"
    )
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
