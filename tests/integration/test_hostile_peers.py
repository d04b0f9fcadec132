"""Peers that the listener must refuse, and that must not end it."""

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import MPEG2MPML
from pynetdicom import AE
from tests.conftest import write_radiograph
from tests.integration.archive import HOST
from tests.integration.listener import (
    Listener,
    associated,
    is_alive,
    running_nursery,
    send,
    wait_for,
    write_config,
    write_studies,
)

pytestmark = pytest.mark.slow

NOWHERE = {"protocol": "dicom", "ae_title": "NOWHERE", "host": HOST, "port": 9}


@pytest.fixture(scope="module")
def listener(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listener]:
    """A listener that lets in three associations and objects of 100 KiB, and analyses nothing."""
    found = write_config(
        tmp_path_factory.mktemp("listener"),
        model_folder,
        NOWHERE,
        quiet_s=3600,
        limits={"associations": 3, "object_mb": 0.1, "free_gb": 0, "timeout_s": 1},
    )
    with running_nursery() as nursery:
        found.pid = nursery.start(found.config)
        try:
            yield found
        finally:
            found.stop()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_studies(tmp_path, [0])[0]


@pytest.fixture(autouse=True)
def still_serves(listener: Listener, tmp_path: Path) -> Iterator[None]:
    """After each test, the next proper image is acknowledged."""
    yield
    assert is_alive(listener.pid)
    (proper,) = write_studies(tmp_path / "proper", [1])
    wait_for(lambda: send(listener, [proper]) == [proper], seconds=20)


def test_an_unknown_ae_title_is_rejected(listener: Listener, image: Path) -> None:
    with associated(listener, [image], calling="STRANGER") as association:
        assert association.is_rejected


def test_another_called_ae_title_is_rejected(listener: Listener) -> None:
    entity = AE(ae_title="MODALITY")
    entity.add_requested_context("1.2.840.10008.1.1")
    assert entity.associate(HOST, listener.port, ae_title="ANY-SCP").is_rejected


def test_an_unknown_address_is_not_answered(listener: Listener, image: Path) -> None:
    with associated(listener, [image], bind_address=("127.0.0.2", 0)) as association:
        assert association.is_aborted
    assert "the address is unknown" in listener.reasons()


def test_an_object_that_is_too_large_ends_the_association(listener: Listener, tmp_path: Path) -> None:
    large = write_radiograph(tmp_path / "large.dcm", np.zeros((512, 512), np.uint8))
    assert send(listener, [large]) == []
    assert "the object is too large" in listener.reasons()


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")  # in the peer, which makes them
@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SOPInstanceUID"])
def test_an_image_whose_uids_are_paths_is_refused(listener: Listener, image: Path, keyword: str) -> None:
    before = sorted((listener.folder / "spool").rglob("*.dcm"))
    dataset = dcmread(image)
    setattr(dataset, keyword, "../../escape")
    with associated(listener, [image]) as association:
        assert association.send_c_store(dataset).get("Status") == 0xC000
    assert sorted((listener.folder / "spool").rglob("*.dcm")) == before
    assert not list(listener.folder.parent.rglob("*escape*"))


def test_an_image_without_a_study_is_refused(listener: Listener, image: Path) -> None:
    dataset = dcmread(image)
    del dataset.StudyInstanceUID
    with associated(listener, [image]) as association:
        assert association.send_c_store(dataset).Status == 0xC000
        assert association.send_c_store(dcmread(image)).Status == 0


def test_another_image_with_the_same_uid_is_refused_and_the_same_image_is_not(
    listener: Listener, tmp_path: Path
) -> None:
    (first,) = write_studies(tmp_path / "first", [20])
    other = write_radiograph(
        tmp_path / "other.dcm",
        np.full((48, 32), 7, np.uint8),
        **{
            name: dcmread(first)[name].value
            for name in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
        },
    )
    assert send(listener, [first]) == [first]
    assert send(listener, [first]) == [first]
    with associated(listener, [other]) as association:
        assert association.send_c_store(other).Status == 0x0111
    (kept,) = (listener.folder / "spool").rglob("1.2.826.0.1.21.dcm")
    assert dcmread(kept).PixelData == dcmread(first).PixelData


def test_a_transfer_syntax_that_the_reader_does_not_decode_is_not_accepted(
    listener: Listener, image: Path
) -> None:
    entity = AE(ae_title="MODALITY")
    entity.add_requested_context(dcmread(image).SOPClassUID, MPEG2MPML)
    association = entity.associate(HOST, listener.port, ae_title="PNEUMOSEG")
    assert not association.is_established
    assert [each.transfer_syntax for each in association.rejected_contexts] == [[MPEG2MPML]]


def raw(listener: Listener, content: bytes) -> bytes:
    """Send bytes without the protocol; returns what comes before the connection is closed."""
    with socket.create_connection((HOST, listener.port), timeout=20) as connection:
        connection.sendall(content)
        found = b""
        try:
            while part := connection.recv(4096):
                found += part
        except ConnectionResetError:
            pass
        return found


@pytest.mark.parametrize(
    "content",
    [
        b"",  # nothing is ever said
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">BBL", 1, 0, 2**32 - 1) + b"x" * 100_000,  # announces 4 GiB
        struct.pack(">BBL", 1, 0, 200) + b"half",
        struct.pack(">BBL", 4, 0, 10) + b"\0" * 10,
        b"\xff" * 1000,
    ],
    ids=["silence", "http", "4 GiB", "half", "data first", "noise"],
)
def test_what_is_no_association_is_closed(listener: Listener, content: bytes) -> None:
    raw(listener, content)


def test_a_broken_association_leaves_nothing(listener: Listener, tmp_path: Path) -> None:
    (path,) = write_studies(tmp_path, [30])
    with associated(listener, [path]) as association:
        association.dul.socket.socket.send(struct.pack(">BBL", 4, 0, 1000) + b"half of a PDU")
        association.dul.socket.socket.close()
    assert not list((listener.folder / "spool").rglob("1.2.826.0.1.31.dcm"))


def test_a_flood_of_associations_is_rejected_beyond_the_limit(listener: Listener, image: Path) -> None:
    with ExitStack() as opened:
        found = [opened.enter_context(associated(listener, [image])) for _ in range(8)]
        assert sum(each.is_established for each in found) == 3
        assert all(each.is_rejected for each in found if not each.is_established)


def test_a_flood_of_connections_is_closed(listener: Listener) -> None:
    connections = [socket.create_connection((HOST, listener.port), timeout=20) for _ in range(60)]
    wait_for(lambda: "there are too many connections" in listener.reasons(), seconds=20)
    for connection in connections:
        connection.close()


def test_all_refusals_are_counted(listener: Listener) -> None:
    assert listener.metric("refused_total") >= 8
