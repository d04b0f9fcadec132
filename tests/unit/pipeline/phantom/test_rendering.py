"""Pictures and masks of single phantoms."""

import numpy as np
import pytest
from scipy import ndimage

from pneumoseg.pipeline.phantom import Phantom, PneumothoraxPlan, render_phantom
from pneumoseg.pipeline.phantom.chest import LEFT, RIGHT
from pneumoseg.pipeline.phantom.organs import body, heart, lung_field
from pneumoseg.pipeline.phantom.projection import Projection

SIZE = 256
LARGE = PneumothoraxPlan(area_px=30_000)
SEEDS = range(6)


@pytest.fixture(scope="module")
def ill() -> list[Phantom]:
    return [render_phantom(seed, size=SIZE, pneumothorax=LARGE) for seed in SEEDS]


def _grid(phantom: Phantom) -> tuple[np.ndarray, np.ndarray]:
    return Projection(phantom.scene.pose, len(phantom.image)).grid


def test_the_same_seed_draws_the_same_picture() -> None:
    first, second = render_phantom(7, size=SIZE), render_phantom(7, size=SIZE)
    np.testing.assert_array_equal(first.image, second.image)


def test_another_seed_draws_another_picture() -> None:
    assert not np.array_equal(render_phantom(7, size=SIZE).image, render_phantom(8, size=SIZE).image)


def test_the_picture_is_square_float32_in_the_unit_range() -> None:
    image = render_phantom(3, size=SIZE).image
    assert image.shape == (SIZE, SIZE)
    assert image.dtype == np.float32
    assert 0 <= image.min() < 0.1
    assert 0.6 < image.max() <= 1


def test_a_size_that_is_no_power_of_two_is_refused() -> None:
    with pytest.raises(ValueError, match="300 x 300"):
        render_phantom(0, size=300)


def test_another_size_shows_the_same_scene() -> None:
    small, large = (render_phantom(5, size=size, pneumothorax=LARGE) for size in (256, 512))
    halved = large.image.reshape(256, 2, 256, 2).mean(axis=(1, 3))
    assert np.corrcoef(small.image.ravel(), halved.ravel())[0, 1] > 0.99
    assert large.masks[0].sum() == pytest.approx(4 * small.masks[0].sum(), rel=0.05)


def test_the_same_patient_in_another_pose_keeps_age_and_sex_and_changes_the_picture() -> None:
    first = render_phantom(1, patient_seed=50, size=SIZE)
    second = render_phantom(2, patient_seed=50, size=SIZE)
    assert first.scene.patient == second.scene.patient
    assert first.scene.pose != second.scene.pose


def test_the_view_can_be_asked_for() -> None:
    assert {render_phantom(seed, size=128, view="AP").scene.pose.view for seed in range(4)} == {"AP"}


def test_without_a_pneumothorax_there_is_no_mask() -> None:
    assert render_phantom(0, size=128, pneumothorax=False).masks == ()


def test_the_area_asked_for_is_the_area_of_the_mask(ill: list[Phantom]) -> None:
    at_1024 = [phantom.masks[0].sum() * (1024 / SIZE) ** 2 for phantom in ill]
    assert at_1024 == pytest.approx([30_000] * len(ill), rel=0.1)


def test_the_mask_lies_within_the_lung_field(ill: list[Phantom]) -> None:
    for phantom in ill:
        field = ndimage.binary_dilation(lung_field(phantom.scene.chest, *_grid(phantom)), iterations=2)
        assert not (phantom.masks[0].astype(bool) & ~field).any()


def test_the_mask_does_not_touch_the_heart(ill: list[Phantom]) -> None:
    for phantom in ill:
        core = heart(phantom.scene.chest, *_grid(phantom)) > 30  # mm: away from its border
        assert not (phantom.masks[0].astype(bool) & core).any()


def test_the_mask_lies_in_one_piece_at_the_chest_wall(ill: list[Phantom]) -> None:
    for phantom in ill:
        pieces, count = ndimage.label(phantom.masks[0])
        sizes = np.bincount(pieces.ravel())[1:]
        assert sizes.max() > 0.8 * sizes.sum(), f"{count} pieces"


def test_gas_makes_the_picture_darker_than_the_same_lung_without_it(ill: list[Phantom]) -> None:
    for seed, phantom in zip(SEEDS, ill, strict=True):
        well = render_phantom(seed, size=SIZE, pneumothorax=False)
        mask = phantom.masks[0] > 0
        assert phantom.image[mask].mean() < well.image[mask].mean() - 0.02


def test_the_gas_is_not_simply_the_darkest_part_of_the_picture(ill: list[Phantom]) -> None:
    for phantom in ill:
        outside = body(phantom.scene.chest, *_grid(phantom)) == 0
        assert phantom.image[outside].mean() < phantom.image[phantom.masks[0] > 0].mean()


def test_the_pneumothorax_is_all_that_it_changes_of_the_anatomy() -> None:
    """Patient and pose come from other random streams than the finding."""
    ill, well = (
        render_phantom(4, size=SIZE, pneumothorax=LARGE),
        render_phantom(4, size=SIZE, pneumothorax=False),
    )
    assert ill.scene.patient == well.scene.patient
    assert ill.scene.pose == well.scene.pose


def test_each_side_gives_one_mask_in_each_half_of_the_chest() -> None:
    phantom = render_phantom(2, size=SIZE, pneumothorax=PneumothoraxPlan(20_000, "each-side"))
    x, _ = _grid(phantom)
    assert {int(np.sign(x[mask > 0].mean())) for mask in phantom.masks} == {RIGHT, LEFT}


def test_overlapping_rows_overlap_and_neither_holds_the_other() -> None:
    phantom = render_phantom(2, size=SIZE, pneumothorax=PneumothoraxPlan(20_000, "overlapping"))
    first, second = (mask.astype(bool) for mask in phantom.masks)
    assert (first & second).any()
    assert (first & ~second).any()
    assert (second & ~first).any()


def test_the_heart_points_to_the_right_of_the_picture() -> None:
    """Which is the patient's left, as radiographs are shown."""
    phantom = render_phantom(6, size=SIZE, pneumothorax=False)
    x, y = _grid(phantom)
    chord = heart(phantom.scene.chest, x, y)
    columns = np.average(np.broadcast_to(np.arange(SIZE), chord.shape), weights=chord)
    assert columns > np.argmin(np.abs(x[SIZE // 2]))


def test_the_notice_is_burnt_into_the_lower_left_corner() -> None:
    corner = render_phantom(1, size=1024).image[990:1015, 10:200]
    ink = corner > 0.9 * corner.max()
    assert 0.02 < ink.mean() < 0.5
    assert len(np.unique(ndimage.label(ink)[0])) > 10  # letters
