"""Provenance of the DICOM results: software, model and source image."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from highdicom import AlgorithmIdentificationSequence
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID, generate_uid

from pneumoseg.pipeline.core.files import written_atomically
from pneumoseg.pipeline.results.dicom.source import Source
from pneumoseg.transforms.reader.elements import quiet_libraries

MANUFACTURER: Final = "pneumoseg developers"
MODEL_NAME: Final = "pneumoseg"
NOTICE: Final = "Research software, not for diagnosis"
_SERIES_NUMBERS: Final = {
    "seg": 9701,
    "sr": 9702,
    "sc": 9703,
    "gsps": 9704,
}  # far from those that devices give


@dataclass(frozen=True)
class Origin:
    """Model and settings that a result is made with.

    Attributes:
        model_sha256: SHA-256 of all that decides a mask: weights, preprocessing, operating point, ...
    """

    model_sha256: str

    def uid(self, source: Source, *what: str) -> UID:
        """Make a UID from source, model and kind of object, so that a rerun replaces its earlier result.

        Args:
            source: Source image.
            what: Kind of object, and part of it.
        """
        identity = str(
            source.header.get("PatientIdentityRemoved", "NO")
        )  # with and without identity, two results
        return generate_uid(
            entropy_srcs=[source.sop_instance_uid, source.pixel_sha256, self.model_sha256, identity, *what]
        )

    def common(self, source: Source, kind: str) -> dict[str, Any]:
        """Give the arguments that all highdicom objects are made with.

        Args:
            source: Source image.
            kind: ``seg``, ``sr``, ``sc`` or ``gsps``.
        """
        content_date, content_time = source.date_and_time
        return {
            "series_instance_uid": self.uid(source, kind, "series"),
            "series_number": _SERIES_NUMBERS[kind],
            "sop_instance_uid": self.uid(source, kind, "instance"),
            "instance_number": 1,
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": MODEL_NAME,
            "software_versions": version("pneumoseg"),
            "device_serial_number": self.model_sha256[:16],
            "series_description": f"Pneumothorax {kind.upper()}, AI, unverified",
            "content_date": content_date,
            "content_time": content_time,
        }

    def algorithm(self) -> AlgorithmIdentificationSequence:
        """Identify the algorithm, for a segment."""
        return AlgorithmIdentificationSequence(
            name=MODEL_NAME,
            family=codes.DCM.ArtificialIntelligence,
            version=f"{version('pneumoseg')}+{self.model_sha256[:16]}",
            source=MANUFACTURER,
        )


def finish(dataset: Dataset, source: Source) -> None:
    """Remove the present time from an object, and add the attributes that de-identification requires."""
    # the last one states that the source's device contributed, now
    for keyword in ("InstanceCreationDate", "InstanceCreationTime", "ContributingEquipmentSequence"):
        if keyword in dataset:
            delattr(dataset, keyword)
    copy_if_given(source, dataset, "PatientIdentityRemoved", "DeidentificationMethod")


def copy_if_given(source: Source, dataset: Dataset, *keywords: str) -> None:
    """Copy those elements of the source that it has."""
    for keyword in keywords:
        if keyword in source.header:
            setattr(dataset, keyword, source.header[keyword].value)


def save_dicom(path: Path, dataset: Dataset) -> None:
    """Write a dataset as a DICOM file."""
    with written_atomically(path) as temporary, quiet_libraries():
        dataset.save_as(temporary, enforce_file_format=True)
