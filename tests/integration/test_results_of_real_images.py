"""Every kind of result of real radiographs, judged by those that will read them."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.inference.model import ModelOptions
from pneumoseg.pipeline.jobs.predict import predict_folder
from pneumoseg.pipeline.results.settings import KINDS
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters

pytestmark = pytest.mark.slow

OPEN = AcceptanceFilters(any_modality=True, any_view=True, any_body_part=True)
OF_THE_CHALLENGE = 12  # of 973: what a full run adds is time


@dataclass(frozen=True)
class Results:
    """A folder of results."""

    folder: Path

    @property
    def images(self) -> Iterator[dict[str, Any]]:
        """What is said of each image that has a result."""
        listed = json.loads((self.folder / "predictions.json").read_text())["images"]
        yield from (image for image in listed if image["status"] in {"segmented", "review"})

    def mask(self, image: dict[str, Any]) -> NDArray[np.bool_]:
        """As the PNG has it."""
        with Image.open(self.folder / "masks" / f"{image['name']}.png") as picture:
            return np.asarray(picture) > 0


@pytest.fixture(scope="module", params=["dicom-variety", "siim-acr"])
def results(
    request: pytest.FixtureRequest,
    shared_data: Path,
    model_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Results:
    """All kinds of result, of a network that takes what is brightest for a pneumothorax."""
    folder = tmp_path_factory.mktemp("real")
    sources = sorted((shared_data / request.param).rglob("*.dcm"))
    step = max(1, len(sources) // OF_THE_CHALLENGE)
    for source in sources[::step]:
        (folder / "images").mkdir(exist_ok=True)
        shutil.copy(source, folder / "images")
    predict_folder(
        model_folder,
        folder / "images",
        folder / "out",
        options=ModelOptions(dropout_passes=2),
        runtime=Runtime(device="cpu"),
        kinds=KINDS,
        acceptance=OPEN,
    )
    return Results(folder / "out")


def test_every_image_has_a_result_and_some_are_positive(results: Results) -> None:
    found = list(results.images)
    assert len(found) == len(list((results.folder.parent / "images").iterdir()))
    assert any(image["decision"] == "positive" for image in found)


@pytest.mark.dicom_tools
def test_dciodvfy_finds_no_error_in_segmentations_reports_and_pictures(results: Results) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy of dicom3tools is not installed")
    files = [path for kind in ("seg", "sr", "sc", "gsps") for path in (results.folder / kind).glob("*.dcm")]
    assert len(files) == 4 * len(list(results.images))
    for path in files:
        told = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
        assert "Error" not in told.stdout + told.stderr, path


def test_segmentations_are_read_back_to_the_bit(results: Results) -> None:
    for image in results.images:
        segmentation = hd.seg.segread(results.folder / "seg" / f"{image['name']}.dcm")
        read = segmentation.get_pixels_by_source_instance(
            [image["sop_instance_uid"]], combine_segments=True, skip_overlap_checks=True
        )
        np.testing.assert_array_equal(read[0] > 0, results.mask(image))


def test_reports_are_read_back_with_their_measurements(results: Results) -> None:
    for image in results.images:
        report = hd.sr.srread(results.folder / "sr" / f"{image['name']}.dcm")
        content = cast("hd.sr.MeasurementReport", report.content)  # the template that it says it follows
        groups = content.get_planar_roi_measurement_groups()
        assert len(groups) == len(image["components"])


def test_volumes_hold_the_mask_and_the_spacing(results: Results) -> None:
    for image in results.images:
        volume = nib.nifti1.Nifti1Image.from_filename(results.folder / "nifti" / f"{image['name']}.nii.gz")
        np.testing.assert_array_equal(np.asarray(volume.dataobj)[:, 0, :].T > 0, results.mask(image))
        spacing = image["spacing_row_mm"], image["spacing_column_mm"]
        if None not in spacing:
            lengths = np.linalg.norm(volume.affine[:3, [2, 0]], axis=0)
            np.testing.assert_allclose(lengths, spacing, rtol=1e-6)


@pytest.mark.parametrize("kind", ["masks", "overlays", "attention", "probabilities", "uncertainty"])
def test_pictures_are_as_large_as_the_image(results: Results, kind: str) -> None:
    for image in results.images:
        with Image.open(results.folder / kind / f"{image['name']}.png") as picture:
            assert picture.size == (image["columns"], image["rows"])
