from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import bright_pixel_network, make_case

from pneumoseg.pipeline.core.devices import Precision
from pneumoseg.pipeline.training.gallery import Gallery

FLOAT32 = Precision(torch.device("cpu"), torch.float32)
SIDE = 48


def gallery(areas: list[int], validation: list[int] | None = None) -> Gallery:
    """Cases of these areas in pixels, each a bright block upon grey."""
    cases = [
        make_case(number, id=f"1.2.840.{number}", group=f"patient{number}", area_px=area, label=())
        for number, area in enumerate(areas)
    ]
    pixels = np.full((len(areas), 2, SIDE, SIDE), 60, dtype=np.uint8)
    for number in range(len(areas)):
        pixels[number, :, 5 : 9 + number, 5:15] = 250
    return Gallery(cases, range(len(areas)) if validation is None else validation, pixels, precision=FLOAT32)


def texts(figure: Any) -> str:
    return "\n".join(text.get_text() for axes in figure.axes for text in [axes.title, *axes.texts])


def test_a_large_a_middling_and_a_small_one_are_shown() -> None:
    # 90, 80, ... 10: a quarter, a half and three quarters of the way down
    assert gallery([50, 90, 10, 30, 70, 20, 60, 40, 80]).shown == [4, 0, 3]


def test_images_without_pneumothorax_are_not_shown() -> None:
    assert gallery([0, 5, 0, 9, 0, 7]).shown == [3, 5, 1]


def test_only_validation_cases_are_shown() -> None:
    assert set(gallery([9, 8, 7, 6, 5, 4], validation=[5, 1, 3]).shown) == {1, 3, 5}


@pytest.mark.parametrize(("areas", "shown"), [([0, 0], []), ([0, 4], [1]), ([6, 4], [0, 1])])
def test_where_there_are_fewer_each_is_shown_once(areas: list[int], shown: list[int]) -> None:
    assert gallery(areas).shown == shown


def test_names_and_titles_tell_nothing_of_the_patients() -> None:
    drawn = list(gallery([9, 8, 7, 6, 5]).draw(bright_pixel_network()))
    assert [name for name, _ in drawn] == [f"validation/case-{number}" for number in (1, 2, 3)]
    for name, figure in drawn:
        told = name + texts(figure)
        assert "1.2.840" not in told
        assert "patient" not in told
        assert "group" not in told


def test_a_figure_shows_the_case_with_what_the_network_says_of_it() -> None:
    # the network finds the bright block to the pixel
    shown = gallery([5])
    ((_, figure),) = shown.draw(bright_pixel_network())
    _, label, prediction, _ = (axes.images[0].get_array() for axes in figure.axes)
    inside = np.zeros((SIDE, SIDE), dtype=bool)
    inside[5:9, 5:15] = True
    for picture in (label, prediction):
        pixels = np.asarray(picture)
        tinted = (pixels != pixels[..., :1]).any(axis=2)
        assert tinted[inside].all()
        assert not tinted[12:].any()
    assert "probability > 0.99" in texts(figure)


def test_a_network_is_asked_without_dropout_and_without_gradients() -> None:
    network = bright_pixel_network().train()
    list(gallery([5]).draw(network))
    assert not network.training
    assert all(parameter.grad is None for parameter in network.parameters())
