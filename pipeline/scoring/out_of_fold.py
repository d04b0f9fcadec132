"""Out-of-fold predictions, stored for the search of the operating point."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from pneumoseg.pipeline.core.errors import JobError, first_line
from pneumoseg.pipeline.core.files import written_atomically
from pneumoseg.pipeline.scoring.case_curves import CaseCurves, image_probabilities

OUT_OF_FOLD: Final = "out_of_fold.npz"
_PER_CASE: Final = ("index", "area", "overlap", "label_area", "pixels", "image_probability")


def save_out_of_fold(path: Path, curves: Sequence[CaseCurves]) -> None:
    """Write predictions as a compressed NumPy archive.

    Args:
        path: Path of the archive.
        curves: Curves and image probability of each case, of one fold or of several.
    """
    with written_atomically(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            index=np.array([case.index for case in curves]),
            area=np.stack([case.area for case in curves]),
            overlap=np.stack([case.overlap for case in curves]),
            label_area=np.array([case.label_area for case in curves]),
            pixels=np.array([case.pixels for case in curves]),
            image_probability=image_probabilities(curves),
        )


def load_out_of_fold(path: Path) -> list[CaseCurves]:
    """Read predictions.

    Args:
        path: Archive written by `save_out_of_fold`.

    Raises: JobError: If it is missing or damaged.
    """
    try:
        # np.load(path) would leave a damaged file open
        with path.open("rb") as file, np.load(file) as archive:
            content = {name: archive[name] for name in archive.files}
        return [
            CaseCurves(
                index=int(index),
                area=area,
                overlap=overlap,
                label_area=int(label),
                pixels=int(pixels),
                image_probability=float(probability),
            )
            for index, area, overlap, label, pixels, probability in zip(
                *(content[name] for name in _PER_CASE), strict=True
            )
        ]
    except Exception as error:  # noqa: BLE001  (a damaged archive raises half a dozen kinds)
        raise JobError(f"{path}: cannot be read ({first_line(error)}); train the fold anew") from None
