"""Masks as NIfTI, the form that most research tools read."""

from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt

from pneumoseg.pipeline.files import written_atomically


def save_nifti(path: Path, mask: npt.NDArray[np.uint8], spacing_mm: tuple[float, float] | None) -> None:
    """Write a mask as a coronal slice.

    The first axis runs along the columns, to the patient's left on a frontal view shown as usual; the third
    along the rows, towards the feet. Where the spacing is not known the header gives no unit of length, and
    the affine counts pixels.

    Args:
        path: Ends in ``.nii.gz``.
        mask: Shape ``(rows, columns)``.
        spacing_mm: Between rows, between columns.
    """
    between_rows, between_columns = spacing_mm or (1.0, 1.0)
    # NIfTI's axes point to the patient's right, front and head
    affine = np.diag([-between_columns, 1.0, -between_rows, 1.0])
    image = nib.nifti1.Nifti1Image(np.ascontiguousarray(mask.T[:, np.newaxis, :]), affine)
    image.header.set_xyzt_units(xyz="mm" if spacing_mm else "unknown")
    with written_atomically(path) as temporary:
        nib.save(image, temporary)
