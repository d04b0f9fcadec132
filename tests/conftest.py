"""What all tests share: made-up radiographs, a small collection of them, and the way to the real ones."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the networks here are tiny: threads would wait for each other

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian
from torch import Tensor

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.core.config import NetworkConfig
from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.dataset.manifest import Case, Manifest, ManifestOrigin, read_manifest
from pneumoseg.pipeline.inference.model import ModelOptions
from pneumoseg.pipeline.jobs.prepare import prepare_manifest
from pneumoseg.pipeline.model.card import save_description
from pneumoseg.pipeline.model.description import ModelDescription, Preprocessing, Training, TunedPoint
from pneumoseg.pipeline.model.weights import make_network, save_weights
from pneumoseg.pipeline.scoring.case_curves import CaseCurves, count_levels
from pneumoseg.transforms.labels.rle import encode_rle

SHAPE = (48, 32)  # of the made-up radiographs: not square, so that rows and columns cannot be mixed up


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real radiographs and labels."""
    folder = os.environ.get("PNEUMOSEG_DATA")
    if not folder:
        pytest.skip("PNEUMOSEG_DATA does not say where the real data is")
    return Path(folder)


def job_options(**options: Any) -> dict[str, Any]:
    """Put those arguments of a job that belong there into `ModelOptions` and `Runtime`, in this process on the CPU."""
    options = {"device": "cpu", "workers": 0, **options}
    model, runtime = (
        {field.name: options.pop(field.name) for field in fields(kind) if field.name in options}
        for kind in (ModelOptions, Runtime)
    )
    return {"options": ModelOptions(**model), "runtime": Runtime(**runtime), **options}


