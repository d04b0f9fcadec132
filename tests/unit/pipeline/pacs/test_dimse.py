from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    DigitalXRayImageStorageForPresentation,
    StorageCommitmentPushModel,
)
from tests.conftest import SHAPE, write_radiograph
from tests.integration.archive import HOST, free_port

from pneumoseg.pipeline.pacs import dimse
from pneumoseg.pipeline.pacs.config import ClientTls, DicomDestination
from pneumoseg.pipeline.pacs.dicomweb import ArchiveError, UnreachableError

ECHO = "1.2.840.10008.1.1"


@contextmanager
def archive(
    answer: Callable[[evt.Event], int] = lambda _: 0,
    *,
    classes: tuple[Any, ...] = (DigitalXRayImageStorageForPresentation,),
    requests: list[Dataset] | None = None,
) -> Iterator[DicomDestination]:
    """Run an archive that takes uncompressed images."""
    entity = AE(ae_title="PACS")
    entity.add_supported_context(ECHO)
    for each in classes:
        entity.add_supported_context(each, [ExplicitVRLittleEndian])

    def commit(event: evt.Event) -> tuple[int, None]:
        assert requests is not None
        requests.append(event.action_information)
        return 0, None

    port = free_port()
    server = entity.start_server(
        (HOST, port), block=False, evt_handlers=[(evt.EVT_C_STORE, answer), (evt.EVT_N_ACTION, commit)]
    )
    assert server is not None
    try:
        yield destination(port)
    finally:
        server.shutdown()


def destination(port: int) -> DicomDestination:
    return DicomDestination(protocol="dicom", ae_title="PACS", host=HOST, port=port)


def image(folder: Path, number: int = 1) -> Path:
    pixels = np.arange(SHAPE[0] * SHAPE[1], dtype=np.uint8).reshape(SHAPE)
    return write_radiograph(folder / f"{number}.dcm", pixels, SOPInstanceUID=f"1.2.{number}")


def sent(to: DicomDestination, *paths: Path) -> dict[str, ArchiveError | None]:
    return dict(dimse.send(to, {path.name: path for path in paths}, ae_title="PNEUMOSEG"))


def test_files_are_sent_on_one_association_and_each_is_answered(tmp_path: Path) -> None:
    got: list[tuple[str, object]] = []

    def keep(event: evt.Event) -> int:
        got.append((str(event.dataset.SOPInstanceUID), event.assoc))
        return 0

    with archive(keep) as to:
        assert sent(to, image(tmp_path, 1), image(tmp_path, 2)) == {"1.dcm": None, "2.dcm": None}
    assert [uid for uid, _ in got] == ["1.2.1", "1.2.2"]
    assert len({id(association) for _, association in got}) == 1


@pytest.mark.parametrize(
    ("status", "is_stored", "is_transient"),
    [
        (0xB000, True, None),
        (0x0111, True, None),
        (0xA700, False, True),
        (0xA900, False, False),
        (0xC000, False, False),
    ],
)
def test_a_warning_and_a_duplicate_are_successes_and_only_lack_of_resources_is_transient(
    tmp_path: Path, status: int, is_stored: bool, is_transient: bool | None
) -> None:
    with archive(lambda _: status) as to:
        error = sent(to, image(tmp_path))["1.dcm"]
    assert (error is None) is is_stored
    assert (None if error is None else error.is_transient) is is_transient


def test_a_compressed_file_is_decompressed_for_a_destination_that_takes_no_other(tmp_path: Path) -> None:
    path = image(tmp_path)
    dataset = dcmread(path)
    pixels = dataset.pixel_array
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as(path)
    got: list[Dataset] = []

    def keep(event: evt.Event) -> int:
        got.append(event.dataset)
        return 0

    with archive(keep) as to:
        assert sent(to, path) == {"1.dcm": None}
    assert got[0].SOPInstanceUID == "1.2.1"
    np.testing.assert_array_equal(np.frombuffer(got[0].PixelData, np.uint8).reshape(SHAPE), pixels)


def test_a_destination_that_takes_no_such_result_says_so(tmp_path: Path) -> None:
    with archive(classes=()) as to, pytest.raises(ArchiveError, match="none of the SOP classes"):
        sent(to, image(tmp_path))


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # pynetdicom leaves its socket open
def test_a_destination_that_is_down_cannot_be_reached(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="cannot be reached"):
        sent(destination(free_port()), image(tmp_path))


def test_storage_commitment_is_requested_where_it_is_offered(tmp_path: Path) -> None:
    instances = {"1.9.1": [("1.2.840.10008.5.1.4.1.1.66.4", "1.2.3")]}
    requests: list[Dataset] = []

    def request(to: DicomDestination) -> bool:
        return dimse.request_commitments(to, instances, ae_title="PNEUMOSEG", on_report=lambda _: (0, None))

    with archive(classes=(StorageCommitmentPushModel,), requests=requests) as to:
        assert request(to)
    (asked,) = requests
    assert asked.TransactionUID == "1.9.1"
    assert [item.ReferencedSOPInstanceUID for item in asked.ReferencedSOPSequence] == ["1.2.3"]
    with archive() as to:
        assert not request(to)


def test_authorities_that_are_missing_are_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="a certificate or key cannot be used"):
        dimse.client_context(ClientTls(authorities=tmp_path / "missing.pem"))
