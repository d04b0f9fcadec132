"""Phantoms as DICOM files: 8-bit JPEG as in the challenge, and encodings of hospitals."""

import io
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from pneumoseg.pipeline.phantom.lines_and_tubes import NOTICE
from pneumoseg.pipeline.phantom.rendering import Phantom

Encoding = Literal["jpeg", "monochrome1", "native8", "native16"]

JPEG_QUALITY = 92


def write_dicom(phantom: Phantom, folder: Path, *, name: str, encoding: Encoding = "jpeg") -> Path:
    """Write a phantom as ``<study>/<series>/<instance>.dcm``; the same input gives the same bytes.

    Args:
        phantom: Phantom to write.
        folder: Parent of the folder of the study.
        name: Unique name of the image, from which the UIDs are derived.
        encoding: ``jpeg`` is 8 bits in JPEG Baseline; ``monochrome1`` is 12 bits where 0 is white, uncompressed;
            ``native8`` and ``native16`` are uncompressed.
    """
    dataset = _describe(phantom, name)
    _set_pixels(dataset, phantom, encoding)
    series = Path(dataset.StudyInstanceUID, dataset.SeriesInstanceUID)
    path = folder / series / f"{dataset.SOPInstanceUID}.dcm"
    path.parent.mkdir(parents=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def instance_uid(name: str) -> str:
    """Derive the SOP Instance UID of a phantom.

    Args:
        name: Unique name of the image.
    """
    return generate_uid(entropy_srcs=["pneumoseg phantom", name, "instance"])


def _describe(phantom: Phantom, name: str) -> Dataset:
    """Set the elements of the header; each visible one states that the image is synthetic."""
    patient, view = phantom.scene.patient, phantom.scene.pose.view
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = instance_uid(name)
    dataset.SyntheticData = "YES"
    dataset.StudyDate = dataset.StudyTime = ""
    dataset.AccessionNumber = ""
    dataset.Modality = "CR"
    dataset.ConversionType = "SYN"
    dataset.Manufacturer = "pneumoseg phantom generator"
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = NOTICE
    dataset.SeriesDescription = f"{NOTICE} view: {view}"
    dataset.DerivationDescription = "Computed from random numbers; no patient was imaged."

    dataset.PatientName = "SYNTHETIC^PHANTOM"
    dataset.PatientID = f"PHANTOM-{name}"[:64]  # of its own in every file, as in the challenge
    dataset.PatientBirthDate = ""
    dataset.PatientSex = patient.sex
    dataset.PatientAge = f"{patient.age:03d}Y"
    dataset.QualityControlSubject = "YES"

    dataset.BodyPartExamined = "CHEST"
    dataset.ViewPosition = view
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=["pneumoseg phantom", name, "study"])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=["pneumoseg phantom", name, "series"])
    dataset.StudyID = ""
    dataset.SeriesNumber = dataset.InstanceNumber = 1
    dataset.PatientOrientation = ["L", "F"]
    dataset.ImageComments = f"{NOTICE}: not a patient, not for diagnosis"
    return dataset


def _set_pixels(dataset: Dataset, phantom: Phantom, encoding: Encoding) -> None:
    """Set the pixels and the elements that describe their encoding."""
    bits = {"jpeg": 8, "native8": 8, "monochrome1": 12, "native16": 16}[encoding]
    values = np.round(phantom.image * (2**bits - 1)).astype(np.uint8 if bits == 8 else "<u2")
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME1" if encoding == "monochrome1" else "MONOCHROME2"
    dataset.Rows, dataset.Columns = values.shape
    dataset.PixelSpacing = [round(phantom.spacing_mm, 4)] * 2
    dataset.BitsAllocated = 8 * values.itemsize
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = 0
    dataset.BurnedInAnnotation = "NO"  # the words in the picture name nobody
    if bits > 8:  # the full range, so that a viewer shows what was rendered
        dataset.WindowCenter, dataset.WindowWidth = 2 ** (bits - 1), 2**bits

    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if encoding == "jpeg":
        stream = io.BytesIO()
        Image.fromarray(values).save(stream, "JPEG", quality=JPEG_QUALITY)
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        dataset.LossyImageCompression = "01"
        dataset.LossyImageCompressionRatio = round(values.size / stream.tell(), 2)
        dataset.LossyImageCompressionMethod = "ISO_10918_1"
        dataset.PixelData = encapsulate([stream.getvalue()])
        dataset["PixelData"].VR = "OB"
        return
    stored = 2**bits - 1 - values if encoding == "monochrome1" else values
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
