"""Results in a real archive: stored, found and fetched back, over DIMSE and over DICOMweb."""

import shutil
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID
from tests.integration.archive import Archive
from tests.integration.phantom_results import KINDS, Study

pytestmark = [pytest.mark.slow, pytest.mark.dicom_tools]

MODALITIES = {"seg": "SEG", "sr": "SR", "sc": "OT", "gsps": "PR"}
Store = Callable[[Archive, Iterable[Path]], None]


def store_with_dimse(archive: Archive, files: Iterable[Path]) -> None:
    """C-STORE; `-R` proposes the SOP classes of the files, since storescu's own list lacks those of results."""
    for path in files:
        syntax = UID(dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID)
        propose = {"JPEGLSLossless": ["-xt"], "JPEGBaseline8Bit": ["-xy"]}.get(syntax.keyword, [])
        archive.run_tool("storescu", "-R", *propose, files=[path])


def store_with_dicomweb(archive: Archive, files: Iterable[Path]) -> None:
    """STOW-RS, all files at once."""
    answer = archive.post(*files)
    assert "00081198" not in answer or not answer["00081198"].get("Value")  # FailedSOPSequence


def by_uid(datasets: Iterable[Dataset]) -> dict[str, Dataset]:
    return {str(dataset.SOPInstanceUID): dataset for dataset in datasets}


@pytest.fixture(scope="module", params=[store_with_dimse, store_with_dicomweb], ids=["dimse", "dicomweb"])
def filled(request: pytest.FixtureRequest, archive: Archive, studies: dict[str, Study]) -> Archive:
    """The archive with both studies in it."""
    if shutil.which("dcmcjpeg") is None:
        pytest.skip("DCMTK is not installed")
    archive.delete_all()
    store: Store = request.param
    for study in studies.values():
        store(archive, study.files)
    return archive


@pytest.fixture(params=["positive", "negative"])
def study(request: pytest.FixtureRequest, studies: dict[str, Study]) -> Study:
    found: Study = studies[request.param]
    return found


def test_without_the_password_the_archive_shows_nothing(archive: Archive) -> None:
    status, _, _ = archive.request("GET", "/dicom-web/studies", authorized=False)
    assert status == 401


def test_all_results_are_fetched_back_unchanged(filled: Archive, study: Study) -> None:
    fetched = by_uid(dcmread(BytesIO(content)) for content in filled.fetch(study.uid))
    for path in study.files:
        sent = dcmread(path)
        received = fetched.pop(str(sent.SOPInstanceUID))
        assert received == sent  # every element, the pixels among them
        assert received.file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID
    assert fetched == {}


def test_results_are_sent_to_a_workstation_unchanged(filled: Archive, study: Study, tmp_path: Path) -> None:
    """C-MOVE; the archive decompresses what the workstation does not accept."""
    filled.run_tool(
        "movescu", "-S", "-aem", "PNEUMOSEG", "--port", filled.move_port, "-od", tmp_path,
        "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study.uid}",
    )  # fmt: skip
    received = by_uid(dcmread(path) for path in tmp_path.iterdir())
    for path in study.results.values():
        sent = dcmread(path)
        other = received[str(sent.SOPInstanceUID)]
        if "PixelData" in sent:
            np.testing.assert_array_equal(other.pixel_array, sent.pixel_array)
        for dataset in (sent, other):
            dataset.pop("PixelData", None)
        assert other == sent


def test_each_result_is_found_as_a_series_of_its_study(filled: Archive, study: Study) -> None:
    found = filled.query(f"studies/{study.uid}/series")
    modalities = {series["0020000E"]["Value"][0]: series["00080060"]["Value"][0] for series in found}
    for kind in KINDS:
        assert modalities[str(study.header(kind).SeriesInstanceUID)] == MODALITIES[kind]


def test_a_study_is_found_by_its_patient_with_all_its_modalities(filled: Archive, study: Study) -> None:
    patient = study.header("seg").PatientID
    told = filled.run_tool(
        "findscu", "-S", "-k", "QueryRetrieveLevel=STUDY", "-k", f"PatientID={patient}", "-k", "StudyInstanceUID",
        "-k", "ModalitiesInStudy",
    )  # fmt: skip
    assert study.uid in told
    for modality in MODALITIES.values():
        assert modality in told


def test_storing_a_result_again_leaves_one(filled: Archive, study: Study) -> None:
    before = filled.query(f"studies/{study.uid}/instances")
    store_with_dicomweb(filled, study.results.values())
    assert len(filled.query(f"studies/{study.uid}/instances")) == len(before) == len(study.files)
