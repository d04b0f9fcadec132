"""Patient of each image, so that no patient is on both sides of a split."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Final, Literal, Self

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.transforms.labels.text_table import (
    UNKNOWN,
    LabelFileError,
    is_rounded,
    may_be_rounded,
    read_rows,
)
from pneumoseg.transforms.reader.radiograph import image_name

COLUMNS: Final = ("ImageId", "PatientGroup")
GroupSource = Literal["groups file", "PatientID", "groups file and PatientID", "nothing"]
_UNKNOWN_PATIENT: Final = "image:"
"""Prefix of the group of an image whose patient is unknown; the image is a group of its own."""


def patient_is_known(group: str) -> bool:
    """Check whether a group is a patient, and not an image whose patient is unknown.

    Args:
        group: Name of a group.
    """
    return not group.startswith(_UNKNOWN_PATIENT)


@dataclass(frozen=True)
class PatientCount:
    """Number of patients of some images, as far as they are known.

    Attributes:
        images: Number of images.
        patients: Number of known patients.
        unknown: Number of images whose patient is unknown.
    """

    images: int
    patients: int
    unknown: int

    @classmethod
    def of(cls, groups: Iterable[str]) -> Self:
        """Count the patients of images.

        Args:
            groups: Group of each image.
        """
        names = list(groups)
        known = [name for name in names if patient_is_known(name)]
        return cls(len(names), len(set(known)), len(names) - len(known))

    @property
    def unit(self) -> str:
        """What is never divided, and is resampled: "patient", or "image" where all patients are unknown."""
        return "patient" if self.patients else "image"

    @property
    def resampled_by(self) -> str:
        """What the resamples of a confidence interval consist of."""
        if not self.unknown:
            return "resampled by patient"
        where = " where it is known" if self.patients else ""
        return f"resampled by {self.unit}{where}: give --groups for patients"

    def __str__(self) -> str:
        if not self.patients:
            return f"{self.images} images"
        rest = f"; the patients of {self.unknown} images are unknown" if self.unknown else ""
        return f"{self.images} images of {self.patients} patients{rest}"


@dataclass(frozen=True)
class Grouping:
    """Group of each case.

    Attributes:
        names: Name of the group of each case.
        source: Source of the groups; with "nothing" each image is its own group.
        twins: Number of cases with the pixels of an earlier case, which share its group.
    """

    names: tuple[str, ...]
    source: GroupSource
    twins: int = 0

    @property
    def leakage(self) -> str:
        """One line that states whether a patient can be in two folds."""
        twins = f"; {self.twins} images have the pixels of another, and its group" if self.twins else ""
        count = PatientCount.of(self.names)
        by_source = f"{count.patients} groups by {self.source}"
        if not count.unknown:
            return f"no patient in two folds: {by_source}{twins}"
        rest = f"; {count.images - count.unknown} images are in {by_source}" if count.patients else ""
        advice = "complete the groups file" if "groups file" in self.source else "give --groups"
        return (
            f"leakage cannot be checked for {count.unknown} images, whose patients are unknown; {advice}"
            f"{rest}{twins}"
        )


class GroupsFile:
    """Groups by the names of images; a name may have folders and a suffix that the image has not, or lack them.

    Args:
        path: CSV file with the columns ``ImageId,PatientGroup``, in any order and case. An empty group, or one such as
            ``nan``, is unknown.

    Raises: JobError: If the file cannot be read, lacks a column, gives an image two groups, or holds no group.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        groups: dict[str, str] = {}
        try:
            rows = read_rows(path)
            names = [name.strip() for name in next(rows)[1]]
            image_at, group_at = _find_columns(path, names)
            for line, cells in rows:
                image, group = (cells[at].strip() if at < len(cells) else "" for at in (image_at, group_at))
                _check_row(path, line, image, group)
                if any(map(str.strip, cells[len(names) :])):  # the columns have moved
                    raise JobError(f"{path}, line {line}: {len(cells)} cells under {len(names)} columns")
                if group.casefold() in UNKNOWN or not image:
                    continue
                if groups.setdefault(image, group) != group:
                    raise JobError(
                        f"{path}, line {line}: {image} is in group {group} here and in {groups[image]} above; "
                        "one patient an image would fit"
                    )
        except LabelFileError as error:
            raise JobError(str(error)) from None
        if not groups:
            raise JobError(f"{path} holds no group; a row for each image, with its patient, would fit")
        self._first = next(iter(groups))
        self._groups: dict[str, set[str]] = {}
        for image, group in groups.items():
            for name in _endings(image):
                self._groups.setdefault(name, set()).add(group)

    def find(self, ids: Sequence[Sequence[str]]) -> list[str | None]:
        """Look up the group of each image.

        Args:
            ids: Names of each image: its id, path or UID.

        Returns: Groups; None where the file has none, or only under a name of images in different groups.
        Raises: JobError: If all are None.
        """
        found = [self._group_of(names) for names in ids]
        if not any(found):
            rounded = "; did a spreadsheet round them?" if may_be_rounded(self._first) else ""
            raise JobError(
                f"{self.path}: none of {len(ids)} images has a group in it; images are called like {ids[0][0]}, "
                f"its ids like {self._first}{rounded}"
            )
        return found

    def _group_of(self, names: Iterable[str]) -> str | None:
        endings = [ending for name in names for ending in _endings(name)]
        for ending in sorted(endings, key=lambda each: -each.count("/")):  # the most precise one first
            if len(found := self._groups.get(ending, set())) == 1:
                return next(iter(found))
        return None


