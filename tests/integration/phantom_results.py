"""DICOM results of two phantoms with their true masks, as `predict_folder` writes them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.inference.segmentation import Segmentation
from pneumoseg.pipeline.jobs.predict import predict_folder
from pneumoseg.pipeline.phantom.dicom_files import write_dicom
from pneumoseg.pipeline.phantom.plan import plan_cases
from pneumoseg.pipeline.phantom.rendering import render_phantom
from pneumoseg.pipeline.results import processing
from pneumoseg.transforms.reader.radiograph import read_radiograph

KINDS = ("seg", "sr", "sc", "gsps")
SIZE = 512


@dataclass(frozen=True)
class Study:
    """The files of one study: the radiograph and its results.

    Attributes:
        source: Path of the radiograph.
        results: Path of the result of each kind.
        mask: Mask that the results were made of, shape ``(rows, columns)``.
    """

    source: Path
    results: dict[str, Path]
    mask: NDArray[np.uint8]

    @property
    def files(self) -> list[Path]:
        """All files."""
        return [self.source, *self.results.values()]

    @property
    def uid(self) -> str:
        """StudyInstanceUID."""
        return str(self.header("seg").StudyInstanceUID)

    def header(self, kind: str) -> Dataset:
        """All elements of a result but its pixels."""
        return dcmread(self.results[kind], stop_before_pixels=True)


def write_phantom_results(model_folder: Path, folder: Path) -> dict[str, Study]:
    """Write a positive and a negative study.

    Args:
        model_folder: Any model; the phantoms' own masks take the place of its predictions.
        folder: Folder for radiographs and results.
    """
    masks: dict[str, NDArray[np.uint8]] = {}
    found: dict[str, Path] = {}
    for positive in (True, False):
        case = next(case for case in plan_cases() if case.labelled and bool(case.pneumothorax) is positive)
        phantom = render_phantom(
            case.seed, patient_seed=case.patient_seed, size=SIZE, pneumothorax=case.pneumothorax or False
        )
        path = write_dicom(phantom, folder / "images", name=case.name)
        masks[path.stem] = np.maximum.reduce([np.zeros((SIZE, SIZE), np.uint8), *phantom.masks])
        found["positive" if positive else "negative"] = path

    def segment(_: object, paths: Sequence[Path], **__: Any) -> Iterator[Segmentation]:
        for path in paths:
            mask = masks[path.stem]
            yield Segmentation(
                radiograph=read_radiograph(path),
                image_probability=0.91 if mask.any() else 0.08,
                probabilities=mask.astype(np.float32),
                mask=mask,
                path=path,
            )

    with patch.object(processing, "segment_files", segment):
        predict_folder(
            model_folder,
            folder / "images",
            folder / "out",
            kinds=KINDS,
            runtime=Runtime(device="cpu", workers=0),
        )
    return {
        name: Study(
            path, {kind: folder / "out" / kind / f"{path.stem}.dcm" for kind in KINDS}, masks[path.stem]
        )
        for name, path in found.items()
    }
