"""Write masks as NIfTI, the format that most research tools read."""

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from pneumoseg.pipeline.core.files import written_atomically

_USUAL: Final = ("L", "F")
_AXES: Final = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "H": (2, 1), "F": (2, -1)}
"""NIfTI's axes point to the patient's right, front and head."""


def save_nifti(
    path: Path,
    mask: npt.NDArray[np.uint8],
    spacing_mm: tuple[float, float] | None,
    patient_orientation: tuple[str, str] | None = None,
) -> None:
    """Write a mask as a volume of one slice, with its pixels in the order of the radiograph.

    The first axis runs along the columns and the third along the rows. The affine gives their directions in the
    patient, to the nearest axis; on a frontal view in the usual orientation, to the left and to the feet. If the
    spacing is unknown, the header gives no unit of length, and the affine counts pixels.

    Args:
        path: Path of the file, ending in ``.nii.gz``.
        mask: Zeros and ones, shape ``(rows, columns)``.
        spacing_mm: Spacing between rows and between columns; None if it is unknown.
        patient_orientation: Directions of rows and columns, as in PatientOrientation; None if they are unknown, and
            the usual orientation is assumed.
    """
    import nibabel as nib  # noqa: PLC0415  (only this kind of result needs it)

    image = nib.nifti1.Nifti1Image(
        np.ascontiguousarray(mask.T[:, np.newaxis, :]), _affine(spacing_mm, patient_orientation)
    )
    image.header.set_xyzt_units(xyz="mm" if spacing_mm else "unknown")
    with written_atomically(path) as temporary:
        nib.save(image, temporary)


def _affine(
    spacing_mm: tuple[float, float] | None, orientation: tuple[str, str] | None
) -> npt.NDArray[np.float64]:
    between_rows, between_columns = spacing_mm or (1.0, 1.0)
    (first, first_sign), (third, third_sign) = (_AXES[direction[0]] for direction in orientation or _USUAL)
    if first == third:
        return _affine(spacing_mm, None)
    affine = np.zeros((4, 4))
    affine[first, 0] = first_sign * between_columns
    affine[3 - first - third, 1] = 1.0
    affine[third, 2] = third_sign * between_rows
    affine[3, 3] = 1.0
    return affine
