"""Sources of the three kinds that results are made of, and the judge of what is made."""

import shutil
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    SecondaryCaptureImageStorage,
)
from tests.conftest import SHAPE, write_radiograph

from pneumoseg.pipeline.results.dicom.origin import Origin, save_dicom
from pneumoseg.pipeline.results.dicom.source import Source, read_source
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.radiograph import read_radiograph

ACCEPTANCE = AcceptanceFilters(any_modality=True, any_view=True, any_body_part=True)
KINDS = {
    "CR": (ComputedRadiographyImageStorage, "CR"),
    "DX": (DigitalXRayImageStorageForPresentation, "DX"),
    "SC": (SecondaryCaptureImageStorage, "OT"),
}
OPTIONAL: dict[str, Any] = {
    "SpecificCharacterSet": "ISO_IR 100",
    "PatientName": "Müller^Jörg",
    "PatientBirthDate": "19700102",
    "StudyDate": "20200304",
    "StudyTime": "112233.5",
    "StudyID": "S7",
    "AccessionNumber": "A8",
    "ReferringPhysicianName": "Weiß^Ärztin",
    "PatientOrientation": ["L", "F"],
    "LossyImageCompression": "01",
    "LossyImageCompressionRatio": "9.5",
    "LossyImageCompressionMethod": "ISO_10918_1",
    "PatientComments": "SECRET",
    "ImageComments": "SECRET",
    "StudyDescription": "Chest of today",
}
BARE: dict[str, Any] = dict.fromkeys(
    ("PatientID", "PatientSex", "PatientAge", "BodyPartExamined", "ViewPosition", "PixelSpacing")
)
ORIGIN = Origin(
    model_sha256="0123456789abcdef" * 4,
    analysis_sha256="fedcba9876543210" * 4,
    analysed_at=datetime(2026, 3, 4, 10, 20, 30, tzinfo=timezone(timedelta(hours=1))),
    parameters={"threshold": "0.5"},
)


def make_source(
    folder: Path, *, kind: str = "CR", optional: bool = True, with_identity: bool = True, **elements: Any
) -> Source:
    """A source image as it is read from its file."""
    sop_class, modality = KINDS[kind]
    path = write_radiograph(
        folder / "source.dcm",
        np.zeros(SHAPE, dtype=np.uint8),
        **{
            "SOPClassUID": sop_class,
            "Modality": modality,
            **(OPTIONAL if optional else BARE),
            **elements,
        },
    )
    radiograph = read_radiograph(path, acceptance=ACCEPTANCE)
    return read_source(radiograph, with_identity=with_identity)


def make_mask(*, positive: bool) -> NDArray[np.uint8]:
    """Two components, the larger with a hole; or nothing."""
    mask = np.zeros(SHAPE, dtype=np.uint8)
    if positive:
        mask[4:14, 2:12] = 1
        mask[7:9, 5:8] = 0
        mask[30:34, 20:26] = 1
    return mask


def saved(folder: Path, dataset: Dataset) -> Path:
    """*dataset* as a file."""
    save_dicom(folder / "result.dcm", dataset)
    return folder / "result.dcm"


def complaints(path: Path) -> list[str]:
    """Errors and warnings that David Clunie's validator finds in a file, except of what its source does not tell."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy of dicom3tools is not installed")
    told = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
    lines = (told.stdout + told.stderr).splitlines()
    assert lines  # it names the kind of object at least
    untold = "needed to build DICOMDIR", "only permitted to be empty when actually unknown"
    found = [line for line in lines if "Error" in line or "Warning" in line]
    return [line for line in found if not any(words in line for words in untold)]
