import shutil
import subprocess
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from highdicom.sr import MeasurementsAndQualitativeEvaluations
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from skimage.draw import polygon2mask
from tests.conftest import SHAPE
from tests.unit.pipeline.results.dicom.conftest import ORIGIN, complaints, make_mask, make_source, saved
from tests.unit.pipeline.results.dicom.test_seg import EVERY

from pneumoseg.pipeline.results.dicom.seg import make_seg, reference_to_seg
from pneumoseg.pipeline.results.dicom.source import Source
from pneumoseg.pipeline.results.dicom.sr import make_sr, uids_of
from pneumoseg.transforms.measurements import measure
from pneumoseg.transforms.reader.reasons import Reason


def report(source: Source, *, positive: bool, probability: float = 0.75, **options: Any) -> Any:
    mask = make_mask(positive=positive)
    measured = measure(
        mask,
        probability=probability,
        spacing_mm=source.spacing_mm,
        patient_orientation=source.orientation,
    )
    return make_sr(source, mask, measured, probability, ORIGIN, **options)


def groups_of(path: Path) -> tuple[list[Any], MeasurementsAndQualitativeEvaluations]:
    """The groups of components, and the one of the image, as highdicom reads them."""
    content: Any = hd.sr.srread(path).content
    (of_image,) = content.get_image_measurement_groups()
    return list(content.get_planar_roi_measurement_groups()), of_image


def values(group: Any) -> dict[str, tuple[float, str]]:
    return {item.name.meaning: (float(item.value), item.unit.value) for item in group.get_measurements()}


def texts(group: Any, meaning: str) -> list[str]:
    return [item.TextValue for item in group[0].ContentSequence if item.name.meaning == meaning]


@EVERY
def test_a_report_is_valid_and_can_be_read(tmp_path: Path, kind: str, optional: bool, positive: bool) -> None:
    source = make_source(tmp_path, kind=kind, optional=optional)
    path = saved(tmp_path, report(source, positive=positive, segmentation=reference_to_seg(source, ORIGIN)))
    assert complaints(path) == []
    assert hd.sr.srread(path).SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"  # Comprehensive 3D SR
    assert len(groups_of(path)[0]) == (2 if positive else 0)


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.dicom_tools
def test_dcmtk_reads_a_report(tmp_path: Path, positive: bool) -> None:
    if shutil.which("dsrdump") is None:
        pytest.skip("dsrdump of DCMTK is not installed")
    path = saved(tmp_path, report(make_source(tmp_path), positive=positive))
    told = subprocess.run(["dsrdump", str(path)], capture_output=True, text=True, check=True)
    finding, presence = (told.stdout.index(f'"{word}")=(') for word in ("Finding", "Presence"))
    assert finding < presence < told.stdout.index('"Probability")=')


@pytest.mark.parametrize("positive", [True, False])
def test_presence_comes_before_any_number(tmp_path: Path, positive: bool) -> None:
    _, of_image = groups_of(saved(tmp_path, report(make_source(tmp_path), positive=positive)))
    names = [item.name.meaning for item in of_image[0].ContentSequence]
    assert names[names.index("Finding") + 1] == "Presence"
    assert names.index("Presence") < names.index("Probability")
    (presence,) = of_image.get_qualitative_evaluations()
    assert presence.value == (codes.SCT.Present if positive else codes.SCT.Absent)


def test_the_image_has_the_probability_and_the_total_area_and_the_components_have_their_own_sizes(
    tmp_path: Path,
) -> None:
    regions, of_image = groups_of(saved(tmp_path, report(make_source(tmp_path), positive=True)))
    # 100 less 6 pixels of 0.5 x 0.25 mm, 10 of 0.25 mm side by side; and 4 x 6 pixels
    assert values(of_image) == {"Probability": (0.75, "{0:1}"), "Area": (14.75, "mm2")}
    assert values(regions[0]) == {"Area": (11.75, "mm2"), "Width": (2.5, "mm")}
    assert values(regions[1]) == {"Area": (3.0, "mm2"), "Width": (1.5, "mm")}
    assert {group.finding_type for group in (of_image, *regions)} == {codes.SCT.Pneumothorax}


