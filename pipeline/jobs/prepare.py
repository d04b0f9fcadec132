"""Match a folder of radiographs with label CSVs, divide the patients into folds, and write the manifest."""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

from pneumoseg.pipeline.core.claims import claim_file
from pneumoseg.pipeline.core.console import tracked, warn, warn_some
from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.files import sha256_of
from pneumoseg.pipeline.core.names import shown
from pneumoseg.pipeline.dataset.folds import assign_folds
from pneumoseg.pipeline.dataset.groups import Grouping, GroupsFile, group_cases, keep_twins_together
from pneumoseg.pipeline.dataset.manifest import (
    Case,
    Manifest,
    ManifestOrigin,
    Refused,
    Unlabelled,
    write_manifest,
)
from pneumoseg.pipeline.dataset.trusted_labels import find_opposite_twins, read_trusted_labels
from pneumoseg.pipeline.reading.duplicates import Duplicates
from pneumoseg.pipeline.reading.facts import Facts, read_facts
from pneumoseg.pipeline.reading.folders import find_radiographs
from pneumoseg.pipeline.reading.readers import Readers
from pneumoseg.transforms.labels.challenge_csv import ImageLabel
from pneumoseg.transforms.labels.runs import area_px, merge_runs
from pneumoseg.transforms.labels.text_table import may_be_rounded
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.radiograph import image_name
from pneumoseg.transforms.reader.reasons import Outcome, RadiographError, Reason


@dataclass(frozen=True)
class PrepareReport:
    """Result of preparing a manifest.

    Attributes:
        manifest: The manifest.
        grouping: Patients of the labelled images, and where they are known from.
        other_files: Number of unrelated files in the folder.
        links: Number of links that were not followed.
        label_problems: Rows of the label files that cannot be trusted; their images are unlabelled.
        labels_without_image: Labelled names without an image that can be used.
    """

    manifest: Manifest
    grouping: Grouping
    other_files: int
    links: int
    label_problems: tuple[str, ...]
    labels_without_image: tuple[str, ...]

    @property
    def positive(self) -> int:
        """Number of cases with a pneumothorax."""
        return sum(case.is_positive for case in self.manifest.training)

    def reasons(self, outcome: Outcome) -> Counter[str]:
        """Count the files with an outcome, refused or skipped, by reason."""
        return Counter(entry.reason for entry in self.manifest.refused if entry.outcome is outcome)

    @property
    def exit_code(self) -> int:
        """0, or 3 where some input was refused."""
        return 3 if self.reasons(Outcome.REFUSED) or self.label_problems else 0


