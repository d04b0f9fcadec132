"""Provenance of the DICOM results: software, model, settings, time of the analysis, and source image."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from uuid import NAMESPACE_OID, uuid5

from highdicom import AlgorithmIdentificationSequence
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID, generate_uid

from pneumoseg.pipeline.core.files import written_atomically
from pneumoseg.pipeline.core.names import MANUFACTURER
from pneumoseg.pipeline.results.dicom.source import CARRIED, Source
from pneumoseg.transforms.reader.elements import quiet_libraries

MODEL_NAME: Final = "pneumoseg"
NOTICE: Final = "Research software, not for diagnosis"
_SERIES: Final = 970_000_000  # far from the numbers that devices give
_KINDS: Final = ("seg", "sr", "sc", "gsps")


@dataclass(frozen=True)
class Origin:
    """Model, settings and time that a result is made with.

    Attributes:
        model_sha256: SHA-256 of all of a model that decides a mask: weights, preprocessing, operating point, ...
        analysis_sha256: SHA-256 of all settings that decide the content of a DICOM result.
        analysed_at: When the image was first analysed with these settings, with its time zone.
        parameters: Settings of the algorithm by name.
        uid_root: Root of all UIDs; None makes UIDs from UUIDs, under 2.25.
    """

    model_sha256: str
    analysis_sha256: str
    analysed_at: datetime
    parameters: Mapping[str, str] = field(default_factory=dict)
    uid_root: str | None = None

    def uid(self, source: Source, *what: str) -> UID:
        """Make a UID from source, settings and kind of object, so that a rerun replaces its earlier result.

        Args:
            source: Source image.
            what: Kind of object, and part of it.
        """
        # with and without identity, two results
        identity = str(source.header.get("PatientIdentityRemoved", "NO"))
        return self._uid(source.sop_instance_uid, source.pixel_sha256, identity, self.analysis_sha256, *what)

    @property
    def device_uid(self) -> UID:
        """UID of the device, which is the model."""
        return self._uid(self.model_sha256, "device")

    def _uid(self, *entropy: str) -> UID:
        """Derive a UID under the root, or under 2.25 from a UUID (DICOM PS3.5 B.2)."""
        if self.uid_root:
            return generate_uid(prefix=f"{self.uid_root}.", entropy_srcs=list(entropy))
        return UID(f"2.25.{uuid5(NAMESPACE_OID, ' '.join(entropy)).int}")

    def common(self, source: Source, kind: str) -> dict[str, Any]:
        """Give the arguments that all highdicom objects are made with.

        Args:
            source: Source image.
            kind: ``seg``, ``sr``, ``sc`` or ``gsps``.
        """
        moment = source.local(self.analysed_at)
        date, time = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
        return {
            "series_instance_uid": self.uid(source, kind, "series"),
            # results of other settings or models are series of their own, also to the eye
            "series_number": _SERIES + 10 * (int(self.analysis_sha256[:8], 16) % 10**6) + _KINDS.index(kind),
            "sop_instance_uid": self.uid(source, kind, "instance"),
            "instance_number": 1,
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": MODEL_NAME,
            "software_versions": version("pneumoseg"),
            "device_serial_number": self.model_sha256[:16],
            "series_description": f"Pneumothorax {kind.upper()}, AI, unverified, {self.analysis_sha256[:8]}",
            "content_date": date,
            "content_time": time,
            "series_date": date,
            "series_time": time,
        }

    @property
    def version(self) -> str:
        """Version of the algorithm: of the software, and of the model by its hash."""
        return f"{version('pneumoseg')}+{self.model_sha256[:16]}"

    def algorithm(self) -> AlgorithmIdentificationSequence:
        """Identify the algorithm, for a segment."""
        return AlgorithmIdentificationSequence(
            name=MODEL_NAME,
            family=codes.DCM.ArtificialIntelligence,
            version=self.version,
            source=MANUFACTURER,
            parameters=dict(self.parameters) or None,
        )


def finish(dataset: Dataset, source: Source, origin: Origin) -> None:
    """Set the time of the analysis in place of the present, and add the elements that a source carries on.

    Args:
        dataset: DICOM result, as highdicom makes it.
        source: Source image.
        origin: Model, settings and time of the result.
    """
    moment = source.local(origin.analysed_at)
    dataset.InstanceCreationDate = moment.strftime("%Y%m%d")
    dataset.InstanceCreationTime = moment.strftime("%H%M%S")
    dataset.TimezoneOffsetFromUTC = moment.strftime("%z")
    for item in dataset.get("ContributingEquipmentSequence", ()):
        if "ContributionDateTime" in item:
            item.ContributionDateTime = moment.strftime("%Y%m%d%H%M%S%z")
    copy_if_given(source, dataset, *CARRIED, "PatientIdentityRemoved", "DeidentificationMethod")


def copy_if_given(source: Source, dataset: Dataset, *keywords: str) -> None:
    """Copy those elements of the source that it has."""
    for keyword in keywords:
        if keyword in source.header:
            setattr(dataset, keyword, source.header[keyword].value)


def save_dicom(path: Path, dataset: Dataset) -> None:
    """Write a dataset as a DICOM file."""
    with written_atomically(path) as temporary, quiet_libraries():
        dataset.save_as(temporary, enforce_file_format=True)