def test_a_negative_report_states_no_percentage(tmp_path: Path) -> None:
    path = saved(tmp_path, report(make_source(tmp_path), positive=False, probability=0.246))
    _, of_image = groups_of(path)
    assert values(of_image) == {"Probability": (0.246, "{0:1}")}
    assert of_image.tracking_identifier == "pneumothorax absent"
    assert texts(of_image, "Comment")[0] == "Pneumothorax absent"
    assert b"24.6" not in path.read_bytes()


@pytest.mark.parametrize("positive", [True, False])
def test_uncertainty_has_a_code_of_its_own(tmp_path: Path, positive: bool) -> None:
    path = saved(tmp_path, report(make_source(tmp_path), positive=positive, uncertainty=0.125))
    assert complaints(path) == []
    _, of_image = groups_of(path)
    numbers = of_image.get_measurements()
    assert [item.value for item in numbers][:2] == [0.75, 0.125]
    assert len({(item.name.value, item.name.scheme_designator) for item in numbers}) == len(numbers)


@pytest.mark.parametrize("positive", [True, False])
def test_every_group_has_coordinates_on_the_image_without_which_ohif_shows_nothing(
    tmp_path: Path, positive: bool
) -> None:
    source = make_source(tmp_path)
    document = report(source, positive=positive)
    (measurements,) = [
        item for item in document.ContentSequence if item.name == codes.DCM.ImagingMeasurements
    ]
    for group in measurements.ContentSequence:
        numbers = [item for item in group.ContentSequence if item.ValueType == "NUM"]
        children = [child for item in numbers for child in item.get("ContentSequence", ())]
        lines = [item for item in (*group.ContentSequence, *children) if item.ValueType == "SCOORD"]
        for line in lines:
            reference = line.ContentSequence[0].ReferencedSOPSequence[0]
            assert reference.ReferencedSOPInstanceUID == source.sop_instance_uid
        assert lines


@pytest.mark.parametrize("known", [True, False])
def test_the_image_library_describes_the_image_as_far_as_it_is_known(tmp_path: Path, known: bool) -> None:
    elements: dict[str, Any] = {} if known else {"PixelSpacing": None, "PatientOrientation": ""}
    document = report(make_source(tmp_path, **elements), positive=True)
    (library,) = [item for item in document.ContentSequence if item.name == codes.DCM.ImageLibrary]
    (image,) = library.ContentSequence[0].ContentSequence
    assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3.4"
    names = {item.name.meaning for item in image.ContentSequence}
    described = {"Patient Orientation Row", "Vertical Pixel Spacing", "Horizontal Pixel Spacing"}
    assert names & described == (described if known else set())


def test_where_the_spacing_is_unknown_areas_are_in_pixels(tmp_path: Path) -> None:
    source = make_source(tmp_path, PixelSpacing=None)
    regions, of_image = groups_of(saved(tmp_path, report(source, positive=True)))
    assert values(regions[0]) == {"Area": (94, "{pixels}")}
    assert values(of_image)["Area"] == (118, "{pixels}")