def write_radiograph(path: Path, pixels: NDArray[np.uint8], **elements: Any) -> Path:
    """Write an 8-bit frontal chest radiograph as DICOM; keywords set elements, None removes them."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = DigitalXRayImageStorageForPresentation
    data.SOPInstanceUID, data.StudyInstanceUID, data.SeriesInstanceUID = "1.2.3.4", "1.2.3", "1.2.3.5"
    data.Modality, data.ViewPosition, data.BodyPartExamined = "DX", "PA", "CHEST"
    data.PatientID, data.PatientSex, data.PatientAge = "P1", "F", "058Y"
    data.PixelSpacing = [0.5, 0.25]
    data.WindowCenter, data.WindowWidth = 128, 256  # stored values 0 to 255 are the image's 0 to 1
    data.PhotometricInterpretation, data.SamplesPerPixel, data.PixelRepresentation = "MONOCHROME2", 1, 0
    data.Rows, data.Columns = pixels.shape
    data.BitsAllocated, data.BitsStored, data.HighBit = 8, 8, 7
    data.PixelData = pixels.tobytes() + b"\0" * (pixels.size % 2)
    data["PixelData"].VR = "OB"
    for keyword, value in elements.items():
        if value is None:
            delattr(data, keyword)
        else:
            setattr(data, keyword, value)
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = UID(data.get("SOPInstanceUID", "1.2.3.4"))
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, data, enforce_file_format=True)
    return path


def draw_case(number: int, *, positive: bool) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pixels and mask of a made-up case: the mask is a bright block upon stripes, with no other case's in place."""
    rows = np.arange(SHAPE[0], dtype=np.uint8)[:, np.newaxis]
    pixels = np.tile(60 + 40 * ((rows + number) // 8 % 2), (1, SHAPE[1]))
    mask = np.zeros(SHAPE, dtype=np.uint8)
    if positive:
        top, left = 4 + 2 * number, 2 + number
        mask[top : top + 8 + number, left : left + 10] = 1
    return np.where(mask == 1, 250, pixels).astype(np.uint8), mask


@dataclass(frozen=True)
class Collection:
    """Twelve made-up radiographs of six patients, with labels, prepared in three folds."""

    folder: Path
    images: Path
    labels: Path
    groups: Path
    manifest_path: Path

    @property
    def manifest(self) -> Manifest:
        """What `prepare` made of it."""
        return read_manifest(self.manifest_path)


def make_collection(folder: Path) -> Collection:
    """Write the collection: cases 0 to 5 are positive, case *n* is of patient *n mod 6*."""
    rows, groups = ["ImageId,EncodedPixels"], ["ImageId,PatientGroup"]
    for number in range(12):
        pixels, mask = draw_case(number, positive=number < 6)
        name = f"case{number:02}"
        write_radiograph(
            folder / "images" / f"{name}.dcm", pixels, SOPInstanceUID=f"1.2.{number}", PatientID=f"id{number}"
        )
        rows.append(f"{name},{encode_rle(mask)}")
        groups.append(f"{name},p{number % 6}")
    found = Collection(
        folder,
        folder / "images",
        folder / "labels.csv",
        folder / "groups.csv",
        folder / "manifest.json",
    )
    found.labels.write_text("\n".join(rows) + "\n")
    found.groups.write_text("\n".join(groups) + "\n")
    prepare_manifest(
        found.images,
        [found.labels],
        found.manifest_path,
        groups=found.groups,
        folds=3,
        label_shape=SHAPE,
        workers=0,
    )
    return found


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """The collection, for tests that leave it as it is."""
    return make_collection(tmp_path_factory.mktemp("collection"))


def make_case(number: int = 0, **values: Any) -> Case:
    """A case of a manifest without a file: negative unless told otherwise."""
    return Case(
        **{
            "image": f"images/{number}.dcm",
            "label": (),
            "id": f"case{number}",
            "group": f"group{number}",
            "fold": number % 2,
            "shape": SHAPE,
            "area_px": 0,
            "sha256": f"{number:064x}",
            **values,
        }
    )


def make_manifest(*cases: Case, **values: Any) -> Manifest:
    """A manifest of *cases* in two folds."""
    return Manifest(
        **{
            "name": "made up",
            "size": len(cases),
            "made_from": ManifestOrigin(images_sha256="0" * 64, labels_sha256=("1" * 64,)),
            "folds": 2,
            "seed": 0,
            "grouped_by": "groups file",
            "training": cases,
            **values,
        }
    )


TINY = NetworkConfig(features=(4, 8, 8, 8, 8))


def bright_pixel_network() -> AttentionUNet:
    """A network with a known answer: logit 4 z - 6, z a pixel's standard deviations above the image's mean.

    All weights are zero but those of the way from the image through the first skip to the head; the gate, with no
    weights, lets half of it through. The bright block of a made-up case lies above z = 1.5, its noise below.
    """
    network = make_network(TINY)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        weights = dict(network.named_parameters())
        weights["encoder1.conv1.weight"][0, 0, 1, 1] = 1
        weights["encoder1.conv2.weight"][0, 0, 1, 1] = 1
        weights["decoder1.conv1.weight"][0, 8, 1, 1] = 2  # the skip comes after the 8 channels from below
        weights["decoder1.conv2.weight"][0, 0, 1, 1] = 1
        weights["head.weight"][0, 0] = 4
        weights["head.bias"][0] = -6
    return network


def measured_curves(
    probabilities: Tensor, label: Tensor, *, index: int, image_probability: float
) -> CaseCurves:
    """The curves of a probability map and its label, both of shape (rows, columns)."""
    levels = count_levels(probabilities, label).numpy()
    return CaseCurves.from_levels(levels, index=index, image_probability=image_probability)


def write_model(
    folder: Path,
    network: AttentionUNet,
    *,
    point: TunedPoint | None = None,
    image_digests: tuple[str, ...] = (),
    fold: int = 0,
    manifest_sha256: str = "0" * 64,
    config: NetworkConfig = TINY,
    image_size: int = SHAPE[0],
) -> Path:
    """Write a model folder of a tiny network that sees 48 x 48 pixels, unless told otherwise."""
    description = ModelDescription(
        network=config,
        preprocessing=Preprocessing(image_size=image_size),
        operating_point=point or TunedPoint(threshold=0.5, min_area_fraction=0.0),
        members=(save_weights(folder, network, fold=fold),),
        trained_on=Training(
            manifest="made up",
            manifest_sha256=manifest_sha256,
            cases=8,
            positive=4,
            image_digests=image_digests,
            grouped_by="groups file",
        ),
        validation={"dice": 0.8, "auc": None},
        versions={"torch": "2"},
    )
    save_description(folder, description)
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that finds the bright blocks of the collection, to the pixel."""
    return write_model(tmp_path_factory.mktemp("model") / "model", bright_pixel_network())