def prepare_manifest(
    images: str | Path,
    labels: Sequence[str | Path],
    output: str | Path,
    *,
    groups: str | Path | None = None,
    folds: int = 5,
    seed: int = 0,
    id_column: str = "ImageId",
    label_shape: tuple[int, int] = (1024, 1024),
    name: str | None = None,
    acceptance: AcceptanceFilters | None = None,
    workers: int = 1,
    overwrite: bool = False,
    follow_links: bool = False,
) -> PrepareReport:
    """Read every radiograph under a folder, match it with its label, and write the manifest.

    Args:
        images: Folder of DICOM and PNG files, with subfolders.
        labels: Label CSV files of any generation; an image in several of them gets all of its masks.
        output: Path of the manifest.
        groups: CSV with the columns ``ImageId,PatientGroup``; images that it does not list, and all images without
            it, are grouped by PatientID where that identifies patients.
        folds: Number of folds.
        seed: Seed of the assignment to folds.
        id_column: Column of the label files whose values are file names, with or without suffix, or SOP UIDs.
        label_shape: Size of the masks as ``(rows, columns)``; labelled images of another size are refused.
        name: Name of the collection, which goes into models and reports; None takes one from a hash of the images,
            since the name of a folder may identify a hospital or a person.
        acceptance: Which files are accepted as frontal chest radiographs.
        workers: Processes that decode; 0 decodes in this process, without protection from damaged files.
        overwrite: Replace an earlier manifest.
        follow_links: Whether to follow links in *images*.

    Returns: The manifest, and remarks on its sources.

    Raises:
        UsageError: If an argument does not fit.
        JobError: If a label file cannot be trusted, the folder holds no radiograph, or nothing in it has a label.
    """
    images, output = Path(images), Path(output)
    groups = None if groups is None else Path(groups)
    label_files = [Path(path) for path in labels]
    claim_file(output, overwrite=overwrite, inputs=[images, *label_files, *filter(None, [groups])])
    known = _Known.read(label_files, id_column, label_shape)
    warn_some(known.problems, "label rows that are refused")
    warn_some(known.warnings, "label rows with a warning")
    groups_file = GroupsFile(groups) if groups else None

    found = find_radiographs(images, leave_out=[output], follow_links=follow_links)
    readable, refused = _read_images(found.images, acceptance, output.parent, workers)
    labelled, unlabelled = _match(readable, known, label_shape, refused)
    if not labelled:
        raise JobError(_why_nothing_matches(readable, refused, known))
    matched = {name for _, image, _ in labelled for name in image.names}
    for path, names in known.names.items():
        if names and not names & matched:
            warn(f"{path}: none of its {len(names)} ids is that of an image under {images}")

    pixels = [image.facts.pixel_sha256 for _, image, _ in labelled]
    known_as = [(name, image.where, *image.names) for name, image, _ in labelled]
    patients = [image.facts.patient_id for _, image, _ in labelled]
    grouping = keep_twins_together(group_cases(known_as, patients, groups_file, pixels=pixels), pixels)
    opposite = find_opposite_twins((i, each.facts.pixel_sha256, bool(rle.texts)) for i, each, rle in labelled)
    warn_some(opposite, "images with the pixels of another and the opposite label")
    fold_of = assign_folds(
        [area_px(label.runs) for *_, label in labelled], grouping.names, folds=folds, seed=seed
    )
    digests = "".join(image.facts.file_sha256 for image in readable)
    images_sha256 = hashlib.sha256(digests.encode()).hexdigest()
    manifest = Manifest(
        name=shown(name or f"images {images_sha256[:8]}"),
        size=len(labelled),
        made_from=ManifestOrigin(
            images_sha256=images_sha256,
            labels_sha256=tuple(sha256_of(path) for path in label_files),
            groups_sha256=sha256_of(groups) if groups else None,
        ),
        folds=folds,
        seed=seed,
        grouped_by=grouping.source,
        training=tuple(
            image.case(name, label, group=group, fold=int(fold))
            for (name, image, label), group, fold in zip(labelled, grouping.names, fold_of, strict=True)
        ),
        unlabelled=tuple(unlabelled),
        refused=tuple(refused),
    )
    write_manifest(output, manifest)
    with_positives = {case.fold for case in manifest.training if case.is_positive}
    if not with_positives:
        warn(
            "none of the labelled images has a pneumothorax: no network can be trained on them; look at the labels"
        )
    elif without := folds - len(with_positives):
        warn(
            f"{without} of {folds} folds hold no pneumothorax: networks that hold them out cannot be validated; fewer "
            "--folds would fit"
        )
    return PrepareReport(
        manifest=manifest,
        grouping=grouping,
        other_files=found.others,
        links=found.links,
        label_problems=tuple(known.problems),
        labels_without_image=tuple(sorted(set(known.labels) - matched)),
    )


