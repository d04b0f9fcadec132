"""A whole set on disk: its CSVs against its pictures."""

import csv
import hashlib
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.phantom import PhantomSet, write_phantoms
from pneumoseg.pipeline.phantom.plan import PhantomCase, plan_cases
from pneumoseg.transforms.labels.rle import decode_rle, encode_rle

SIZE, COUNT, TEST_COUNT = 128, 40, 8


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> PhantomSet:
    return write_phantoms(tmp_path_factory.mktemp("set"), count=COUNT, test_count=TEST_COUNT, size=SIZE)


@pytest.fixture(scope="module")
def cases() -> list[PhantomCase]:
    return plan_cases(count=COUNT, test_count=TEST_COUNT)


def _rows(path: Path) -> list[tuple[str, str]]:
    with path.open(encoding="ascii", newline="") as file:
        return [(name.strip(), value.strip()) for name, value in csv.reader(file)][1:]


def _labels(path: Path) -> dict[str, list[str]]:
    labels = defaultdict(list)
    for name, rle in _rows(path):
        labels[name].append(rle)
    return labels


def _digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_arguments_write_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_phantoms(tmp_path / name, count=5, test_count=2, seed=3, size=SIZE)
    assert _digests(tmp_path / "a") == _digests(tmp_path / "b")


def test_a_folder_that_holds_a_set_is_not_written_again(made: PhantomSet) -> None:
    with pytest.raises(JobError, match="exists; remove it"):
        write_phantoms(made.images.parent, count=3, test_count=1, size=SIZE)


def test_every_image_has_a_file_of_its_name(made: PhantomSet, cases: list[PhantomCase]) -> None:
    assert {path.stem for path in made.images.rglob("*.dcm")} == {case.id for case in cases if not case.test}
    assert {path.stem for path in made.test_images.rglob("*.dcm")} == {case.id for case in cases if case.test}


def test_the_label_csv_decodes_to_the_masks(made: PhantomSet, cases: list[PhantomCase]) -> None:
    labels = _labels(made.labels) | _labels(made.test_labels)
    for case in cases:
        masks = case.scene().masks(SIZE)
        if case.labelled:
            assert labels[case.id] == ([encode_rle(mask) for mask in masks] or ["-1"])
        for rle, mask in zip(labels.get(case.id, []), masks, strict=False):
            np.testing.assert_array_equal(decode_rle(rle, mask.shape), mask)


def test_the_training_labels_have_the_header_and_the_spaces_of_the_challenge(made: PhantomSet) -> None:
    lines = made.labels.read_text().splitlines()
    assert lines[0] == "ImageId, EncodedPixels"
    assert all(line.split(",")[1].startswith(" ") for line in lines[1:])


def test_some_images_have_two_rows_and_one_pair_overlaps(made: PhantomSet) -> None:
    pairs = [rles for rles in _labels(made.labels).values() if len(rles) == 2]
    overlap = [np.minimum(*(decode_rle(rle, (SIZE, SIZE)) for rle in pair)).any() for pair in pairs]
    assert {True, False} <= {bool(value) for value in overlap}


def test_two_images_have_no_row(made: PhantomSet, cases: list[PhantomCase]) -> None:
    unlabelled = {case.id for case in cases if not case.test} - set(_labels(made.labels))
    assert len(unlabelled) == made.unlabelled == 2


def test_the_counts_are_those_of_the_label_csv(made: PhantomSet) -> None:
    labels = _labels(made.labels)
    assert made.labelled == len(labels) == COUNT
    assert made.positive == sum(rles != ["-1"] for rles in labels.values()) == 9  # 22.5 % of 40


def test_no_patient_is_in_training_and_test(made: PhantomSet) -> None:
    groups = dict(_rows(made.groups))
    test = {path.stem for path in made.test_images.rglob("*.dcm")}
    assert not {groups[name] for name in test} & {group for name, group in groups.items() if name not in test}


def test_some_patients_have_several_images(made: PhantomSet) -> None:
    groups = [group for _, group in _rows(made.groups)]
    assert 1 < len(set(groups)) < len(groups)


def test_the_sample_submission_lists_the_test_images_as_empty(made: PhantomSet) -> None:
    sample = _rows(made.sample_submission)
    assert {name for name, _ in sample} == {path.stem for path in made.test_images.rglob("*.dcm")}
    assert {rle for _, rle in sample} == {"-1"}
