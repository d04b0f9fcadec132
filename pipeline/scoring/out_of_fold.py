"""Out-of-fold predictions, stored for the search of the operating point."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.files import written_atomically
from pneumoseg.pipeline.scoring.case_curves import CaseCurves, image_probabilities

OUT_OF_FOLD: Final = "out_of_fold.npz"
MAP_SIZE: Final = 256
"""Side of the stored maps in pixels; smaller where the network's input is smaller."""

_PER_CASE: Final = ("index", "area", "overlap", "label_area", "pixels", "image_probability")


@dataclass(frozen=True)
class OutOfFold:
    """Out-of-fold predictions of one fold or of several.

    Attributes:
        curves: Curves and image probability of each case, in the order of the manifest.
        maps: Probability map of each case by its index in the manifest, in steps of 1/255, square and padded like the
            network's input.
    """

    curves: Sequence[CaseCurves]
    maps: dict[int, npt.NDArray[np.uint8]]


def save_out_of_fold(path: Path, found: OutOfFold) -> None:
    """Write predictions as a compressed NumPy archive.

    Args:
        path: Path of the archive.
        found: Predictions.
    """
    indices = [curves.index for curves in found.curves]
    with written_atomically(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            index=np.array(indices),
            area=np.stack([curves.area for curves in found.curves]),
            overlap=np.stack([curves.overlap for curves in found.curves]),
            label_area=np.array([curves.label_area for curves in found.curves]),
            pixels=np.array([curves.pixels for curves in found.curves]),
            image_probability=image_probabilities(found.curves),
            maps=np.stack([found.maps[index] for index in indices]),
        )


def load_out_of_fold(path: Path) -> OutOfFold:
    """Read predictions.

    Args:
        path: Archive written by `save_out_of_fold`.

    Raises: JobError: If it is missing or damaged.
    """
    try:
        with (
            path.open("rb") as file,
            np.load(file) as archive,
        ):  # np.load(path) would leave a damaged file open
            content = {name: archive[name] for name in archive.files}
        curves = [
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
        maps = dict(zip(content["index"].tolist(), content["maps"], strict=True))
    except Exception as error:  # noqa: BLE001  (a damaged archive raises half a dozen kinds)
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise JobError(f"{path}: cannot be read ({reason}); train the fold anew") from None
    return OutOfFold(curves, maps)
