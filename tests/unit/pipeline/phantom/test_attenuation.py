"""Tissue along the rays, in millimetres: what is physics and not display."""

import numpy as np
import pytest

from pneumoseg.pipeline.phantom.attenuation import lung_tissue
from pneumoseg.pipeline.phantom.bones import ribs
from pneumoseg.pipeline.phantom.organs import lung
from pneumoseg.pipeline.phantom.pneumothorax import PneumothoraxPlan
from pneumoseg.pipeline.phantom.projection import Array, Projection, blur
from pneumoseg.pipeline.phantom.scene import Scene, make_scene
from pneumoseg.pipeline.phantom.solids import ellipsoid, tube
from pneumoseg.pipeline.phantom.vessels import grow_trees

SIZE = 256


def _tissue(scene: Scene) -> Array:
    view = Projection(scene.pose, SIZE)
    return lung_tissue(scene, view, lung(scene.chest, *view.grid), np.random.default_rng(0))


def _texture(tissue: Array) -> Array:
    texture: Array = np.abs(tissue - blur(tissue, 2))
    return texture


def test_the_chord_through_the_middle_of_a_ball_is_its_diameter() -> None:
    here = np.zeros((1, 1), dtype=np.float32)
    assert ellipsoid(here, here, (0, 0), (30, 30, 30)).item() == 60


def test_the_chord_through_a_tube_at_half_its_radius() -> None:
    x, y = np.full((1, 1), 5, dtype=np.float32), np.zeros((1, 1), dtype=np.float32)
    expected = 2 * np.sqrt(10**2 - 5**2)
    assert tube(x, y, [(0, -50), (0, 50)], 10).item() == pytest.approx(expected)


def test_deposited_volume_is_kept() -> None:
    view = Projection(make_scene(0).pose, SIZE)
    flat = np.array([[0.0, 100.0], [13.3, 80.1], [-40.7, 61.9]])
    thickness = view.deposit(flat, np.array([10.0, 20.0, 30.0]))
    assert thickness.sum() * view.pixel_mm**2 == pytest.approx(60, rel=1e-5)


def test_a_point_is_found_again_at_its_pixel() -> None:
    view = Projection(make_scene(0).pose, SIZE)
    x, y = view.grid
    row, column = 31, 200
    pixel = view.to_pixels(np.array([x[row, column], y[row, column]], dtype=float))
    np.testing.assert_allclose(pixel, [row, column], atol=1e-3)


def test_what_lies_nearer_to_the_tube_is_magnified() -> None:
    scene = make_scene(0, view="AP")  # the tube stands before the chest
    view = Projection(scene.pose, SIZE)
    assert view.magnification(np.array(80.0)) > 1 > view.magnification(np.array(-80.0))


def test_posterior_ribs_slope_down_to_the_side_and_anterior_ones_on_to_the_middle() -> None:
    fifth = ribs(make_scene(1).chest).paths[9]  # pairs: right, left
    side = int(np.argmax(np.abs(fifth[:, 0])))
    spine, front = fifth[0], fifth[-1]
    assert spine[1] < fifth[side, 1] < front[1]
    assert abs(front[0]) < abs(fifth[side, 0])
    assert spine[2] < 0 < front[2]


def test_vessels_thin_out_towards_the_edge() -> None:
    scene = make_scene(1)
    for side, tree in grow_trees(scene.chest).items():
        lateral = tree.start[:, 0] * side / scene.patient.half_width
        assert tree.radius[lateral > 0.8].max() < 0.5 * tree.radius[lateral < 0.4].max()


def test_within_the_gas_there_is_less_tissue_than_there_was_lung() -> None:
    plan = PneumothoraxPlan(30_000)
    ill, well = make_scene(2, pneumothorax=plan), make_scene(2, pneumothorax=False)
    mask = ill.masks(SIZE)[0] > 0
    assert _tissue(ill)[mask].mean() < 0.6 * _tissue(well)[mask].mean()


def test_within_the_gas_there_are_no_vessels_so_the_texture_is_smoother() -> None:
    plan = PneumothoraxPlan(60_000)
    ill, well = make_scene(2, pneumothorax=plan), make_scene(2, pneumothorax=False)
    inside = blur(ill.masks(SIZE)[0].astype(np.float32), 3) > 0.97  # away from the pleura
    assert _texture(_tissue(ill))[inside].mean() < 0.5 * _texture(_tissue(well))[inside].mean()


def test_the_collapsed_lung_is_denser() -> None:
    plan = PneumothoraxPlan(60_000)
    ill, well = make_scene(2, pneumothorax=plan), make_scene(2, pneumothorax=False)
    (collapse,) = ill.collapses
    view = Projection(ill.pose, SIZE)
    angle, distance = collapse.polar(*view.grid)
    left_over = (angle > 0.5) & (angle < 2.0) & (distance > 20) & (distance < 40)
    assert _tissue(ill)[left_over].mean() > _tissue(well)[left_over].mean()
