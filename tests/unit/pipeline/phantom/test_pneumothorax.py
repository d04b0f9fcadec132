"""The crescent of gas: its geometry in millimetres."""

import numpy as np
import pytest

from pneumoseg.pipeline.phantom.pneumothorax import ANGLES, PneumothoraxPlan, area_at
from pneumoseg.pipeline.phantom.scene import make_scene


@pytest.mark.parametrize(
    ("quantile", "area"), [(0, 55), (0.05, 1_362), (0.5, 8_630), (0.95, 45_772), (1, 161_421)]
)
def test_area_quantiles_are_those_of_the_challenge(quantile: float, area: float) -> None:
    assert area_at(quantile) == pytest.approx(area)


def test_the_lung_edge_never_lies_outside_of_the_chest_wall() -> None:
    for seed in range(20):
        (collapse,) = make_scene(seed, pneumothorax=PneumothoraxPlan(area_at(seed / 19))).collapses
        assert (collapse.edge <= collapse.rim).all()


def test_a_larger_area_leaves_a_smaller_lung() -> None:
    small, large = (
        make_scene(3, pneumothorax=PneumothoraxPlan(area)).collapses[0] for area in (2_000, 60_000)
    )
    assert large.edge.sum() < small.edge.sum()


def test_even_the_largest_leaves_a_stump_at_the_hilum() -> None:
    (collapse,) = make_scene(3, pneumothorax=PneumothoraxPlan(161_421)).collapses
    assert (collapse.edge**2).sum() > 0.05 * (collapse.rim**2).sum()


def test_no_vessel_of_the_drawn_back_lung_reaches_into_the_gas() -> None:
    (collapse,) = make_scene(5, pneumothorax=PneumothoraxPlan(30_000)).collapses
    rim = np.stack(
        [
            collapse.hilum[0] + collapse.side * 0.99 * collapse.rim * np.sin(ANGLES),
            collapse.hilum[1] - 0.99 * collapse.rim * np.cos(ANGLES),
        ],
        axis=1,
    )
    x, y = collapse.retract(rim).T.astype(np.float32)
    assert not collapse.region(x, y).any()


def test_the_pleural_line_runs_along_the_edge_of_the_mask() -> None:
    (collapse,) = make_scene(5, pneumothorax=PneumothoraxPlan(30_000)).collapses
    path, gap = collapse.pleura()
    wide = path[gap > 3]
    away = wide - np.array(collapse.hilum)
    outwards = (wide + 0.5 * away / np.linalg.norm(away, axis=1, keepdims=True)).T.astype(np.float32)
    inwards = (wide - 0.5 * away / np.linalg.norm(away, axis=1, keepdims=True)).T.astype(np.float32)
    assert collapse.region(*outwards).all()
    assert not collapse.region(*inwards).any()