def _find_columns(path: Path, names: Sequence[str]) -> list[int]:
    folded = [name.casefold() for name in names]
    for column in COLUMNS:
        if (count := folded.count(column.casefold())) != 1:
            found = f"{count} columns {column} in" if count else f"no column {column}, only"
            raise JobError(f"{path} has {found} {', '.join(map(repr, names))}")
    return [folded.index(column.casefold()) for column in COLUMNS]


def _check_row(path: Path, line: int, image: str, group: str) -> None:
    """Refuse a row whose cells are not what they were, or cannot be written."""
    if not (image + group).isprintable():
        raise JobError(f"{path}, line {line}: holds {image + group!r}; names in UTF-8 would fit")
    if is_rounded(image) or is_rounded(group):
        raise JobError(
            f"{path}, line {line}: {image},{group} was rounded by a spreadsheet; save the column as text"
        )
    if group.startswith(_UNKNOWN_PATIENT):
        raise JobError(f"{path}, line {line}: a group cannot begin with {_UNKNOWN_PATIENT}; rename it")


def _endings(name: str) -> Iterator[str]:
    """Yield the path of an image without suffix, and without more and more of its folders."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.name:
        path = path.with_name(image_name(path))
    parts = [part for part in path.parts if part not in ("/", ".", "..")]
    for first in range(len(parts)):
        yield "/".join(parts[first:])


def group_cases(
    ids: Sequence[Sequence[str]],
    patients: Sequence[str | None],
    groups: GroupsFile | None = None,
    *,
    pixels: Sequence[str] | None = None,
) -> Grouping:
    """Group cases by a groups file and, where it has no group, by PatientID.

    PatientID identifies a person and is not written to any file. It does not identify patients where every file has a
    different one, as in the challenge, or all files have the same one. A copy of an image, which has the PatientID of
    the original, does not show that it does.

    Args:
        ids: Names of each case that the file may use, the id first.
        patients: PatientID of each case; None or empty where it is missing.
        groups: Groups file.
        pixels: Hash of the pixels of each case; None if no image is there twice.

    Raises: JobError: If no case is in the groups file.
    """
    by_file = [None] * len(ids) if groups is None else groups.find(ids)
    images = set(zip(patients, pixels or range(len(ids)), strict=True))
    counts = Counter(patient for patient, _ in images if patient)
    usable = len(counts) > 1 and max(counts.values()) > 1
    number = {patient: index for index, patient in enumerate(dict.fromkeys(filter(None, patients)))}
    files_of: dict[str, set[str]] = {}
    for patient, group in zip(patients, by_file, strict=True):
        if patient and group:
            files_of.setdefault(patient, set()).add(group)

    def by_patient_id(patient: str | None) -> str | None:
        if not patient or not usable:
            return None
        known = files_of.get(patient, set())
        # where the groups file tells its images apart, PatientID is no person
        return None if len(known) > 1 else next(iter(known), f"patient:{number[patient]:05}")

    found = [group or by_patient_id(patient) for group, patient in zip(by_file, patients, strict=True)]
    used = found != by_file
    source: GroupSource = "nothing"
    if groups is not None:
        source = "groups file and PatientID" if used else "groups file"
    elif used:
        source = "PatientID"
    names = (group or f"{_UNKNOWN_PATIENT}{known[0]}" for group, known in zip(found, ids, strict=True))
    return Grouping(tuple(names), source)


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
            kept, other = (first, own) if patient_is_known(first) else (own, first)
            joined[other] = kept
    return replace(grouping, names=tuple(map(resolve, grouping.names)), twins=len(pixels) - len(group_of))
