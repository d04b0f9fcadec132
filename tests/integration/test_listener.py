"""The listener beside a real archive: what is sent to it comes back as SEG, SR and SC."""

import subprocess
from collections.abc import Iterator
from http.client import HTTPException
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from tests.conftest import job_options
from tests.integration.archive import HOST, Archive, configured_archive, started
from tests.integration.listener import (
    Listener,
    Nursery,
    dicom_destination,
    is_alive,
    running_nursery,
    send,
    wait_for,
    write_config,
    write_studies,
)

from pneumoseg.pipeline.jobs.predict import predict_folder

pytestmark = [pytest.mark.slow, pytest.mark.dicom_tools]

KINDS = ("seg", "sr", "sc")
TIMES = (
    "ContentDate", "ContentTime", "SeriesDate", "SeriesTime", "InstanceCreationDate", "InstanceCreationTime",
    "TimezoneOffsetFromUTC", "ContributingEquipmentSequence",
)  # fmt: skip


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with running_nursery() as running:
        yield running


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twelve images of six studies: six with, six without a pneumothorax."""
    return write_studies(tmp_path_factory.mktemp("images"), range(12))


@pytest.fixture(scope="module")
def expected(
    images: list[Path], model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Dataset]:
    """What `predict` makes of them, by UID."""
    output = tmp_path_factory.mktemp("expected")
    predict_folder(model_folder, images[0].parent, output, kinds=KINDS, **job_options(batch_size=1))
    results = [dcmread(path) for kind in KINDS for path in (output / kind).glob("*.dcm")]
    assert len(results) == len(KINDS) * len(images)
    return {str(each.SOPInstanceUID): each for each in results}


def without_times(dataset: Dataset) -> Dataset:
    """All elements but those that tell when the analysis was."""
    for keyword in TIMES:
        dataset.pop(keyword, None)
    for item in dataset.get("PredecessorDocumentsSequence", ()):
        raise AssertionError(item)
    return dataset


def fetched(archive: Archive) -> dict[str, Dataset]:
    """All that the archive holds, by UID; each once."""
    studies = [study["0020000D"]["Value"][0] for study in archive.query("studies")]
    results = [dcmread(BytesIO(content)) for study in studies for content in archive.fetch(study)]
    found: dict[str, Dataset] = {str(each.SOPInstanceUID): each for each in results}
    assert len(found) == len(results)
    return found


def stored(archive: Archive) -> int:
    """Number of instances in the archive."""
    return sum(int(study["00201208"]["Value"][0]) for study in archive.query("studies?includefield=00201208"))


@pytest.fixture
def empty(archive: Archive) -> Archive:
    archive.delete_all()
    return archive


def equal_predictions(archive: Archive, expected: dict[str, Dataset]) -> bool:
    found = fetched(archive)
    assert found.keys() == expected.keys()
    return all(without_times(found[uid]) == without_times(expected[uid]) for uid in expected)


def test_a_study_that_storescu_sends_comes_back_as_predict_makes_it_and_is_committed(
    *,
    empty: Archive,
    nursery: Nursery,
    images: list[Path],
    expected: dict[str, Dataset],
    model_folder: Path,
    tmp_path: Path,
) -> None:
    listener = write_config(tmp_path, model_folder, dicom_destination(empty), port=empty.move_port)
    listener.pid = nursery.start(listener.config)
    try:
        command = [
            "storescu",
            "-aet",
            "MODALITY",
            "-aec",
            "PNEUMOSEG",
            HOST,
            str(listener.port),
            *map(str, images),
        ]
        subprocess.run(["echoscu", *command[1:7]], check=True, timeout=60)
        subprocess.run(command, check=True, timeout=60)
        wait_for(lambda: stored(empty) == len(expected))
        modalities = {series["00080060"]["Value"][0] for series in empty.query("series")}
        assert modalities == {"SEG", "SR", "OT"}
        assert equal_predictions(empty, expected)
        wait_for(lambda: listener.metric("results_committed_total") == len(expected))
        assert [event["kept"] for event in listener.events if event["event"] == "committed"] == [6] * 6
        assert listener.get("/healthz")[0] == 200
        log = (tmp_path / "spool" / "audit.log").read_text()
        for path in images:
            header = dcmread(path, stop_before_pixels=True)
            assert str(header.SOPInstanceUID) not in log
            assert str(header.PatientID) not in log
    finally:
        listener.stop()
    assert not is_alive(listener.pid)


def test_results_wait_while_the_archive_is_down(
    nursery: Nursery, images: list[Path], model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "archive").mkdir()
    archive = configured_archive(tmp_path / "archive")
    listener = write_config(tmp_path, model_folder, dicom_destination(archive, commitment=False))
    listener.pid = nursery.start(listener.config)
    try:
        assert send(listener, images[:1]) == images[:1]
        wait_for(lambda: listener.metric("sends_failed_total") >= 3)
        status, text = listener.get("/healthz")
        assert (status, "cannot be reached" in text) == (503, True)
        with started(archive):
            wait_for(lambda: stored(archive) == len(KINDS))
            wait_for(lambda: listener.get("/healthz")[0] == 200)
    finally:
        listener.stop()


def test_an_archive_that_goes_down_and_comes_back_gets_every_result_once(
    *,
    nursery: Nursery,
    images: list[Path],
    expected: dict[str, Dataset],
    model_folder: Path,
    tmp_path: Path,
) -> None:
    """It is down until it has been tried twenty times, for which the default waits take two hours."""
    (tmp_path / "archive").mkdir()
    archive = configured_archive(tmp_path / "archive")
    listener = write_config(
        tmp_path,
        model_folder,
        dicom_destination(archive, commitment=False),
        retry={"first_s": 0.05, "longest_s": 0.2},
    )
    listener.pid = nursery.start(listener.config)
    try:
        with started(archive):
            assert send(listener, images[:2]) == images[:2]
            wait_for(lambda: stored(archive) > 0)
        assert send(listener, images[2:]) == images[2:]
        wait_for(lambda: listener.metric("sends_failed_total") >= 20)
        assert is_alive(listener.pid)
        with started(archive):
            wait_for(lambda: is_idle(listener))
            assert equal_predictions(archive, expected)
    finally:
        listener.stop()


MOMENTS = [  # kind of the access, a part of the path, and how many of these come before
    ("os.rename", "state.json", 0),  # a study begins
    ("open", "/images/", 0),  # an image is written
    ("os.rename", "/images/", 0),  # it is complete, and not acknowledged
    ("os.rename", "/results/seg/", 0),
    ("os.rename", "/results/sr/", 0),
    ("os.rename", "/results/receipts/", 0),
    ("os.rename", "/results/predictions.csv", 0),
    ("os.rename", "state.json", 1),  # it is analysed
    ("os.rename", "state.json", 2),  # the archive has acknowledged a result
    ("os.rename", "state.json", 4),
]


def test_a_listener_that_is_killed_at_ten_moments_loses_nothing_and_sends_nothing_twice(
    *,
    empty: Archive,
    nursery: Nursery,
    images: list[Path],
    expected: dict[str, Dataset],
    model_folder: Path,
    tmp_path: Path,
) -> None:
    """A modality sends again what was not acknowledged, and nothing else."""
    listener = write_config(tmp_path, model_folder, dicom_destination(empty, commitment=False))
    left: list[Path] = []
    waiting, kills = list(images), 0
    for moment in MOMENTS:
        listener.pid = nursery.start(listener.config, *moment)
        due = [*left, waiting.pop(0)]
        done = send(listener, due)
        left = [path for path in due if path not in done]
        wait_for(lambda: not is_alive(listener.pid) or is_idle(listener))
        kills += not is_alive(listener.pid)
        listener.stop()
    assert kills == len(MOMENTS)
    listener.pid = nursery.start(listener.config)
    try:
        due = [*left, *waiting]
        assert send(listener, due) == due
        wait_for(lambda: stored(empty) == len(expected))
        assert equal_predictions(empty, expected)
    finally:
        listener.stop()


def is_idle(listener: Listener) -> bool:
    """Whether there is nothing left to do."""
    try:
        return listener.metric("studies_waiting") + listener.metric("results_waiting") == 0
    except (OSError, HTTPException):  # it has just been killed
        return False
