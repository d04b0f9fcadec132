"""Folders of good and bad files through `pneumoseg check`, as a user starts it and as Python calls it."""

import csv
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import write_radiograph
from tests.integration.command import run_command

from pneumoseg.pipeline.jobs.check import check_folder
from pneumoseg.pipeline.reading.readers import Readers
from pneumoseg.transforms.reader.radiograph import Radiograph, read_radiograph
from pneumoseg.transforms.reader.reasons import RadiographError

pytestmark = pytest.mark.slow

GOOD = 100
PIXELS = np.linspace(0, 255, 16 * 24).reshape(16, 24).astype(np.uint8)
STATUSES = {
    "accept": {"accepted", "warned"},
    "accept_warn": {"warned"},
    "skip": {"skipped", "refused"},
    "reject": {"skipped", "refused"},
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of good files, named by their number."""
    folder = tmp_path_factory.mktemp("good")
    source = np.random.default_rng(0)
    for number in range(GOOD):
        pixels = source.integers(0, 256, (16, 24), dtype=np.uint8)
        write_radiograph(folder / f"{number:03}.dcm", pixels, SOPInstanceUID=f"1.2.{number}")
    return folder


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What lies in bad files, by their names: made-up ones, and the collection of hazards where it is at hand."""
    whole = write_radiograph(tmp_path_factory.mktemp("bad") / "a", np.zeros((16, 24), np.uint8)).read_bytes()
    contents = {f"cut{at}": whole[:at] for at in range(0, len(whole), 40)}
    contents |= {
        f"flipped{at}": whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :] for at in range(0, 900, 30)
    }
    contents |= {"text": b"This is not DICOM.", "picture": b"\x89PNG\r\n\x1a\n", "same_uid": whole}
    if data := os.environ.get("PNEUMOSEG_DATA"):
        contents |= {path.stem: path.read_bytes() for path in (Path(data) / "bad-dicom").glob("*.dcm")}
    return contents


def rows_of_good(table: Path) -> list[str]:
    """Lines of the table that are of good files, as they are."""
    lines = table.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line[:3].isdecimal() and line[3:8] == ".dcm,"]


@pytest.mark.parametrize(("seed", "workers"), [(0, 1), (1, 2), (2, 2)])
def test_bad_files_change_nothing_in_the_rows_of_good_ones(
    good: Path, bad: dict[str, bytes], tmp_path: Path, seed: int, workers: int
) -> None:
    check_folder(good, tmp_path / "alone.csv")
    source = random.Random(seed)
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for path in good.iterdir():
        os.link(path, mixed / path.name)
    for name, content in bad.items():
        (mixed / f"{source.randrange(GOOD):03}-{name}.dcm").write_bytes(content)
    os.mkfifo(mixed / "050-pipe.dcm")
    (mixed / "051-folder.dcm").mkdir()
    with (mixed / "052-sparse.dcm").open("wb") as file:
        file.truncate(5 * 2**30)
    (mixed / "053-link.dcm").symlink_to(mixed / "053-link.dcm")
    report = check_folder(mixed, tmp_path / "mixed.csv", workers=workers)

    assert rows_of_good(tmp_path / "mixed.csv") == rows_of_good(tmp_path / "alone.csv")
    assert len(rows_of_good(tmp_path / "alone.csv")) == GOOD
    assert report.exit_code == 3
    # pipe and sparse file have rows, folder and link none
    assert report.statuses.total() == GOOD + len(bad) + 2


