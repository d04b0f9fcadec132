"""The scripts in examples/ run as they are."""

import csv
import os
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.conftest import Collection

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.phantom import write_phantoms

EXAMPLES = Path(__file__).parents[2] / "examples"
EXAMPLE = EXAMPLES / "train_with_monai.py"
pytestmark = pytest.mark.slow


def test_forty_lines_train_the_network_with_stock_monai(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 40
    monkeypatch.setattr(
        "sys.argv", [str(EXAMPLE), str(collection.manifest_path), str(tmp_path / "weights.pt")]
    )
    torch.manual_seed(0)
    untrained = AttentionUNet(features=(4, 8, 16, 32, 64)).state_dict()
    torch.manual_seed(0)
    runpy.run_path(str(EXAMPLE))
    trained = torch.load(tmp_path / "weights.pt", map_location="cpu")
    AttentionUNet(features=(4, 8, 16, 32, 64)).load_state_dict(trained)
    assert all(value.isfinite().all() for value in trained.values())
    assert not torch.equal(trained["head.weight"], untrained["head.weight"])


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