@dataclass
class _Known:
    """Labels and problems of all label files together."""

    labels: dict[str, ImageLabel] = field(default_factory=dict)
    names: dict[Path, set[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    dropped: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, paths: Sequence[Path], id_column: str, shape: tuple[int, int]) -> "_Known":
        known = cls()
        for path in paths:
            found = read_trusted_labels(path, shape=shape, id_column=id_column)
            for issue in (*found.errors, *found.warnings):
                # an empty cell is no fault: the image has not been labelled yet
                harmless = issue in found.warnings or issue.kind == "EMPTY"
                (known.warnings if harmless else known.problems).append(f"{path.name}, {issue}")
            known.dropped |= {issue.image_id for issue in found.errors}
            known.names[path] = {*found.images}
            for name, label in found.images.items():
                known._add(path, name, label)
        known.labels = {name: label for name, label in known.labels.items() if name not in known.dropped}
        return known

    def find(self, image: "_Image") -> tuple[str, ImageLabel] | None:
        """Find the name and the label of an image, joined from all of its names; None where it cannot be trusted."""
        labels = {name: self.labels[name] for name in image.names if name in self.labels}
        if not labels or not self.dropped.isdisjoint(image.names):
            return None
        if len({bool(label.texts) for label in labels.values()}) > 1:
            names = " and ".join(labels)
            self.problems.append(f"{image.where}: CONFLICT: its names {names} have a mask and -1")
            warn(self.problems[-1])
            return None
        return next(iter(labels)), reduce(_join, labels.values())

    def _add(self, path: Path, name: str, label: ImageLabel) -> None:
        before = self.labels.setdefault(name, label)
        if bool(before.texts) != bool(label.texts):
            self.problems.append(
                f"{path.name}, line {label.lines[0]}: CONFLICT: {name} has a mask in one file and -1 in another"
            )
            self.dropped.add(name)
        elif before is not label:
            self.labels[name] = _join(before, label)


def _join(first: ImageLabel, second: ImageLabel) -> ImageLabel:
    """Join two labels of one image to the union of their masks."""
    texts = tuple(dict.fromkeys(first.texts + second.texts))
    return ImageLabel(texts, merge_runs([first.runs, second.runs]), first.lines)


@dataclass(frozen=True)
class _Image:
    """A radiograph that could be read, without its pixels."""

    path: Path
    where: str
    facts: Facts

    @property
    def names(self) -> tuple[str, ...]:
        """Names that a CSV may use for the image."""
        return (image_name(self.path), self.path.name, *filter(None, [self.facts.sop_instance_uid]))

    def case(self, name: str, label: ImageLabel, *, group: str, fold: int) -> Case:
        """Make the entry of the manifest."""
        return Case(
            image=self.where,
            label=label.texts,
            id=name,
            group=group,
            fold=fold,
            shape=self.facts.shape,
            patient_orientation=self.facts.patient_orientation,
            area_px=area_px(label.runs),
            view=self.facts.view,
            sex=self.facts.sex,
            age=self.facts.age_years,
            spacing_mm=self.facts.spacing_mm,
            sha256=self.facts.file_sha256,
        )


def _read_images(
    paths: Sequence[Path], acceptance: AcceptanceFilters | None, base: Path, workers: int
) -> tuple[list[_Image], list[Refused]]:
    images, refused, duplicates = [], [], Duplicates()
    with (
        tracked("read", total=len(paths)) as advance,
        Readers(read_facts, acceptance=acceptance, workers=workers) as readers,
    ):
        for path, result in zip(paths, readers.read(paths), strict=True):
            where = os.path.relpath(path.absolute(), base.absolute()).replace(os.sep, "/")
            try:
                if any("\ud800" <= letter <= "\udfff" for letter in where):  # how Python shows other bytes
                    detail = "the file's name is not Unicode, which is all that a manifest can hold"
                    raise RadiographError(Reason.UNREADABLE, detail)
                if isinstance(result, RadiographError):
                    raise result
                if duplicate := duplicates.check(where, result):
                    raise duplicate
                images.append(_Image(path, where, result))
            except RadiographError as error:
                detail = shown(error.detail)
                refused.append(
                    Refused(image=shown(where), outcome=error.outcome, reason=error.reason, detail=detail)
                )
            advance()
    return images, refused


def _match(
    images: Sequence[_Image], known: _Known, shape: tuple[int, int], refused: list[Refused]
) -> tuple[list[tuple[str, _Image, ImageLabel]], list[Unlabelled]]:
    """Pair images with labels, by id; what cannot be paired for a reason is added to *refused*."""
    labelled: dict[str, tuple[str, _Image, ImageLabel]] = {}
    unlabelled, other_size = [], list[_Image]()
    for image in images:
        if (found := known.find(image)) is None:
            facts = image.facts
            unlabelled.append(Unlabelled(image=image.where, id=image.names[0], sha256=facts.file_sha256))
            continue
        name, label = found
        if name in labelled:
            detail = f"{labelled[name][1].where} is {name} as well"
            refused.append(Refused(image=image.where, reason=Reason.DUPLICATE_UID, detail=detail))
        elif image.facts.shape != shape:
            detail = "{}x{} pixels; the labels are counted over {}x{}".format(*image.facts.shape, *shape)
            refused.append(Refused(image=image.where, reason=Reason.CONFLICTING_SIZE, detail=detail))
            other_size.append(image)
        else:
            labelled[name] = (name, image, label)
    if other_size and not labelled:
        raise JobError(_why_no_size_fits(other_size, shape))
    return [labelled[name] for name in sorted(labelled)], unlabelled


def _why_no_size_fits(images: Sequence[_Image], shape: tuple[int, int]) -> str:
    first = "{},{}".format(*images[0].facts.shape)
    hint = "give the size that the labels are counted over"
    if len({image.facts.shape for image in images}) == 1:
        hint = f"--label-shape {first} would fit"
    return (
        f"{len(images)} images have a label, but none has the size of --label-shape {shape[0]},{shape[1]}; the first, "
        f"{images[0].where}, has {first} pixels; {hint}"
    )


def _why_nothing_matches(images: Sequence[_Image], refused: Sequence[Refused], known: _Known) -> str:
    if not images:
        first = refused[0]
        return f"none of {len(refused)} files could be used; the first, {first.image}: {first.reason}: {first.detail}"
    if not known.labels:
        return ": ".join(["no row of the labels can be used", *(known.problems + known.warnings)[:1]])
    label = next(iter(known.labels))
    hint = "did a spreadsheet round the ids?" if may_be_rounded(label) else "look at --labels and --id-column"
    return (
        f"none of {len(images)} images has a label: files are called like {images[0].path.name}, "
        f"labels like {label}; {hint}"
    )
