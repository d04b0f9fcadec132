import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pneumoseg.transforms.warping import sample_affine, sample_elastic, sample_grid
from pneumoseg.transforms.warping import warp as warp_batch

SIZE = 64


def warp(image: Tensor, control: Tensor, *, border: str = "zeros") -> Tensor:
    return warp_batch(image[None], control[None], border=border)[0]


def noise(rows: int = SIZE, columns: int = SIZE) -> Tensor:
    return torch.rand(1, rows, columns, generator=torch.Generator().manual_seed(0))


def ramps() -> Tensor:
    """The column and the row of each pixel."""
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    return torch.stack([columns, rows]).float()


@pytest.mark.parametrize("shape", [(64, 64), (512, 512), (33, 50)])
def test_a_field_of_zeros_is_the_identity(shape: tuple[int, int]) -> None:
    image = noise(*shape)
    # float32 positions of 512 pixels are exact to some 1e-5 of a pixel
    torch.testing.assert_close(warp(image, torch.zeros(2, 6, 6)), image, atol=1e-4, rtol=0)


def test_a_displacement_is_in_pixels_along_columns_then_rows() -> None:
    control = torch.zeros(2, 4, 5)
    control[0], control[1] = 3, -2
    image = noise()
    torch.testing.assert_close(warp(image, control)[0, 2:, :-3], image[0, :-2, 3:], atol=5e-5, rtol=0)


def test_the_outermost_control_points_lie_on_the_outermost_pixels() -> None:
    control = torch.zeros(2, 4, 4)
    control[0, 0, 0] = 2
    columns = warp(ramps(), control)[0]
    assert float(columns[0, 0]) == pytest.approx(2, abs=1e-3)
    assert float(columns[0, -1]) == pytest.approx(SIZE - 1, abs=1e-3)
    assert float(columns[-1, 0]) == pytest.approx(0, abs=1e-3)


def test_zeros_come_into_view_from_outside() -> None:
    control = torch.zeros(2, 4, 4)
    control[0] = 10
    assert float(warp(torch.ones(1, SIZE, SIZE), control)[0, :, -10:].max()) < 1e-3


@pytest.mark.parametrize(
    ("border", "expected"), [("zeros", 0.0), ("border", SIZE - 1), ("reflection", SIZE - 1 - 5)]
)
def test_outside_an_image_lies_what_its_border_says(border: str, expected: float) -> None:
    control = torch.zeros(2, 4, 4)
    control[0] = 5
    assert float(warp(ramps(), control, border=border)[0, 7, -1]) == pytest.approx(expected, abs=1e-3)


def affine(seed: int, *, shift: float = 0.0, scale: float = 0.0, degrees: float = 0.0) -> NDArray[np.float64]:
    """Where the positions (x, y) about the middle are sampled from: a matrix and, as its last column, a shift."""
    control = sample_affine(np.random.default_rng(seed), shift=shift, scale=scale, degrees=degrees, size=SIZE)
    end = (SIZE - 1) / 2
    corners = [(x, y) for y in (-end, end) for x in (-end, end)]
    sources = control.reshape(2, 4).T + corners
    matrix, *_ = np.linalg.lstsq(np.column_stack([corners, np.ones(4)]), sources, rcond=None)
    np.testing.assert_allclose(np.column_stack([corners, np.ones(4)]) @ matrix, sources, atol=1e-9)
    return np.asarray(matrix.T)


def test_a_field_of_four_corners_is_linear_between_them() -> None:
    # a shear: columns by a tenth of the row
    control = torch.tensor([[[0.0, 0.0], [6.3, 6.3]], [[0.0, 0.0], [0.0, 0.0]]])
    columns = warp(ramps(), control)[0]
    torch.testing.assert_close(columns[:, 20], 20 + torch.arange(SIZE) / 10, atol=1e-3, rtol=0)


def test_a_rotation_keeps_distances_and_the_middle() -> None:
    for seed in range(5):
        matrix = affine(seed, degrees=20)
        np.testing.assert_allclose(matrix[:, :2] @ matrix[:, :2].T, np.eye(2), atol=1e-9)
        assert 0 < abs(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))) <= 20
        np.testing.assert_allclose(matrix[:, 2], 0, atol=1e-9)


def test_a_shift_is_along_both_axes() -> None:
    shifts = np.array([affine(seed, shift=5)[:, 2] for seed in range(20)])
    assert (np.abs(shifts).max(axis=0) > 4).all()
    assert (np.abs(shifts) <= 5).all()
    assert np.abs(shifts[:, 0] - shifts[:, 1]).max() > 1


def test_a_change_of_size_is_along_each_axis_by_itself() -> None:
    factors = np.array([np.diag(affine(seed, scale=0.2)[:, :2]) for seed in range(20)])
    assert 0.8 <= factors.min() < 0.85
    assert 1.15 < factors.max() <= 1.2001
    assert np.abs(factors[:, 0] - factors[:, 1]).max() > 0.1


@pytest.mark.parametrize("seed", range(5))
def test_a_column_of_the_grid_changes_its_width_by_no_more_than_the_limit(seed: int) -> None:
    x, y = sample_grid(np.random.default_rng(seed), limit=0.2, size=SIZE)
    cell = (SIZE - 1) / 5
    assert (np.ptp(x, axis=0) == 0).all()
    assert (np.ptp(y, axis=1) == 0).all()
    for knots in (x[0], y[:, 0]):
        changes = np.diff(knots) / cell
        assert 0.02 < np.abs(changes).max() <= 0.2
        assert knots.mean() == pytest.approx(0, abs=1e-9)


def test_the_displacements_of_an_elastic_warp_have_at_most_its_standard_deviation() -> None:
    found = [sample_elastic(np.random.default_rng(seed), spacing=0.05, std=4.0).std() for seed in range(30)]
    assert 3 < max(found) < 4.4
    assert min(found) < 1


def test_the_points_of_an_elastic_warp_are_as_far_apart_as_asked_for() -> None:
    assert sample_elastic(np.random.default_rng(0), spacing=0.125, std=1.0).shape == (2, 9, 9)


def test_each_image_of_a_batch_is_warped_by_its_own_field_and_all_its_channels_alike() -> None:
    controls = [sample_elastic(np.random.default_rng(seed), spacing=0.2, std=5.0) for seed in range(3)]
    control = torch.from_numpy(np.stack(controls)).float()
    images = noise().expand(3, 2, -1, -1)
    warped = warp_batch(images, control)
    assert torch.equal(warped[:, 0], warped[:, 1])
    for each, one in zip(warped, control, strict=True):
        torch.testing.assert_close(each, warp(images[0], one))
        assert not torch.allclose(each, images[0], atol=0.01)