def test_the_line_around_a_finding_gives_it_back_when_it_is_filled(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    path = saved(tmp_path, report(source, positive=True, segmentation=reference_to_seg(source, ORIGIN)))
    regions, _ = groups_of(path)
    filled = np.zeros(SHAPE, dtype=bool)
    for group in regions:
        line = group.roi.value
        np.testing.assert_array_equal(line[0], line[-1])
        filled |= polygon2mask(SHAPE, line[:, ::-1] - 0.5)  # its pixel centres are whole numbers
    expected = make_mask(positive=True)
    expected[7:9, 5:8] = 1  # the hole
    np.testing.assert_array_equal(filled, expected)


@pytest.mark.parametrize(
    ("orientation", "first"), [(["L", "F"], codes.SCT.Right), (["R", "F"], codes.SCT.Left)]
)
def test_a_component_has_site_and_laterality(tmp_path: Path, orientation: list[str], first: Any) -> None:
    source = make_source(tmp_path, PatientOrientation=orientation)
    regions, of_image = groups_of(saved(tmp_path, report(source, positive=True)))
    (site,) = regions[0].finding_sites
    assert (site.value, site.laterality) == (codes.SCT.Pleura, first)
    assert "Side by PatientOrientation" in texts(of_image, "Comment")


def test_a_report_says_that_a_side_is_assumed(tmp_path: Path) -> None:
    source = make_source(tmp_path, PatientOrientation="")
    _, of_image = groups_of(saved(tmp_path, report(source, positive=True)))
    assert any(comment.startswith("Side assumed") for comment in texts(of_image, "Comment"))


def test_segments_and_groups_share_tracking_and_refer_to_each_other(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    segmentation = make_seg(source, make_mask(positive=True), ORIGIN)
    document = report(source, positive=True, segmentation=reference_to_seg(source, ORIGIN))
    regions, _ = groups_of(saved(tmp_path, document))
    for segment, group in zip(segmentation.SegmentSequence, regions, strict=True):
        assert (group.tracking_identifier, group.tracking_uid) == (segment.TrackingID, segment.TrackingUID)
        (item,) = [item for item in group[0].ContentSequence if item.name == codes.DCM.ReferencedSegment]
        (reference,) = item.ReferencedSOPSequence
        assert reference.ReferencedSOPInstanceUID == segmentation.SOPInstanceUID
        assert reference.ReferencedSegmentNumber == segment.SegmentNumber
    evidence = {uid for *_, uid, _ in document.get_evidence()}
    assert evidence == {source.sop_instance_uid, segmentation.SOPInstanceUID}


def test_a_report_names_model_version_and_operating_point(tmp_path: Path) -> None:
    _, of_image = groups_of(saved(tmp_path, report(make_source(tmp_path), positive=False)))
    assert texts(of_image, "Algorithm Name") == ["pneumoseg"]
    assert texts(of_image, "Algorithm Version")[0].endswith("+0123456789abcdef")
    assert texts(of_image, "Algorithm Parameters") == ["threshold: 0.5"]


@pytest.mark.parametrize(
    ("positive", "presence"), [(True, codes.SCT.Present), (False, codes.SCT.Indeterminate)]
)
def test_a_doubtful_result_is_to_be_reviewed_and_never_absent(
    tmp_path: Path, positive: bool, presence: Any
) -> None:
    warnings = [Reason.LOOKS_TURNED, Reason.LOW_RESOLUTION]
    path = saved(tmp_path, report(make_source(tmp_path), positive=positive, warnings=warnings))
    assert complaints(path) == []
    _, of_image = groups_of(path)
    said = {item.name.meaning: item.value for item in of_image.get_qualitative_evaluations()}
    assert said == {"Presence": presence, "Image Quality": codes.DCM.Positioning}
    assert texts(of_image, "Comment")[1:4] == [
        "To be reviewed by a person",
        "The image looks rotated",
        "The image is coarse",
    ]


def test_a_report_carries_the_request(tmp_path: Path) -> None:
    request, code = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "399208008", "SCT", "Chest X-ray"
    request.RequestedProcedureID, request.RequestedProcedureDescription = "RP1", "Thorax"
    request.RequestedProcedureCodeSequence = [code]
    source = make_source(tmp_path, RequestAttributesSequence=[request])
    path = saved(tmp_path, report(source, positive=True))
    assert complaints(path) == []
    (item,) = dcmread(path).ReferencedRequestSequence
    assert (item.RequestedProcedureID, item.AccessionNumber, item.StudyInstanceUID) == ("RP1", "A8", "1.2.3")
    assert item.RequestedProcedureCodeSequence[0].CodeValue == "399208008"


def test_a_report_that_replaces_another_names_it_and_is_another(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    former = report(source, positive=True)
    path = saved(tmp_path, report(source, positive=True, predecessor=uids_of(former)))
    assert complaints(path) == []
    later = dcmread(path)
    series = later.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == former.SOPInstanceUID
    assert later.SOPInstanceUID != former.SOPInstanceUID


def test_a_report_is_preliminary_and_unverified(tmp_path: Path) -> None:
    document = report(make_source(tmp_path), positive=True)
    assert (document.PreliminaryFlag, document.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")


def test_a_second_run_writes_the_same_bytes(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    first, second = (saved(tmp_path, report(source, positive=True)).read_bytes() for _ in range(2))
    assert first == second
    assert b"SECRET" not in first
