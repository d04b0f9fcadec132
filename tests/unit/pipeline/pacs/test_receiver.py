from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import UID
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from tests.conftest import SHAPE, write_radiograph
from tests.integration.archive import HOST, free_port
from tests.integration.listener import wait_for
from tests.unit.pipeline.pacs.listeners import make_config

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.pacs.config import ServerTls
from pneumoseg.pipeline.pacs.metrics import Metrics
from pneumoseg.pipeline.pacs.receiver import (
    NO_SUCH_TRANSACTION,
    Receiver,
    RefusedError,
    _is_in,
    server_context,
)
from pneumoseg.pipeline.pacs.spool import Spool

ECHO = "1.2.840.10008.1.1"


class Running:
    """A receiver in this process.

    Attributes:
        receiver: The receiver.
        spool: Its spool.
        metrics: Its metrics.
    """

    def __init__(self, folder: Path, **values: Any) -> None:
        peers = [{"ae_title": "CR1", "address": HOST}, {"ae_title": "CR2", "address": "10.0.0.1"}]
        self.config = make_config(
            folder, host=HOST, port=values.pop("port", 0) or free_port(), peers=peers, **values
        )
        self.spool, self.metrics = Spool(self.config), Metrics()
        self.facts: list[dict[str, Any]] = []
        self.audit = cast("Any", SimpleNamespace(write=lambda *_, **facts: self.facts.append(facts)))
        self.receiver = Receiver(
            self.config, self.spool, self.audit, self.metrics, lambda _: (NO_SUCH_TRANSACTION, None)
        )

    def refused(self, kind: str) -> float | None:
        return self.metrics.registry.get_sample_value("pneumoseg_refused_total", {"kind": kind})


@contextmanager
def running(folder: Path, **values: Any) -> Iterator[Running]:
    found = Running(folder, **values)
    with found.spool.opened(), found.receiver.listening():
        yield found


@contextmanager
def associated(to: Running, image: Path, calling: str = "CR1") -> Iterator[Association]:
    header = dcmread(image)
    entity = AE(ae_title=calling)
    entity.dimse_timeout = entity.acse_timeout = 10
    entity.add_requested_context(ECHO)
    entity.add_requested_context(header.SOPClassUID, header.file_meta.TransferSyntaxUID)
    association = entity.associate(HOST, to.config.port, ae_title="PNEUMOSEG")
    try:
        yield association
    finally:
        if association.is_established:
            association.release()
        if association.dul.socket is not None and association.dul.socket.socket is not None:
            association.dul.socket.socket.close()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_radiograph(tmp_path / "a.dcm", np.zeros(SHAPE, np.uint8))


def test_an_image_is_in_the_spool_when_it_is_acknowledged(tmp_path: Path, image: Path) -> None:
    with running(tmp_path) as to, associated(to, image) as association:
        assert association.send_c_echo().Status == 0
        assert association.send_c_store(dcmread(image)).Status == 0
        (kept,) = (to.config.spool / "studies").rglob("*.dcm")
        assert dcmread(kept) == dcmread(image)


def test_an_image_that_no_rule_selects_is_acknowledged_and_not_kept(tmp_path: Path, image: Path) -> None:
    rules = [{"name": "ct", "modality": "CT", "send_to": "pacs"}]
    with running(tmp_path, rules=rules) as to, associated(to, image) as association:
        assert association.send_c_store(dcmread(image)).Status == 0
        assert to.spool.studies == []


def test_the_ae_title_of_another_address_is_rejected(tmp_path: Path, image: Path) -> None:
    with running(tmp_path) as to:
        with associated(to, image, calling="CR2") as association:
            assert association.is_rejected
        wait_for(lambda: to.refused("peer") == 1)  # the rejection is sent first


def test_an_image_without_room_is_refused_as_out_of_resources(tmp_path: Path, image: Path) -> None:
    with running(tmp_path, limits={"free_gb": 1e9}) as to, associated(to, image) as association:
        assert association.send_c_store(dcmread(image)).Status == 0xA700
        assert to.refused("room") == 1
        assert to.facts[-1]["instance"] == dcmread(image).SOPInstanceUID


@pytest.mark.parametrize(
    ("sop_class", "syntax"),
    [
        ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"),  # CT
        ("1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.1.2.4.102"),  # DX as video
        ("1.3.6.1.4.1.9999.1", "1.2.840.10008.1.2"),  # a private one
    ],
)
def test_what_cannot_be_sent_on_an_association_is_in_the_log(
    tmp_path: Path, sop_class: str, syntax: str
) -> None:
    """No C-STORE ever comes, so that nothing else would tell why a peer sends nothing."""
    entity = AE(ae_title="CR1")
    entity.add_requested_context(ECHO)
    entity.add_requested_context(sop_class, syntax)
    with running(tmp_path) as to:
        entity.associate(HOST, to.config.port, ae_title="PNEUMOSEG").release()
        (facts,) = to.facts
        assert (facts["kind"], facts["ae"], to.refused("context")) == ("context", "CR1", 1)
        assert sop_class in facts["why"]


def test_a_data_set_with_other_uids_than_the_command_is_refused(tmp_path: Path, image: Path) -> None:
    request = C_STORE()
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = dcmread(image).SOPClassUID, UID("1.2.9")
    event: Any = SimpleNamespace(encoded_dataset=image.read_bytes, request=request)
    found = Running(tmp_path)
    with pytest.raises(RefusedError, match="other UIDs than the command") as raised:
        found.receiver._read(event)
    assert raised.value.status == 0xA900


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_an_image_that_no_result_could_name_is_refused(tmp_path: Path, keyword: str) -> None:
    """It would be analysed, and the archive would never get a result."""
    path = write_radiograph(tmp_path / "a.dcm", np.zeros(SHAPE, np.uint8), **{keyword: None})
    event: Any = SimpleNamespace(encoded_dataset=path.read_bytes, request=C_STORE())
    with pytest.raises(RefusedError, match="a UID is missing or invalid") as raised:
        Running(tmp_path).receiver._read(event)
    assert raised.value.status == 0xC000


def test_a_port_in_use_is_told_in_one_line(tmp_path: Path) -> None:
    with (
        running(tmp_path / "first") as to,
        pytest.raises(JobError, match="cannot be listened on"),
        running(tmp_path / "second", port=to.config.port),
    ):
        pass


@pytest.mark.parametrize(
    ("address", "is_in"),
    [("10.0.0.7", True), ("::ffff:10.0.0.7", True), ("10.0.1.7", False), ("fe80::1%eth0", False)],
)
def test_an_ipv4_address_may_be_written_as_ipv6(address: str, *, is_in: bool) -> None:
    network: Any = ip_network("10.0.0.0/24")
    assert _is_in(address, network) is is_in


def test_a_certificate_that_is_missing_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="tls: a certificate or key cannot be used"):
        server_context(ServerTls(certificate=tmp_path / "a.pem", key=tmp_path / "b.pem"))
