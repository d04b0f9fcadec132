"""The files that the documents assume: the challenge's folder, radiographs of a hospital, a manifest, a model."""

import csv
import os
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from shutil import copytree
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pneumoseg.pipeline.core.config import TrainConfig
from pneumoseg.pipeline.jobs.prepare import prepare_manifest
from pneumoseg.pipeline.jobs.train import train_model
from pneumoseg.pipeline.phantom.dicom_files import write_dicom
from pneumoseg.pipeline.phantom.plan import PhantomCase, plan_cases
from pneumoseg.pipeline.phantom.rendering import render_phantom
from pneumoseg.transforms.labels.rle import encode_rle

_RENDERED: Final = 256  # rows and columns of a phantom, which is then enlarged
CONFIG: Final = TrainConfig.model_validate(
    {
        "network": {"features": [4, 8, 8, 8, 8]},
        "data": {"image_size": 32, "batch_size": 4},
        "optimization": {"epochs": 1},
    }
)
"""Configuration of a training that takes a second."""


def write_document_data(folder: Path) -> None:
    """Write phantoms under the names that the documents use, and train a tiny model on some of them.

    Args:
        folder: Empty folder.
    """
    cases = {
        case.group: case for case in plan_cases(count=60, test_count=0)
    }.values()  # one image of each patient
    positive = list(islice((case for case in cases if case.pneumothorax), 5))
    negative = list(islice((case for case in cases if not case.pneumothorax), 5))
    challenge, hospital, masks = folder / "siim-acr", folder / "incoming", folder / "masks"
    training = {
        case: _write(case, challenge / "images", size=1024) for case in (*positive[:3], *negative[:3])
    }
    unseen = {case: _write(case, hospital, size=512) for case in (*positive[3:], *negative[3:])}

    labels = {path.stem: encode_rle(mask) for path, mask in training.values()}
    _write_table(challenge / "stage_2_train.csv", "EncodedPixels", labels)
    _write_table(challenge / "sample_submission.csv", "EncodedPixels", dict.fromkeys(labels, "-1"))
    patients = {path.stem: case.group for case, (path, _) in training.items()}
    _write_table(challenge / "patients.csv", "PatientGroup", patients)
    patients = {path.stem: case.group for case, (path, _) in unseen.items()}
    _write_table(folder / "patients.csv", "PatientGroup", patients)
    masks.mkdir()
    for path, mask in unseen.values():
        Image.fromarray(mask * 255).save(masks / f"{path.stem}.png")
    os.link(next(iter(unseen.values()))[0], folder / "image.dcm")

    prepare_manifest(
        challenge, [challenge / "stage_2_train.csv"], folder / "manifest.json",
        groups=challenge / "patients.csv", folds=2, workers=0,
    )  # fmt: skip
    train_model(folder / "manifest.json", folder / "run", config=CONFIG, device="cpu", report=False)

    made = folder / "demo" / "data"  # as the demonstration leaves it
    copytree(challenge, made, copy_function=os.link)
    copytree(hospital, made / "test-images", copy_function=os.link)
    (made / "stage_2_train.csv").rename(made / "train-rle.csv")


def _write(case: PhantomCase, folder: Path, *, size: int) -> tuple[Path, NDArray[np.uint8]]:
    """Write one phantom; returns its path and its mask."""
    phantom = render_phantom(
        case.seed, patient_seed=case.patient_seed, size=_RENDERED, pneumothorax=case.pneumothorax or False
    )
    mask: Any = np.any(np.array([np.zeros((_RENDERED, _RENDERED)), *phantom.masks]), axis=0)
    enlarged = np.ones((size // _RENDERED,) * 2, dtype=np.uint8)
    image = np.kron(phantom.image, enlarged).astype(np.float32)
    path = write_dicom(replace(phantom, image=image), folder, name=case.name)
    return path, np.kron(mask.astype(np.uint8), enlarged)


def _write_table(path: Path, column: str, values: Mapping[str, str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("ImageId", column), *values.items()])
