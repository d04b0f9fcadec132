from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from highdicom.sr import MeasurementsAndQualitativeEvaluations
from pydicom.sr.codedict import codes
from skimage.draw import polygon2mask
from tests.conftest import SHAPE
from tests.unit.pipeline.results.dicom.conftest import ORIGIN, complaints, make_mask, make_source, saved
from tests.unit.pipeline.results.dicom.test_seg import EVERY

from pneumoseg.pipeline.results.dicom.source import Source
from pneumoseg.pipeline.results.dicom.sr import make_sr
from pneumoseg.transforms.measurements import measure


def report(
    source: Source, *, positive: bool, probability: float = 0.75, uncertainty: float | None = None
) -> Any:
    mask = make_mask(positive=positive)
    measured = measure(mask, probability=probability, spacing_mm=source.spacing_mm, patient_orientation=None)
    return make_sr(source, mask, measured, probability, ORIGIN, uncertainty=uncertainty)


def groups_of(path: Path) -> tuple[list[Any], list[MeasurementsAndQualitativeEvaluations]]:
    """The groups with and without a region, as highdicom reads them."""
    content: Any = hd.sr.srread(path).content
    return (
        list(content.get_planar_roi_measurement_groups()),
        list(content.get_image_measurement_groups()),
    )


def values(group: Any) -> dict[str, float]:
    return {item.name.meaning: float(item.value) for item in group.get_measurements()}


@EVERY
def test_a_report_is_valid_and_can_be_read(tmp_path: Path, kind: str, optional: bool, positive: bool) -> None:
    source = make_source(tmp_path, kind=kind, optional=optional)
    path = saved(tmp_path, report(source, positive=positive))
    assert complaints(path) == []
    regions, images = groups_of(path)
    assert (len(regions), len(images)) == ((2, 0) if positive else (0, 1))


def test_a_finding_has_its_numbers(tmp_path: Path) -> None:
    regions, _ = groups_of(saved(tmp_path, report(make_source(tmp_path), positive=True)))
    # 100 less 6 pixels of 0.5 x 0.25 mm, 10 of 0.25 mm side by side; and 4 x 6 pixels
    assert values(regions[0]) == {"Certainty of Finding": 75, "Area": 11.75, "Width": 2.5}
    assert values(regions[1]) == {"Certainty of Finding": 75, "Area": 3.0, "Width": 1.5}
    assert regions[0].finding_type == codes.SCT.Pneumothorax


@pytest.mark.parametrize("positive", [True, False])
def test_uncertainty_is_the_standard_deviation_of_the_certainty(tmp_path: Path, positive: bool) -> None:
    path = saved(tmp_path, report(make_source(tmp_path), positive=positive, uncertainty=0.125))
    assert complaints(path) == []
    for group in [group for groups in groups_of(path) for group in groups]:
        plain, spread = group.get_measurements(name=codes.DCM.CertaintyOfFinding)
        assert (plain.value, plain.derivation) == (75, None)
        assert (spread.value, spread.derivation) == (12.5, codes.SCT.StandardDeviation)


def test_where_the_spacing_is_unknown_nothing_is_in_millimetres(tmp_path: Path) -> None:
    source = make_source(tmp_path, PixelSpacing=None)
    regions, _ = groups_of(saved(tmp_path, report(source, positive=True)))
    assert values(regions[0]) == {"Certainty of Finding": 75}


def test_the_line_around_a_finding_gives_it_back_when_it_is_filled(tmp_path: Path) -> None:
    regions, _ = groups_of(saved(tmp_path, report(make_source(tmp_path), positive=True)))
    filled = np.zeros(SHAPE, dtype=bool)
    for group in regions:
        line = group.roi.value
        np.testing.assert_array_equal(line[0], line[-1])
        filled |= polygon2mask(SHAPE, line[:, ::-1] - 0.5)  # its pixel centres are whole numbers
    expected = make_mask(positive=True)
    expected[7:9, 5:8] = 1  # the hole
    np.testing.assert_array_equal(filled, expected)


@pytest.mark.parametrize(("positive", "value"), [(True, "52101004"), (False, "272519000")])
def test_presence_is_said(tmp_path: Path, positive: bool, value: str) -> None:
    regions, images = groups_of(saved(tmp_path, report(make_source(tmp_path), positive=positive)))
    said = [item for group in regions + images for item in group.get_qualitative_evaluations()]
    assert {item.value.value for item in said} == {value}


def test_a_report_is_preliminary_and_unverified(tmp_path: Path) -> None:
    document = report(make_source(tmp_path), positive=True)
    assert (document.PreliminaryFlag, document.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")


def test_a_second_run_writes_the_same_bytes(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    first, second = (saved(tmp_path, report(source, positive=True)).read_bytes() for _ in range(2))
    assert first == second
    assert b"SECRET" not in first
