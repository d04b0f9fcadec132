import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pneumoseg.pipeline.reporting.content import Picture
from pneumoseg.pipeline.reporting.panels import SIDE_PX, case_panels, jpeg_of

SHAPE = (1000, 500)


def draw(**changes: Any) -> dict[str, Picture]:
    mask = np.zeros(SHAPE, np.uint8)
    mask[:500] = 1
    given: dict[str, Any] = {
        "image": np.full(SHAPE, 0.5, np.float32),
        "label": mask,
        "pred": 1 - mask,
        "probabilities": np.zeros(SHAPE, np.float32),
        "uncertainty": np.full(SHAPE, 0.25, np.float32),
        "attention": dict.fromkeys(
            ("gate4", "gate3"), np.linspace(0, 1, SHAPE[0] * SHAPE[1], dtype=np.float32).reshape(SHAPE)
        ),
    }
    return {panel.name: panel for panel in case_panels(**{**given, **changes})}


def pixels(panel: Picture) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(panel.jpeg)))


def test_a_case_shows_what_is_given_true_said_and_looked_at() -> None:
    assert list(draw()) == [
        "radiograph", "truth", "prediction", "probability, 0 to 1", "uncertainty, 0 to 0.25",
        "attention, gate4", "attention, gate3",
    ]  # fmt: skip


def test_what_is_not_known_is_not_shown() -> None:
    names = set(draw(label=None, uncertainty=None, attention={}))
    assert names == {"radiograph", "prediction", "probability, 0 to 1"}


def test_panels_keep_the_proportions_and_are_small() -> None:
    assert {pixels(panel).shape for panel in draw().values()} == {(SIDE_PX, SIDE_PX // 2, 3)}


def test_a_small_image_is_not_blown_up() -> None:
    assert jpeg_size(np.zeros((16, 32, 3), np.uint8)) == (32, 16)


def jpeg_size(picture: NDArray[np.uint8]) -> tuple[int, int]:
    return Image.open(io.BytesIO(jpeg_of(picture))).size


def test_a_radiograph_is_as_bright_as_it_was() -> None:
    assert pixels(draw()["radiograph"]).mean() == pytest.approx(127.5, abs=2)


def test_truth_tints_its_half_and_no_other() -> None:
    truth = pixels(draw()["truth"]).astype(float)
    blueness = (truth[..., 2] - truth[..., 0]).mean(axis=1)
    assert blueness[: SIDE_PX // 2 - 8].min() > 10
    assert abs(blueness[SIDE_PX // 2 + 8 :]).max() < 3


def test_a_probability_of_zero_is_as_dark_whatever_the_others_are() -> None:
    half = np.zeros(SHAPE, np.float32)
    half[:, :250] = 0.9
    with_others, alone = (
        pixels(draw(probabilities=half)["probability, 0 to 1"]),
        pixels(draw()["probability, 0 to 1"]),
    )
    right = np.s_[:, 150:]
    assert np.abs(with_others[right].astype(int) - alone[right]).max() <= 4  # JPEG
