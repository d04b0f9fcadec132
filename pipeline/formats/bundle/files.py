"""Files that the configurations of a bundle read and write: folders of radiographs, manifests and masks."""

import csv
import logging
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, Final

from monai.transforms.transform import Transform

from pneumoseg.pipeline.core.names import cell, shown
from pneumoseg.pipeline.dataset.manifest import image_path, read_manifest
from pneumoseg.pipeline.drawing.pictures import save_png
from pneumoseg.pipeline.reading.folders import find_radiographs
from pneumoseg.pipeline.reading.readers import Readers
from pneumoseg.transforms.reader.radiograph import Radiograph, read_radiograph
from pneumoseg.transforms.reader.reasons import REVIEW_REASONS

COLUMNS: Final = ("image", "probability", "area_px", "review")
_log = logging.getLogger(__name__)


def readable_files(folder: str | Path) -> list[dict[str, Any]]:
    """List the radiographs under a folder, and log the reason of every file that is not read.

    Each file is decoded once, in a process of its own, so that a damaged one cannot stop the inference of the others.

    Args:
        folder: Folder to search, with its subfolders.

    Returns: A data list for MONAI: ``image``, the path; ``name``, the path within the folder; and ``review``, reasons
        why a person has to review the result, separated by spaces.
    Raises: JobError: If no file in it could be a radiograph.
    """
    folder = Path(folder)
    root = folder if folder.is_dir() else folder.parent
    paths = find_radiographs(folder).images
    samples: list[dict[str, Any]] = []
    with Readers(read_radiograph, workers=1) as readers:
        for path, read in zip(paths, readers.read(paths), strict=True):
            name = path.relative_to(root).as_posix()
            if isinstance(read, Radiograph):
                review = " ".join(reason for reason, _ in read.warnings if reason in REVIEW_REASONS)
                samples.append({"image": str(path), "name": name, "review": review})
            else:
                _log.warning("%s: %s", shown(name), read)
    return samples


def labelled_files(manifest: str | Path, *, fold: int, held_out: bool) -> list[dict[str, Any]]:
    """List the cases of a manifest.

    Args:
        manifest: Manifest written by `prepare_manifest`.
        fold: Index of a fold.
        held_out: Whether to list the cases of this fold; otherwise all others.

    Returns: A data list for MONAI: ``image``, the path, and ``label``, run-length texts.
    Raises: JobError: If the manifest cannot be read.
    """
    path = Path(manifest)
    return [
        {"image": str(image_path(path, case)), "label": list(case.label)}
        for case in read_manifest(path).training
        if (case.fold == fold) == held_out
    ]


class SavePrediction(Transform):
    """Write the mask of each sample as PNG, and a row into ``predictions.csv``.

    A sample without a name is left as it is: a program that runs the bundle on images of its own, such as MONAI Label,
    saves the masks itself.

    Args:
        output_dir: Folder of the results; ``predictions.csv`` in it is replaced when the first sample comes.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.output_dir = Path(output_dir)
        self._is_begun = False

    def __call__(self, data: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        """Write the results of a sample with the items ``pred``, ``probability``, ``name`` and ``review``."""
        if "name" not in data:
            return data
        mask, name = data["pred"][0].numpy(), data["name"]
        save_png(self.output_dir / "masks" / f"{name}.png", mask * 255)
        table = self.output_dir / "predictions.csv"
        with table.open("a" if self._is_begun else "w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            if not self._is_begun:
                rows.writerow(COLUMNS)
            rows.writerow([cell(name), f"{data['probability']:.6f}", int(mask.sum()), data["review"]])
        self._is_begun = True
        return data
