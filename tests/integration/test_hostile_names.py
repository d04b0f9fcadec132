"""Names of files and values of tags that try to act: as paths, formulas, markup, escape codes or further lines."""

import csv
import os
import subprocess
from pathlib import Path

import pytest
from tests.conftest import SHAPE, draw_case, write_radiograph
from tests.integration.command import run_command

from pneumoseg.pipeline.dataset.manifest import Case, Unlabelled, image_path, read_manifest

pytestmark = pytest.mark.slow

NAMES = [
    "=cmd|x.dcm", "@sum(a1).dcm", "[red]x.dcm", "[link=x].dcm", "a\nerror: b.dcm", "\x1b[31m.dcm", "\u202emcd.dcm",
    "\x9b2J.dcm", "<script>.dcm", "a,b;c.dcm", "'quoted\".dcm", "-rf.dcm", "CON.dcm", "% $(touch x) `y`.dcm",
]  # fmt: skip
NOT_UNICODE = os.fsdecode(b"caf\xe9.dcm")
UID = "../../climbed"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Radiographs of odd names, each beside a damaged one; one has a UID that climbs, and no UID counts."""
    folder = tmp_path_factory.mktemp("hostile") / "[bold]images\x1b[32m"
    for number, name in enumerate([*NAMES, NOT_UNICODE]):
        pixels = draw_case(number % 12, positive=number % 2 == 0)[0]
        path = write_radiograph(
            folder / name, pixels, SOPInstanceUID="1.2.3.456.7890", PatientID=f"../../patient{number}"
        )
        path.write_bytes(path.read_bytes().replace(b"1.2.3.456.7890", UID.encode().ljust(14, b"\0")))
        (folder / f"{name}.png").write_bytes(b"damaged")
    return folder


def pneumoseg(*words: object) -> subprocess.CompletedProcess[str]:
    """Run the command, and make sure that all it prints are lines of text."""
    result = run_command(*words)
    lines = (result.stdout + result.stderr).split("\n")
    assert all(line.isprintable() for line in lines)
    assert sum(line.startswith("error: ") for line in lines) == (result.returncode in {1, 2})
    assert "defect" not in result.stderr
    return result


def cells(table: Path) -> list[list[str]]:
    """The cells of a table, after a check that none could act."""
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    for value in (value for row in rows for value in row):
        assert value.isprintable()
        assert value == "-1" or not value.startswith(("=", "+", "-", "@"))  # the run lengths of an empty mask
    return rows


def test_check_gives_each_a_row(images: Path, tmp_path: Path) -> None:
    result = pneumoseg("check", images, "-o", tmp_path / "check.csv")
    assert result.returncode == 3
    rows = cells(tmp_path / "check.csv")
    assert len(rows) == 1 + 2 * (len(NAMES) + 1)
    assert sum(row[1] == "warned" for row in rows) == len(NAMES) + 1  # BAD_UID


def test_predict_writes_nothing_outside_of_its_folder(
    images: Path, model_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "inner" / "most" / "out"
    result = pneumoseg("predict", model_folder, images, "-o", output)
    assert result.returncode == 3
    rows = cells(output / "predictions.csv")
    assert sum(row[1] == "review" for row in rows) == len(NAMES) + 1  # the pictures are no chests
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(path.is_relative_to(output) for path in files)
    assert len(list((output / "masks").iterdir())) == len(NAMES) + 1
    for path in files:
        assert path.name.isascii()
        assert path.name.isprintable()
        assert b"../patient" not in path.read_bytes()
    assert not (tmp_path / "inner" / "climbed.png").exists()


def test_prepare_finds_each_again(images: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    names = ["'quoted\"", "CON", "[red]x", "[link=x]", "% $(touch x) `y`"]
    with labels.open("w", newline="") as file:
        csv.writer(file).writerows([("ImageId", "EncodedPixels"), *((name, "-1") for name in names)])
    manifest_path = tmp_path / "manifest.json"
    shape = ("--label-shape", ",".join(map(str, SHAPE)))
    result = pneumoseg("prepare", images, "--labels", labels, "-o", manifest_path, "--folds", 2, *shape)
    assert result.returncode == 3
    assert all(line.isprintable() for line in manifest_path.read_text(encoding="utf-8").split("\n"))
    manifest = read_manifest(manifest_path)
    assert {case.id for case in manifest.training} == set(names) - {"'quoted\""}  # as an id it is not safe
    cases: list[Case | Unlabelled] = [*manifest.training, *manifest.unlabelled]
    assert {image_path(manifest_path, case).name for case in cases} == set(NAMES)
    assert {entry.reason for entry in manifest.refused} == {"NOT_PNG", "UNREADABLE"}
    assert "../patient" not in manifest_path.read_text(encoding="utf-8")


def test_a_submission_holds_no_name_that_acts(images: Path, model_folder: Path, tmp_path: Path) -> None:
    result = pneumoseg("submit", model_folder, images, "-o", tmp_path / "submission.csv")
    assert result.returncode == 1
    assert not (tmp_path / "submission.csv").exists()


def test_a_folder_that_is_not_there_is_named_on_one_line(tmp_path: Path) -> None:
    result = pneumoseg("check", tmp_path / "no\nerror: [red]such\x1b[2J", "-o", tmp_path / "check.csv")
    assert result.returncode == 2
    assert "no\\nerror: [red]such\\x1b[2J: there is no such folder" in result.stderr
