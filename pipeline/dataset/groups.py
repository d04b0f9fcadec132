"""Patient of each image, so that no patient is on both sides of a split."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.transforms.labels.text_table import LabelFileError, read_rows

COLUMNS = ("ImageId", "PatientGroup")


@dataclass(frozen=True)
class Grouping:
    """Group of each case.

    Attributes:
        names: Name of the group of each case.
        source: Source of the groups; with "nothing" each image is its own group.
        alone: Number of cases without a group in the source; each is its own group.
        twins: Number of cases with the pixels of an earlier case, which share its group.
    """

    names: tuple[str, ...]
    source: Literal["groups file", "PatientID", "nothing"]
    alone: int
    twins: int = 0

    @property
    def leakage(self) -> str:
        """One line that states whether a patient can be in two folds."""
        twins = f"; {self.twins} images have the pixels of another, and its group" if self.twins else ""
        if self.source == "nothing":
            return f"PatientID is unique per file: leakage cannot be checked, give --groups{twins}"
        alone = f" ({self.alone} images without a group are groups of their own)" if self.alone else ""
        return f"no patient in two folds: {len(set(self.names))} groups by {self.source}{alone}{twins}"


def read_groups(path: Path) -> dict[str, str]:
    """Read a CSV with the columns ``ImageId,PatientGroup``.

    Args:
        path: Path of the file.

    Returns: Group by name of the image.
    Raises: JobError: If it cannot be read, lacks a column, or gives an image two groups.
    """
    groups: dict[str, str] = {}
    try:
        rows = read_rows(path)
        names = [name.strip() for name in next(rows)[1]]
        missing = [column for column in COLUMNS if column not in names]
        if missing:
            raise JobError(f"{path} has no column {missing[0]}, only {', '.join(map(repr, names))}")
        image_at, group_at = map(names.index, COLUMNS)
        for line, cells in rows:
            image, group = (cells[at].strip() if at < len(cells) else "" for at in (image_at, group_at))
            if not (image + group).isprintable():
                raise JobError(f"{path}, line {line}: holds {image + group!r}; names in UTF-8 would fit")
            if image and group and groups.setdefault(image, group) != group:
                raise JobError(
                    f"{path}, line {line}: {image} is in group {group} here and in {groups[image]} above; "
                    "one patient an image would fit"
                )
    except LabelFileError as error:
        raise JobError(str(error)) from None
    return groups


def group_by_file(ids: Sequence[Sequence[str | None]], groups: dict[str, str]) -> Grouping:
    """Group cases by a groups file.

    Args:
        ids: Names of each case that the file may use.
        groups: Group by name of the image.
    """
    names = [next((groups[name] for name in known if name in groups), None) for known in ids]
    return Grouping(
        names=tuple(name or f"image:{known[0]}" for name, known in zip(names, ids, strict=True)),
        source="groups file",
        alone=names.count(None),
    )


def group_by_patient_id(ids: Sequence[Sequence[str | None]], patients: Sequence[str | None]) -> Grouping:
    """Group cases by PatientID, which identifies a person and is not written to any file.

    Where every file has a different PatientID, as in the challenge, it does not identify patients.

    Args:
        ids: Names of each case.
        patients: PatientID of each case; None or empty where it is missing.
    """
    counts = Counter(patient for patient in patients if patient)
    alone = patients.count(None) + patients.count("")
    if not any(count > 1 for count in counts.values()):
        return Grouping(tuple(f"image:{known[0]}" for known in ids), "nothing", len(ids))
    number = {patient: index for index, patient in enumerate(counts)}
    names = (
        f"patient:{number[patient]:05}" if patient else f"image:{known[0]}"
        for patient, known in zip(patients, ids, strict=True)
    )
    return Grouping(tuple(names), "PatientID", alone)


def keep_twins_together(grouping: Grouping, pixels: Sequence[str]) -> Grouping:
    """Merge the groups of cases with the same pixels, since they show the same patient.

    Args:
        grouping: Group of each case.
        pixels: Hash of the pixels of each case.
    """
    group_of: dict[str, str] = {}
    joined: dict[str, str] = {}

    def resolve(name: str) -> str:
        while name in joined:
            name = joined[name]
        return name

    for name, image in zip(grouping.names, pixels, strict=True):
        first, own = resolve(group_of.setdefault(image, name)), resolve(name)
        if first != own:
            joined[own] = first
    return replace(grouping, names=tuple(map(resolve, grouping.names)), twins=len(pixels) - len(group_of))
