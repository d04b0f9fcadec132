"""The scripts in examples/ run as they are."""

import csv
import os
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import SHAPE, Collection
from tests.integration.archive import Archive
from tests.integration.phantom_results import Study

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.phantom import write_phantoms
from pneumoseg.transforms import decode_rle, encode_rle

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.slow


def run_example(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: object) -> None:
    script = str(EXAMPLES / name)
    monkeypatch.setattr("sys.argv", [script, *map(str, arguments)])
    runpy.run_path(script, run_name="__main__")


@pytest.fixture
def case(collection: Collection) -> tuple[Path, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    """Path and mask of a positive case."""
    case = next(case for case in collection.manifest.training if case.is_positive)
    return collection.folder / case.image, decode_rle(case.label, case.shape)


def test_an_example_has_at_most_forty_lines() -> None:
    scripts = list(EXAMPLES.glob("*.py"))
    assert len(scripts) >= 5
    assert [path.name for path in scripts if len(path.read_text().splitlines()) > 40] == []


def test_read_radiograph_writes_the_picture_and_what_is_known(
    case: tuple[Path, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_example(monkeypatch, "read_radiograph.py", case[0], tmp_path / "image.png")
    with Image.open(tmp_path / "image.png") as picture:
        assert picture.size == SHAPE[::-1]
    assert "48 x 32 px, pixel spacing 0.500 x 0.250 mm, view PA" in capsys.readouterr().out


def test_predict_finds_the_same_in_a_file_and_in_an_array(
    case: tuple[Path, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]],
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, mask = case
    run_example(monkeypatch, "read_radiograph.py", file, tmp_path / "image.png")
    run_example(monkeypatch, "predict.py", model_folder, file, tmp_path / "image.png", tmp_path / "masks")
    for name in ("file", "array"):
        assert np.array_equal(np.asarray(Image.open(tmp_path / "masks" / f"{name}.png")), 255 * mask)
    printed = capsys.readouterr().out
    assert "file: positive" in printed
    assert f"{mask.sum()} px" in printed  # an array has no pixel spacing


def test_score_submission_prints_the_score_and_the_worst_positives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, half = np.zeros((2, 1024, 1024), dtype=np.uint8)
    whole[:20, :20], half[:10, :20] = 1, 1
    rows = {"found": (half, whole), "missed": (0 * whole, whole), "negative": (0 * whole, 0 * whole)}
    for column, name in enumerate(("submission.csv", "truth.csv")):
        with (tmp_path / name).open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["ImageId", "EncodedPixels"])
            table.writerows([key, encode_rle(masks[column])] for key, masks in rows.items())
    run_example(monkeypatch, "score_submission.py", tmp_path / "submission.csv", tmp_path / "truth.csv")
    printed = capsys.readouterr().out
    assert "Dice 0.5556 over 3 images; predicting nothing scores 0.3333" in printed  # (2/3 + 0 + 1) / 3
    assert printed.endswith("0.000  missed\n0.667  found\n")


def test_train_with_monai_trains_the_network(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    untrained = AttentionUNet(features=(4, 8, 16, 32, 64)).state_dict()
    torch.manual_seed(0)
    run_example(monkeypatch, "train_with_monai.py", collection.manifest_path, tmp_path / "weights.pt")
    trained = torch.load(tmp_path / "weights.pt", map_location="cpu")
    AttentionUNet(features=(4, 8, 16, 32, 64)).load_state_dict(trained)
    assert all(value.isfinite().all() for value in trained.values())
    assert not torch.equal(trained["head.weight"], untrained["head.weight"])


@pytest.mark.dicom_tools
def test_store_results_sends_every_object_to_an_archive(
    archive: Archive, studies: dict[str, Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.delete_all()
    results = next(iter(studies.values())).results["seg"].parents[1]
    monkeypatch.setenv("ARCHIVE_USER", "tests")
    monkeypatch.setenv("ARCHIVE_PASSWORD", archive.password)
    with pytest.raises(SystemExit) as end:
        run_example(
            monkeypatch, "store_results.py", results, f"http://127.0.0.1:{archive.http_port}/dicom-web"
        )
    assert not end.value.code
    sent = {str(study.header(kind).SOPInstanceUID) for study in studies.values() for kind in study.results}
    stored = {row["00080018"]["Value"][0] for row in archive.query("instances")}
    assert stored == sent


def write_executable(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def test_four_commands_lead_from_the_challenges_download_to_the_upload(tmp_path: Path) -> None:
    """Phantoms in the layout that Kaggle packs: nested folders, the header with a space, ids that are UIDs."""
    made = write_phantoms(tmp_path / "phantoms", count=15, test_count=3)
    download, output, tools = tmp_path / "download", tmp_path / "output", tmp_path / "tools"
    for folder, images in (("dicom-images-train", made.images), ("dicom-images-test", made.test_images)):
        for path in images.rglob("*.dcm"):
            nested = download / folder / f"study-{path.stem}" / f"series-{path.stem}"
            nested.mkdir(parents=True)
            path.rename(nested / path.name)
    for table in (made.labels, made.groups, made.sample_submission):
        table.rename(download / table.name)
    (download / "dicom-images-train" / "cut.dcm").write_bytes(b"")  # is refused, and costs nothing else
    assert (download / "train-rle.csv").read_text().startswith("ImageId, EncodedPixels\n")
    tools.mkdir()
    write_executable(tools / "pneumoseg", f'exec {shlex.quote(sys.executable)} -m pneumoseg.pipeline "$@"')
    write_executable(tools / "kaggle", f'echo "$@" > {shlex.quote(str(tmp_path / "uploaded"))}')

    script = EXAMPLES / "kaggle.sh"
    assert len(script.read_text().splitlines()) <= 40
    small = (
        "--preset",
        "quick",
        "--epochs",
        "1",
        "--image-size",
        "64",
        "--set",
        "data.crop=null",
        "-d",
        "cpu",
    )
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    sample_path = download / "sample_submission.csv"
    sample_path.rename(download / "other.csv")
    early = subprocess.run(
        ["sh", script, download, output], env=environment, check=False, capture_output=True
    )
    assert (early.returncode, early.stderr.decode()) == (2, f"error: {sample_path} is missing\n")
    assert not output.exists()
    (download / "other.csv").rename(sample_path)
    subprocess.run(["sh", script, download, output, *small], env=environment, check=True, capture_output=True)

    assert (tmp_path / "uploaded").read_text().split()[:3] == [
        "competitions", "submit", "siim-acr-pneumothorax-segmentation",
    ]  # fmt: skip
    with (
        (download / "sample_submission.csv").open() as sample,
        (output / "submission.csv").open() as submitted,
    ):
        expected = [row["ImageId"] for row in csv.DictReader(sample)]
        assert [row["ImageId"] for row in csv.DictReader(submitted)] == expected
