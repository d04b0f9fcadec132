"""Real radiographs in all eight orientations: the same result on the same anatomy."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian

from pneumoseg.pipeline import load_predictor
from pneumoseg.transforms.reader.quality import look_at
from pneumoseg.transforms.reader.radiograph import Radiograph, read_radiograph
from pneumoseg.transforms.reader.reasons import Reason
from pneumoseg.transforms.reader.record import Orientation

pytestmark = pytest.mark.slow

DIRECTIONS = [("R", "F"), ("L", "H"), ("R", "H"), ("F", "L"), ("F", "R"), ("H", "L"), ("H", "R")]


@pytest.fixture(scope="module")
def real_files(shared_data: Path) -> list[Path]:
    return sorted((shared_data / "siim-acr").rglob("*.dcm"))[::100]


def rewritten(source: Path, target: Path, directions: tuple[str, str]) -> Path:
    data = dcmread(source)
    stored = np.ascontiguousarray(Orientation.of(directions).invert(data.pixel_array))
    data.PixelData = stored.tobytes()
    data.Rows, data.Columns = stored.shape
    data.PatientOrientation = list(directions)
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.save_as(target)
    return target


def test_a_correct_tag_gives_the_result_of_the_upright_image(
    model_folder: Path, real_files: list[Path], tmp_path: Path
) -> None:
    predictor = load_predictor(model_folder, "cpu")
    for path in real_files:
        upright = predictor.predict(path)
        for directions in DIRECTIONS:
            turned = predictor.predict(rewritten(path, tmp_path / "turned.dcm", directions))
            assert turned.probability == upright.probability
            assert turned.review == upright.review
            np.testing.assert_array_equal(Orientation.of(directions).apply(turned.mask), upright.mask)


def test_a_rotation_that_no_tag_tells_is_seen(real_files: list[Path]) -> None:
    def looks_turned(radiograph: Radiograph, turns: int) -> bool:
        turned = replace(radiograph, stored=np.ascontiguousarray(np.rot90(radiograph.stored, turns)))
        return Reason.LOOKS_TURNED in [reason for reason, _ in look_at(turned)]

    radiographs = [read_radiograph(path) for path in real_files]
    assert all(looks_turned(each, turns) for each in radiographs for turns in (1, 2, 3))
    assert not any(looks_turned(each, 0) for each in radiographs)
