from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from tests.conftest import SHAPE
from tests.unit.pipeline.results.dicom.conftest import ORIGIN, complaints, make_source, saved

from pneumoseg.pipeline.results.dicom.sc import make_sc

PICTURE = np.arange(SHAPE[0] * SHAPE[1] * 3, dtype=np.uint32).astype(np.uint8).reshape(*SHAPE, 3)


@pytest.mark.parametrize("optional", [True, False])
@pytest.mark.parametrize("kind", ["CR", "DX", "SC"])
def test_a_capture_is_valid_and_reads_back_to_the_bit(tmp_path: Path, kind: str, optional: bool) -> None:
    path = saved(tmp_path, make_sc(make_source(tmp_path, kind=kind, optional=optional), PICTURE, ORIGIN))
    assert complaints(path) == []
    result = dcmread(path)
    np.testing.assert_array_equal(result.pixel_array, PICTURE)
    assert result.StudyInstanceUID == "1.2.3"
    assert "BurnedInAnnotation" not in result  # nobody has said so


@pytest.mark.parametrize(
    ("part", "side"),
    [
        ("HAND", "R"),
        ("HAND", ""),
        ("EXTREMITY", "L"),
        ("LUNG", "L"),
        ("ABDOMEN", "R"),
        ("LSPINE", ""),
        ("NECK", ""),
    ],
)
def test_a_capture_of_another_body_part_is_valid(tmp_path: Path, part: str, side: str) -> None:
    source = make_source(tmp_path, BodyPartExamined=part, Laterality=side)
    assert complaints(saved(tmp_path, make_sc(source, PICTURE, ORIGIN))) == []


def test_a_capture_knows_that_its_source_holds_text_and_was_compressed(tmp_path: Path) -> None:
    for told in ("YES", "NO"):
        result = make_sc(make_source(tmp_path, BurnedInAnnotation=told), PICTURE, ORIGIN)
        assert (result.BurnedInAnnotation, result.LossyImageCompression) == (told, "01")


def test_a_second_run_writes_the_same_bytes(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    first, second = (saved(tmp_path, make_sc(source, PICTURE, ORIGIN)).read_bytes() for _ in range(2))
    assert first == second
    assert b"SECRET" not in first
