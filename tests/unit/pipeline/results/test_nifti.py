from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from pneumoseg.pipeline.results.nifti import save_nifti


def load(path: Path) -> Any:
    return nib.nifti1.Nifti1Image.from_filename(path)


@pytest.fixture
def mask() -> NDArray[np.uint8]:
    mask = np.zeros((5, 3), dtype=np.uint8)
    mask[4, 0] = 1  # lower left of the picture: low, and to the patient's right on a frontal view
    return mask


def test_pixels_come_back_with_columns_first_and_rows_last(tmp_path: Path, mask: NDArray[np.uint8]) -> None:
    save_nifti(tmp_path / "a.nii.gz", mask, (0.5, 0.25))
    data = np.asarray(load(tmp_path / "a.nii.gz").dataobj)
    assert data.shape == (3, 1, 5)
    assert data.dtype == np.uint8
    np.testing.assert_array_equal(data[:, 0, :].T, mask)


def test_columns_run_to_the_patients_left_and_rows_to_the_feet(
    tmp_path: Path, mask: NDArray[np.uint8]
) -> None:
    save_nifti(tmp_path / "a.nii.gz", mask, (0.5, 0.25))
    assert nib.aff2axcodes(load(tmp_path / "a.nii.gz").affine) == ("L", "A", "I")


def test_a_pixel_lies_where_the_spacing_puts_it(tmp_path: Path, mask: NDArray[np.uint8]) -> None:
    save_nifti(tmp_path / "a.nii.gz", mask, (0.5, 0.25))
    affine = load(tmp_path / "a.nii.gz").affine
    assert nib.affines.apply_affine(affine, [2, 0, 4]).tolist() == [-0.5, 0.0, -2.0]  # right, front, head


def test_the_lower_left_of_the_picture_is_low_and_to_the_patients_right(
    tmp_path: Path, mask: NDArray[np.uint8]
) -> None:
    save_nifti(tmp_path / "a.nii.gz", mask, (0.5, 0.25))
    image = nib.as_closest_canonical(load(tmp_path / "a.nii.gz"))  # axes to right, front and head
    right, _, head = np.argwhere(np.asarray(image.dataobj))[0]
    assert (right, head) == (2, 0)


def test_the_spacing_is_read_back_in_mm(tmp_path: Path, mask: NDArray[np.uint8]) -> None:
    save_nifti(tmp_path / "a.nii.gz", mask, (0.5, 0.25))
    header = load(tmp_path / "a.nii.gz").header
    assert header.get_zooms() == pytest.approx((0.25, 1.0, 0.5))
    assert header.get_xyzt_units()[0] == "mm"


def test_without_a_spacing_no_unit_is_claimed(tmp_path: Path, mask: NDArray[np.uint8]) -> None:
    save_nifti(tmp_path / "a.nii.gz", mask, None)
    image = load(tmp_path / "a.nii.gz")
    assert image.header.get_xyzt_units()[0] == "unknown"
    assert image.header.get_zooms() == (1.0, 1.0, 1.0)


def test_a_name_with_many_dots_is_kept(tmp_path: Path, mask: NDArray[np.uint8]) -> None:
    save_nifti(tmp_path / "1.2.840.nii.gz", mask, None)
    assert [path.name for path in tmp_path.iterdir()] == ["1.2.840.nii.gz"]


@pytest.mark.parametrize(
    ("orientation", "axes"),
    [
        (("R", "F"), ("R", "A", "I")),  # stored mirrored
        (("L", "H"), ("L", "A", "S")),
        (("F", "R"), ("I", "A", "R")),  # stored turned by a quarter
        (("A", "F"), ("A", "R", "I")),  # a lateral view
        (("LA", "FP"), ("L", "A", "I")),
        (("L", "R"), ("L", "A", "I")),  # nonsense
        (None, ("L", "A", "I")),
    ],
)
def test_axes_lead_where_the_file_says(
    tmp_path: Path,
    mask: NDArray[np.uint8],
    orientation: tuple[str, str] | None,
    axes: tuple[str, str, str],
) -> None:
    save_nifti(tmp_path / "a.nii.gz", mask, (0.5, 0.25), orientation)
    image = load(tmp_path / "a.nii.gz")
    assert nib.aff2axcodes(image.affine) == axes
    assert nib.affines.voxel_sizes(image.affine).tolist() == [0.25, 1, 0.5]
    np.testing.assert_array_equal(np.asarray(image.dataobj)[:, 0, :].T, mask)
