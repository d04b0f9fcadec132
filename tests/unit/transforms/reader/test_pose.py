import itertools

import numpy as np
import pytest

from pneumoseg.transforms.reader.pose import find_pose, read_template, shrink, standardized

# bright in the upper left corner, brightest to its right: no turn, mirror image or inversion of it is the same
TEMPLATE = standardized(np.pad(np.array([[2.0, 3.0], [1.0, 0.0]]), ((0, 14), (0, 14))))
PICTURE = np.kron(TEMPLATE, np.ones((4, 5))).astype(np.float32)


def test_the_pose_is_what_was_done_to_the_upright_picture() -> None:
    for turns in range(4):
        for inverted in [False, True]:
            picture = np.rot90(PICTURE, -turns)  # clockwise
            pose = find_pose(1 - picture if inverted else picture, template=TEMPLATE)
            assert (pose.quarter_turns, pose.inverted) == (turns, inverted)
            assert pose.likeness == pytest.approx(1, abs=1e-6)


def test_a_picture_in_its_best_pose_has_nothing_to_gain() -> None:
    assert find_pose(PICTURE, template=TEMPLATE).gain == 0
    turned = find_pose(np.rot90(PICTURE), template=TEMPLATE)
    assert turned.gain == pytest.approx(turned.likeness - turned.likeness_as_it_is)
    assert turned.gain > 0


def test_brightness_and_contrast_do_not_change_the_likeness() -> None:
    noisy = PICTURE + np.random.default_rng(0).normal(0, 0.1, PICTURE.shape).astype(np.float32)
    likeness = find_pose(noisy, template=TEMPLATE).likeness
    assert find_pose(noisy * 0.2 + 0.7, template=TEMPLATE).likeness == pytest.approx(likeness, abs=1e-4)


def test_a_constant_picture_is_like_nothing() -> None:
    assert find_pose(np.full((32, 32), 0.7, np.float32)).likeness == 0


@pytest.mark.parametrize("shape", [(16, 16), (32, 48), (37, 101)])
def test_fields_of_a_ramp_hold_its_mean_over_their_pixels(shape: tuple[int, int]) -> None:
    rows, columns = shape
    ramp = np.tile(np.arange(columns, dtype=np.float32), (rows, 1))
    edges = [columns * field // 16 for field in range(17)]
    expected = [(first + last - 1) / 2 for first, last in itertools.pairwise(edges)]
    np.testing.assert_allclose(shrink(ramp), np.tile(expected, (16, 1)))


def test_the_template_is_a_correlation_and_does_not_know_left_from_right() -> None:
    template = read_template()
    assert template.shape == (16, 16)
    assert template.mean() == pytest.approx(0)
    assert np.linalg.norm(template) == pytest.approx(1)
    np.testing.assert_allclose(template, template[:, ::-1], atol=0.002)  # it was written with three digits
