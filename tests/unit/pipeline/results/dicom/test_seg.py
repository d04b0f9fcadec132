from dataclasses import replace
from itertools import product
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from tests.unit.pipeline.results.dicom.conftest import ORIGIN, complaints, make_mask, make_source, saved

from pneumoseg.pipeline.drawing.pictures import OUTLINE
from pneumoseg.pipeline.results.dicom.seg import make_seg
from pneumoseg.transforms.reader.reasons import Reason

EVERY = pytest.mark.parametrize(
    ("kind", "optional", "positive"), list(product(("CR", "DX", "SC"), (True, False), (True, False)))
)


@EVERY
def test_a_segmentation_is_valid_and_reads_back_to_the_bit(
    tmp_path: Path, kind: str, optional: bool, positive: bool
) -> None:
    source, mask = make_source(tmp_path, kind=kind, optional=optional), make_mask(positive=positive)
    path = saved(tmp_path, make_seg(source, mask, ORIGIN))
    assert complaints(path) == []
    segmentation = hd.seg.segread(path)
    pixels = segmentation.get_pixels_by_source_instance(
        [source.sop_instance_uid], ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )
    np.testing.assert_array_equal(pixels[0].sum(axis=-1), mask)
    assert (segmentation.Rows, segmentation.Columns) == mask.shape


def test_a_segmentation_says_what_it_shows_and_who_found_it(tmp_path: Path) -> None:
    segmentation = make_seg(make_source(tmp_path), make_mask(positive=True), ORIGIN)
    segment = segmentation.SegmentSequence[0]
    kind = segment.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodeValue, kind.CodingSchemeDesignator) == ("36118008", "SCT")
    assert segment.SegmentAlgorithmType == "AUTOMATIC"
    assert segmentation.SegmentationType == "BINARY"
    assert segmentation.ManufacturerModelName == "pneumoseg"


def test_all_segments_are_displayed_in_the_colour_of_the_pictures(tmp_path: Path) -> None:
    segments = make_seg(make_source(tmp_path), make_mask(positive=True), ORIGIN).SegmentSequence
    colours = [hd.color.CIELabColor.from_dicom_value(each.RecommendedDisplayCIELabValue) for each in segments]
    assert len(colours) == 2
    for colour in colours:
        np.testing.assert_allclose(colour.to_rgb(), OUTLINE, atol=2)  # DICOM stores rounded CIELab values


def test_a_segmentation_has_what_viewers_ask_for(tmp_path: Path) -> None:
    segmentation = make_seg(make_source(tmp_path), make_mask(positive=True), ORIGIN)
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    assert shared.PixelMeasuresSequence[0].PixelSpacing == [0.5, 0.25]
    assert shared.PixelMeasuresSequence[0].SliceThickness == 1  # highdicom reads no measures without it
    # nor OHIF a segmentation
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == [
        1,
        0,
        0,
        0,
        1,
        0,
    ]
    assert segmentation.PatientOrientation == ["L", "F"]


def test_unknown_spacing_and_orientation_stay_unknown(tmp_path: Path) -> None:
    source = make_source(tmp_path, PixelSpacing=None, PatientOrientation="")
    path = saved(tmp_path, make_seg(source, make_mask(positive=True), ORIGIN))
    assert complaints(path) == []
    result = dcmread(path)
    assert "PixelMeasuresSequence" not in result.SharedFunctionalGroupsSequence[0]
    assert not result.PatientOrientation


def test_each_component_is_a_segment_with_a_frame_and_tracking_of_its_own(tmp_path: Path) -> None:
    segmentation = make_seg(make_source(tmp_path), make_mask(positive=True), ORIGIN)
    assert [segment.TrackingID for segment in segmentation.SegmentSequence] == [
        "pneumothorax 1",
        "pneumothorax 2",
    ]
    assert len({segment.TrackingUID for segment in segmentation.SegmentSequence}) == 2
    areas = segmentation.pixel_array.sum(axis=(1, 2))
    assert areas.tolist() == [94, 24]  # 10 by 10 less a hole of 2 by 3, and 4 by 6


def test_warnings_are_in_the_description(tmp_path: Path) -> None:
    source, mask = make_source(tmp_path), make_mask(positive=True)
    plain = make_seg(source, mask, ORIGIN, warnings=[Reason.NO_PREAMBLE])
    doubtful = make_seg(source, mask, ORIGIN, warnings=[Reason.SATURATED, Reason.LOOKS_TURNED])
    assert plain.ContentDescription == "Research software, not for diagnosis"
    assert doubtful.ContentDescription == "REVIEW: looks rotated, is saturated; not for diagnosis"


def test_a_mirrored_source_keeps_its_orientation_and_its_pixels(tmp_path: Path) -> None:
    source, mask = make_source(tmp_path, PatientOrientation=["R", "F"]), make_mask(positive=True)
    segmentation = make_seg(source, mask, ORIGIN)
    assert segmentation.PatientOrientation == ["R", "F"]
    np.testing.assert_array_equal(segmentation.pixel_array.sum(axis=0), mask)


def test_a_segmentation_files_with_its_study_as_an_object_of_its_own(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    result = dcmread(saved(tmp_path, make_seg(source, make_mask(positive=True), ORIGIN)))
    assert result.StudyInstanceUID == "1.2.3"
    assert (result.PatientID, str(result.PatientName)) == ("P1", "Müller^Jörg")
    assert (result.AccessionNumber, result.StudyID) == ("A8", "S7")
    assert (result.StudyDate, result.ContentDate) == ("20200304", "20260304")
    assert (result.LossyImageCompression, result.LossyImageCompressionRatio) == ("01", 9.5)
    assert result.SeriesInstanceUID != "1.2.3.5"
    assert result.SOPInstanceUID != "1.2.3.4"
    reference = result.ReferencedSeriesSequence[0]
    assert reference.SeriesInstanceUID == "1.2.3.5"
    assert reference.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == "1.2.3.4"


def test_a_second_run_writes_the_same_bytes(tmp_path: Path) -> None:
    source, mask = make_source(tmp_path, optional=False), make_mask(positive=True)
    first, second = (saved(tmp_path, make_seg(source, mask, ORIGIN)).read_bytes() for _ in range(2))
    assert first == second


def test_uids_differ_between_models_and_between_sources(tmp_path: Path) -> None:
    mask = make_mask(positive=True)
    other = replace(ORIGIN, analysis_sha256="f" * 64)
    uids = {
        make_seg(source, mask, origin).SOPInstanceUID
        for source in (make_source(tmp_path), make_source(tmp_path, SOPInstanceUID="1.2.3.9"))
        for origin in (ORIGIN, other)
    }
    assert len(uids) == 4


def test_results_with_and_without_identity_are_two_objects(tmp_path: Path) -> None:
    sources = (make_source(tmp_path, with_identity=identity) for identity in (True, False))
    uids = {make_seg(source, make_mask(positive=True), ORIGIN).SOPInstanceUID for source in sources}
    assert len(uids) == 2


def test_no_free_text_of_the_source_is_copied(tmp_path: Path) -> None:
    path = saved(tmp_path, make_seg(make_source(tmp_path), make_mask(positive=True), ORIGIN))
    assert b"SECRET" not in path.read_bytes()
