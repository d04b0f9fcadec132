"""Made-up DICOM files, and the way to the real ones."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmwrite
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from pneumoseg.transforms.reader.elements import Elements

WriteDicom = Callable[..., Path]
MakeHeader = Callable[..., Elements]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real radiographs."""
    folder = os.environ.get("PNEUMOSEG_DATA")
    if not folder:
        pytest.skip("PNEUMOSEG_DATA does not name the folder of real radiographs")
    return Path(folder)


@pytest.fixture
def write_dicom(tmp_path: Path) -> WriteDicom:
    """Write a chest radiograph of the given pixels; keywords set elements, None removes them."""

    def write(
        pixels: NDArray[Any] | bytes,
        *,
        name: str = "made_up.dcm",
        syntax: UID = ExplicitVRLittleEndian,
        shape: tuple[int, int] = (16, 16),
        force: bool = False,
        **elements: Any,
    ) -> Path:
        data = make_dataset(pixels, shape)
        for keyword, value in elements.items():
            if value is None:
                delattr(data, keyword)
            else:
                setattr(data, keyword, value)
        if syntax.is_compressed and not syntax.is_deflated:
            assert isinstance(pixels, bytes)
            data.PixelData = encapsulate([pixels])
        data.file_meta.TransferSyntaxUID = syntax
        path = tmp_path / name
        dcmwrite(path, data, enforce_file_format=not force, force_encoding=force)
        return path

    return write


def make_dataset(pixels: NDArray[Any] | bytes, shape: tuple[int, int]) -> Dataset:
    """Describe pixels as a frontal chest radiograph that uses all bits of its container."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    data.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3.4")
    data.SOPClassUID = DigitalXRayImageStorageForPresentation
    data.SOPInstanceUID, data.StudyInstanceUID, data.SeriesInstanceUID = "1.2.3.4", "1.2.3", "1.2.3.5"
    data.Modality, data.ViewPosition, data.BodyPartExamined = "DX", "PA", "CHEST"
    data.PatientID, data.PatientSex, data.PatientAge = "P1", "F", "058Y"
    data.PixelSpacing = [0.25, 0.25]
    data.PhotometricInterpretation = "MONOCHROME2"
    data.SamplesPerPixel = 1
    data.PixelRepresentation = 0
    bits = 8
    if isinstance(pixels, bytes):
        data.Rows, data.Columns = shape
        data.PixelData = pixels
    else:
        data.Rows, data.Columns = pixels.shape[:2]
        data.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
        data.PixelRepresentation = int(np.issubdtype(pixels.dtype, np.signedinteger))
        bits = 8 * pixels.dtype.itemsize
    data.BitsAllocated = data.BitsStored = bits
    data.HighBit = bits - 1
    data["PixelData"].VR = "OB" if bits == 8 else "OW"
    return data


@pytest.fixture
def header() -> MakeHeader:
    """Make elements as they come out of a file: each a text, or a sequence given as the meaning of its code."""

    def make(**texts: str) -> Elements:
        data = _raw({keyword: text for keyword, text in texts.items() if not keyword.endswith("Sequence")})
        for keyword, meaning in texts.items():
            if keyword.endswith("Sequence"):
                data.add_new(Tag(keyword), "SQ", [_raw({"CodeMeaning": meaning})])
        return Elements(data)

    return make


def _raw(texts: dict[str, str]) -> Dataset:
    tags = {BaseTag(Tag(keyword)): text.encode() for keyword, text in texts.items()}
    return Dataset(
        {tag: RawDataElement(tag, "UN", len(raw), raw, 0, False, True) for tag, raw in tags.items()}
    )
