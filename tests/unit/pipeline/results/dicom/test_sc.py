from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless
from tests.conftest import SHAPE
from tests.unit.pipeline.results.dicom.conftest import ORIGIN, complaints, make_source, saved

from pneumoseg.pipeline.drawing.captions import with_caption
from pneumoseg.pipeline.results.dicom.sc import make_sc
from pneumoseg.pipeline.results.dicom.source import Source

NOISE = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
GREY = np.tile(np.arange(SHAPE[1], dtype=np.uint8)[np.newaxis, :, np.newaxis], (SHAPE[0], 1, 3))
LINES = ["No pneumothorax was found.", "Not for diagnosis."]


def capture(source: Source, picture: Any = NOISE) -> Any:
    return make_sc(source, picture, LINES, ORIGIN)


@pytest.mark.parametrize("optional", [True, False])
@pytest.mark.parametrize("kind", ["CR", "DX", "SC"])
def test_a_capture_is_valid_and_shows_the_picture_above_its_caption(
    tmp_path: Path, kind: str, optional: bool
) -> None:
    path = saved(tmp_path, capture(make_source(tmp_path, kind=kind, optional=optional)))
    assert complaints(path) == []
    result = dcmread(path)
    np.testing.assert_array_equal(result.pixel_array, with_caption(NOISE, LINES))
    assert result.StudyInstanceUID == "1.2.3"
    assert "BurnedInAnnotation" not in result  # the text identifies no person, and nobody knows of the source


@pytest.mark.parametrize(("picture", "syntax"), [(GREY, JPEGLSLossless), (NOISE, ExplicitVRLittleEndian)])
def test_pixels_are_compressed_without_loss_where_that_halves_them(
    tmp_path: Path, picture: Any, syntax: str
) -> None:
    path = saved(tmp_path, capture(make_source(tmp_path, optional=False), picture))
    assert complaints(path) == []
    result = dcmread(path)
    assert result.file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(result.pixel_array[: SHAPE[0]], picture)
    assert result.get("LossyImageCompression", "00") == "00"


@pytest.mark.parametrize("orientation", [["LF", "FR"], ["L", "F"], ["RAH", "HAL"], []])
def test_a_capture_has_the_orientation_of_its_source(tmp_path: Path, orientation: list[str]) -> None:
    path = saved(tmp_path, capture(make_source(tmp_path, PatientOrientation=orientation)))
    assert (dcmread(path).PatientOrientation or []) == orientation
    assert complaints(path) == []


def test_a_capture_refers_to_its_source_and_says_why(tmp_path: Path) -> None:
    (reference,) = capture(make_source(tmp_path)).SourceImageSequence
    assert reference.ReferencedSOPInstanceUID == "1.2.3.4"
    (purpose,) = reference.PurposeOfReferenceCodeSequence
    assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("121322", "DCM")  # PS3.16 CID 7202


def test_a_capture_has_a_spacing_only_where_the_source_has_one(tmp_path: Path) -> None:
    assert capture(make_source(tmp_path)).PixelSpacing == [0.5, 0.25]
    assert "PixelSpacing" not in capture(make_source(tmp_path, optional=False))


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
    assert complaints(saved(tmp_path, capture(source))) == []


def test_a_capture_knows_that_its_source_holds_text_and_was_compressed(tmp_path: Path) -> None:
    for told in ("YES", "NO"):
        result = capture(make_source(tmp_path, BurnedInAnnotation=told))
        assert (result.BurnedInAnnotation, result.LossyImageCompression) == (told, "01")


def test_a_second_run_writes_the_same_bytes(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    first, second = (saved(tmp_path, capture(source, GREY)).read_bytes() for _ in range(2))
    assert first == second
    assert b"SECRET" not in first
