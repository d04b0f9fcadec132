"""Set of phantoms in the layout of the challenge: images, label CSV, patients, sample submission."""

import csv
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.phantom.dicom_files import write_dicom
from pneumoseg.pipeline.phantom.plan import (
    DEFAULT_COUNT,
    DEFAULT_SEED,
    DEFAULT_TEST_COUNT,
    PhantomCase,
    plan_cases,
)
from pneumoseg.pipeline.phantom.rendering import render_phantom
from pneumoseg.transforms.labels.rle import encode_rle


@dataclass(frozen=True)
class PhantomSet:
    """Folder and number of images of a written set."""

    images: Path
    labels: Path
    groups: Path
    test_images: Path
    test_labels: Path
    sample_submission: Path
    labelled: int
    positive: int
    unlabelled: int
    test: int


def write_phantoms(
    folder: Path,
    *,
    count: int = DEFAULT_COUNT,
    test_count: int = DEFAULT_TEST_COUNT,
    seed: int = DEFAULT_SEED,
    size: int = 1024,
) -> PhantomSet:
    """Render phantoms and write them in the layout of the challenge; the same arguments give the same bytes.

    Args:
        folder: Folder for ``images/``, ``train-rle.csv``, ``patients.csv``, ``test-images/``, ``test-rle.csv`` and
            ``sample_submission.csv``.
        count: Number of labelled training images; two more have no label.
        test_count: Number of images of other patients, for a submission.
        seed: Seed of the patients.
        size: Rows and columns of each image.

    Raises:
        JobError: If the folder contains a set.
    """
    cases = plan_cases(count=count, test_count=test_count, seed=seed)
    images, test_images = folder / "images", folder / "test-images"
    if images.exists():
        raise JobError(f"{images} exists; remove it, or give another folder for the phantoms")
    images.mkdir(parents=True)
    test_images.mkdir()

    def write(case: PhantomCase) -> list[str]:
        phantom = render_phantom(
            case.seed, patient_seed=case.patient_seed, size=size, pneumothorax=case.pneumothorax or False
        )
        part = test_images if case.test else images
        write_dicom(phantom, part, name=case.name, encoding=case.encoding)
        return [encode_rle(mask) for mask in phantom.masks] or ["-1"]

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # NumPy works outside of the interpreter's lock
        labels = list(pool.map(write, cases))

    ill = {case.id: rles != ["-1"] for case, rles in zip(cases, labels, strict=True)}
    made = PhantomSet(
        images=images,
        labels=folder / "train-rle.csv",
        groups=folder / "patients.csv",
        test_images=test_images,
        test_labels=folder / "test-rle.csv",
        sample_submission=folder / "sample_submission.csv",
        labelled=count,
        positive=sum(ill[case.id] for case in cases if case.labelled and not case.test),
        unlabelled=sum(not case.labelled for case in cases),
        test=test_count,
    )
    rows = [(case, rle) for case, rles in zip(cases, labels, strict=True) for rle in rles if case.labelled]
    # the header and values of the challenge's first label file have a space too many: readers must cope
    _write_csv(
        made.labels, ("ImageId", " EncodedPixels"), ((c.id, f" {rle}") for c, rle in rows if not c.test)
    )
    _write_csv(made.test_labels, ("ImageId", "EncodedPixels"), ((c.id, rle) for c, rle in rows if c.test))
    _write_csv(made.groups, ("ImageId", "PatientGroup"), ((c.id, c.group) for c in cases))
    _write_csv(made.sample_submission, ("ImageId", "EncodedPixels"), ((c.id, "-1") for c in cases if c.test))
    return made


def _write_csv(path: Path, header: tuple[str, str], rows: Iterable[tuple[str, str]]) -> None:
    with path.open("w", newline="", encoding="ascii") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