@pytest.fixture(scope="module")
def hazards(shared_data: Path) -> list[dict[str, str]]:
    with (shared_data / "bad-dicom" / "index.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_hazard_is_answered_as_its_index_says(
    shared_data: Path, hazards: list[dict[str, str]], tmp_path: Path
) -> None:
    check_folder(shared_data / "bad-dicom", tmp_path / "check.csv", workers=2)
    with (tmp_path / "check.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert set(rows) == {hazard["file"] for hazard in hazards}
    wrong = [
        (hazard["file"], hazard["expect"], rows[hazard["file"]]["status"], rows[hazard["file"]]["reason"])
        for hazard in hazards
        if rows[hazard["file"]]["status"] not in STATUSES[hazard["expect"]] and not is_right_too(hazard)
    ]
    assert wrong == []


def is_right_too(hazard: dict[str, str]) -> bool:
    """Whether the note of the index lets a file that could be read be refused."""
    return "reject" in hazard["note"] or "skip" in hazard["note"]


def test_duplicates_are_told_apart(shared_data: Path, tmp_path: Path) -> None:
    check_folder(shared_data / "bad-dicom", tmp_path / "check.csv")
    with (tmp_path / "check.csv").open(encoding="utf-8", newline="") as file:
        found = {row["file"][:4]: (row["status"], row["reason"]) for row in csv.DictReader(file)}
    assert (found["E014"], found["E015"], found["E016"]) == (
        ("warned", "LOOKS_UNLIKE_CHEST"),  # by its size
        ("skipped", "DUPLICATE_UID"),
        ("refused", "DUPLICATE_UID"),
    )


def test_pixels_that_come_from_a_worker_are_the_expected_ones(
    shared_data: Path, hazards: list[dict[str, str]]
) -> None:
    folder = shared_data / "bad-dicom"
    hazards = [hazard for hazard in hazards if hazard["expected_npy"]]
    with Readers(read_radiograph, workers=2) as readers:
        results = readers.read(folder / hazard["file"] for hazard in hazards)
        for hazard, result in zip(hazards, results, strict=True):
            if isinstance(result, RadiographError):
                assert is_right_too(hazard), (hazard["file"], str(result))
                continue
            expected = np.load(folder / hazard["expected_npy"])
            tolerance = 2 if "tolerance 2" in hazard["note"] else 0
            assert isinstance(result, Radiograph)
            np.testing.assert_allclose(
                result.values, expected, rtol=0, atol=tolerance, err_msg=hazard["file"]
            )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_radiograph(tmp_path / "images" / "a.dcm", PIXELS, PixelSpacing=[0.2, 0.2])
    return tmp_path / "images"


def test_check_says_what_it_found_and_where_it_wrote(folder: Path) -> None:
    table = folder.parent / "check.csv"
    result = run_command("check", folder, "-o", table)
    assert (result.returncode, result.stderr) == (0, "")
    assert "0 accepted, 1 warned, 0 skipped, 0 refused; 0 unrelated files" in result.stdout  # it is no chest
    assert table.read_text().count("\n") == 2


def test_check_fails_softly_where_a_file_is_refused(folder: Path) -> None:
    (folder / "b.dcm").write_text("x")
    result = run_command("check", folder, "-o", folder.parent / "check.csv", "--workers", 2)
    assert result.returncode == 3
    assert "NOT_DICOM" in result.stdout


def test_any_modality_opens_all_acceptance_filters_of_check(folder: Path) -> None:
    write_radiograph(folder / "a.dcm", np.zeros((16, 24), np.uint8), Modality="MR", BodyPartExamined="KNEE")
    table = folder.parent / "check.csv"
    assert "1 skipped" in run_command("check", folder, "-o", table).stdout
    assert "1 warned" in run_command("check", folder, "-o", table, "--any-modality", "--overwrite").stdout


@pytest.mark.parametrize(
    ("words", "code"), [(["nowhere"], 2), ([".", "-o", "."], 2), ([".", "-o", "c.csv"], 1)]
)
def test_check_of_nothing_is_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run_command("check", *words)
    assert result.returncode == code
    assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_check_loads_neither_torch_nor_monai(folder: Path) -> None:
    code = (
        "import sys; from pneumoseg.pipeline import cli\n"
        "try: cli.main()\n"
        "finally: print({'torch', 'monai', 'matplotlib'} & set(sys.modules))"
    )
    words = ["check", str(folder), "-o", str(folder.parent / "check.csv")]
    result = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert result.stdout.splitlines()[-1] == "set()"


def test_doctor_lists_versions_decoders_and_devices() -> None:
    result = run_command("doctor")
    assert (result.returncode, result.stderr) == (0, "")
    for word in ("monai", "1.6.1", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.203", "cpu: "):
        assert word in result.stdout
