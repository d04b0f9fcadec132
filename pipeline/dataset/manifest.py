"""Manifest of the training data: images, labels and folds."""

import hashlib
import json
import os
import sys
from collections.abc import Container
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pneumoseg.pipeline.core.files import to_json, write_text
from pneumoseg.pipeline.core.json_files import read_validated_json
from pneumoseg.pipeline.dataset.groups import GroupSource, patient_is_known
from pneumoseg.transforms.reader.reasons import Outcome
from pneumoseg.transforms.reader.record import Orientation

FORMAT_VERSION: Final = 1
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

Direction = Annotated[str, Field(pattern=r"^[APRLHF]{1,3}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Case(_Part):
    """One labelled image. The keys `image` and `label` are those of MONAI's data lists."""

    image: str
    """Path of the radiograph, relative to the manifest, with forward slashes."""
    label: tuple[str, ...]
    """Run-length strings, one for each region; empty without pneumothorax."""
    id: str
    """Name of the image in the label CSV."""
    group: str
    """Patient; a group is never divided between folds. Where the patient is unknown, "image:" and the id."""
    fold: Annotated[int, Field(ge=0)]
    """Fold in which this case is held out."""
    shape: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
    """Rows and columns of the image in pixels, to which the runs refer."""
    patient_orientation: tuple[Direction, Direction] | None = None
    """PatientOrientation: directions of rows and columns, as in ["L", "F"]; null where it is unknown."""
    area_px: Annotated[int, Field(ge=0)]
    """Number of pixels of the label, all regions together."""
    view: str | None = None
    """ViewPosition: PA or AP."""
    sex: str | None = None
    """PatientSex: F, M or O."""
    age: Annotated[int, Field(ge=0)] | None = None
    """Age in full years."""
    spacing_mm: tuple[float, float] | None = None
    """Distance between rows and between columns in mm; null where it is unknown."""
    sha256: Sha256
    """SHA-256 of the file."""

    @property
    def orientation(self) -> Orientation:
        """How the stored pixels become an upright image."""
        return Orientation.of(self.patient_orientation)

    @property
    def is_positive(self) -> bool:
        """Whether there is a pneumothorax."""
        return self.area_px > 0


class Unlabelled(_Part):
    """Image without a label row: neither positive nor negative."""

    image: str
    id: str
    sha256: Sha256


class Refused(_Part):
    """File that is not a case, with the reason."""

    image: str
    outcome: Outcome = Outcome.REFUSED
    reason: str
    detail: str


class ManifestOrigin(_Part):
    """Input of the manifest, without time and paths, so that the same input gives the same bytes."""

    images_sha256: Sha256
    """SHA-256 over the hashes of all image files, in order."""
    labels_sha256: tuple[Sha256, ...]
    """SHA-256 of each label file, in the given order."""
    groups_sha256: Sha256 | None = None
    """SHA-256 of the groups file."""


class Manifest(_Part):
    """A MONAI data list: ``load_decathlon_datalist(path, is_segmentation=False)`` reads its cases."""

    format_version: Literal[1] = FORMAT_VERSION
    name: str
    """Name of the collection."""
    size: Annotated[int, Field(ge=0)]
    """Number of cases."""
    made_from: ManifestOrigin
    folds: Annotated[int, Field(ge=2)]
    """Number of folds."""
    seed: int
    """Seed of the assignment to folds."""
    grouped_by: GroupSource
    """Source of the groups; with "nothing" all patients are unknown, and may be divided between folds."""
    training: tuple[Case, ...]
    """Cases, sorted by id."""
    unlabelled: tuple[Unlabelled, ...] = ()
    """Images without a label."""
    refused: tuple[Refused, ...] = ()
    """Files that could not be used."""

    @property
    def unknown_patients(self) -> int:
        """Number of cases whose patient is unknown."""
        return sum(not patient_is_known(case.group) for case in self.training)

    def indices_in(self, folds: Container[int]) -> list[int]:
        """List the indices of the training cases of some folds, in their order.

        Args:
            folds: Indices of the folds.
        """
        return [index for index, case in enumerate(self.training) if case.fold in folds]

    @model_validator(mode="after")
    def _check(self) -> "Manifest":
        if self.size != len(self.training):
            raise ValueError(f"size is {self.size}, but {len(self.training)} cases are listed")
        ids = [case.id for case in self.training]
        if len(set(ids)) != len(ids):
            twice = next(name for name in ids if ids.count(name) > 1)
            raise ValueError(f"id {twice} is listed twice")
        fold_of: dict[str, int] = {}
        for case in self.training:
            if case.fold >= self.folds:
                raise ValueError(f"{case.id} is in fold {case.fold}; the folds are 0 to {self.folds - 1}")
            if fold_of.setdefault(case.group, case.fold) != case.fold:
                raise ValueError(f"group {case.group} is in two folds: one patient would be on both sides")
        return self


def read_manifest(path: Path) -> Manifest:
    """Read and check a manifest.

    Args:
        path: Path of the manifest.

    Raises: JobError: If the file is not a manifest.
    """
    return read_validated_json(
        path, Manifest, advice="give a manifest that `pneumoseg prepare` of this release wrote"
    )


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write a manifest with one case per line, so that versions can be compared by line.

    Args:
        path: Path of the file.
        manifest: Manifest to write.
    """
    content = manifest.model_dump(mode="json")
    lists = {key: content.pop(key) for key in ("training", "unlabelled", "refused")}
    head = to_json(content, indent=1).removesuffix("\n}")
    parts = [head, *(f' "{key}": {_one_a_line(entries)}' for key, entries in lists.items())]
    write_text(path, ",\n".join(parts) + "\n}\n")


def _one_a_line(entries: list[dict[str, Any]]) -> str:
    lines = ",\n".join("  " + to_json(entry) for entry in entries)
    return f"[\n{lines}\n ]" if entries else "[]"


def image_path(manifest_path: Path, case: Case | Unlabelled) -> Path:
    """Return the path of a case's radiograph.

    Args:
        manifest_path: Path of the manifest, the base of the image paths.
        case: Case of the manifest.
    """
    return Path(os.path.normpath(manifest_path.parent / case.image))


def manifest_sha256(manifest: Manifest) -> str:
    """Hash the cases of a manifest with their labels, patients and folds.

    The hash does not depend on the name of the manifest and on where it and the images lie, so that a model knows the
    images that it held out on another machine.

    Args:
        manifest: Manifest to hash.
    """
    content = manifest.model_dump_json(
        include={
            "folds": True,
            "training": {"__all__": {"label", "id", "group", "fold", "shape", "sha256"}},
        }
    )
    return hashlib.sha256(content.encode()).hexdigest()


def manifest_schema() -> dict[str, Any]:
    """Return the JSON Schema of a manifest file, as kept in ``data_manifests``."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Manifest.model_json_schema()}


if __name__ == "__main__":  # writes data_manifests/manifest.schema.json
    sys.stdout.write(json.dumps(manifest_schema(), indent=1) + "\n")
