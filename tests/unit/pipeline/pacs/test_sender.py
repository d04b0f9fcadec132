from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from tests.conftest import SHAPE, write_radiograph
from tests.unit.pipeline.pacs.listeners import make_config, make_facts

from pneumoseg.pipeline.core.files import sha256_of
from pneumoseg.pipeline.pacs import dimse
from pneumoseg.pipeline.pacs.audit import Audit
from pneumoseg.pipeline.pacs.dicomweb import ArchiveError, UnreachableError
from pneumoseg.pipeline.pacs.metrics import Metrics
from pneumoseg.pipeline.pacs.sender import Sender
from pneumoseg.pipeline.pacs.spool import Spool
from pneumoseg.pipeline.pacs.study import Study


class Peer:
    """A destination that answers as it is told, and what it has got.

    Attributes:
        refused: UIDs of studies whose results it refuses.
        is_down: Whether it cannot be reached.
        commits: Whether it offers storage commitment.
    """

    def __init__(self) -> None:
        self.got: list[str] = []
        self.requests: dict[str, Any] = {}
        self.refused: set[str] = set()
        self.is_down = False
        self.commits = True

    def send(
        self, _: Any, paths: Mapping[str, Path], **options: Any
    ) -> Iterator[tuple[str, ArchiveError | None]]:
        if self.is_down:
            raise UnreachableError("down")
        for name, path in paths.items():
            if any(uid in str(path) for uid in self.refused):
                yield name, ArchiveError("refused")
            else:
                self.got.append(path.stem)
                yield name, None

    def request_commitments(self, _: Any, requests: Mapping[str, Any], **options: Any) -> bool:
        self.requests |= requests
        return self.commits


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Peer:
    found = Peer()
    monkeypatch.setattr(dimse, "send", found.send)
    monkeypatch.setattr(dimse, "request_commitments", found.request_commitments)
    return found


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    """A spool with two analysed studies of one image."""
    found = Spool(make_config(tmp_path))
    with found.opened():
        for number in (1, 2):
            facts = make_facts(number, study_uid=f"1.3.{number}")
            found.store(b"image", facts, found.rules["chest"], ae="CR1")
            study = found.studies[-1]
            result = write_radiograph(
                study.result_folder / "seg" / f"1.2.{number}.dcm",
                np.zeros(SHAPE, np.uint8),
                SOPInstanceUID=f"1.9.{number}",
            )
            study.note_analysis(study.images, {f"seg/1.2.{number}.dcm": sha256_of(result)})
        yield found


@pytest.fixture
def sender(spool: Spool) -> Iterator[Sender]:
    config = make_config(spool.folder.parent)
    audit = Audit(config.spool)
    yield Sender("pacs", config, spool, audit, Metrics())
    audit.close()


def reread(study: Study) -> Study:
    """The study as another process would find it."""
    return Study.read(study.folder, study.backoff.retry)


def report(transaction: str, *stored: str) -> Any:
    information = Dataset()
    information.TransactionUID = transaction
    information.ReferencedSOPSequence = []
    for uid in stored:
        item = Dataset()
        item.ReferencedSOPInstanceUID = uid
        information.ReferencedSOPSequence.append(item)
    return SimpleNamespace(event_information=information)


def test_each_result_is_sent_once(sender: Sender, spool: Spool, peer: Peer) -> None:
    sender.send_all()
    sender.send_all()
    assert peer.got == ["1.2.1", "1.2.2"]
    assert [reread(study).due_for("pacs") for study in spool.studies] == [{}, {}]


def test_a_destination_that_is_down_is_tried_again_later(sender: Sender, spool: Spool, peer: Peer) -> None:
    peer.is_down = True
    sender.send_all()
    assert (sender.problem, sender.waiting, sender.backoff.is_over) == ("down", 2, False)
    peer.is_down = False
    sender.send_all()
    assert (sender.problem, sender.waiting, sender.backoff.is_over) == ("", 0, True)


def test_a_study_that_is_refused_does_not_stop_the_others(sender: Sender, spool: Spool, peer: Peer) -> None:
    peer.refused = {"1.3.1"}
    sender.send_all()
    assert (peer.got, sender.waiting) == (["1.2.2"], 1)
    assert sender.backoff.is_over


def test_results_are_complete_once_they_are_committed(sender: Sender, spool: Spool, peer: Peer) -> None:
    sender.send_all()
    assert [study.finished_at for study in spool.studies] == [None, None]
    first, second = peer.requests
    assert sender.take_report(report(first, "1.9.1"))[0] == 0
    assert sender.take_report(report(second))[0] == 0
    assert [study.finished_at is None for study in spool.studies] == [False, True]
    assert sender.waiting == 1  # what was not kept is sent again
    sender.send_all()
    assert peer.got == ["1.2.1", "1.2.2", "1.2.2"]


def test_a_destination_that_loses_results_again_and_again_is_given_time_and_is_not_healthy(
    sender: Sender, spool: Spool, peer: Peer
) -> None:
    """Commitment that is refused is no delivery, however often: 30 times is more than a day at the longest waits."""
    study = spool.studies[0]
    waits = []
    for _ in range(30):
        sender.send_all()
        sender.take_report(report(str(study.delivery("pacs").transaction_uid)))
        waits.append(sender._backoff_of(study)._due)
        sender._backoff_of(study)._due = 0.0
    assert peer.got.count("1.2.1") == 30
    assert peer.got.count("1.2.2") == 1
    assert waits[0] == 0.0
    assert all(waits[1:])
    assert sender._backoff_of(study).failures == 29  # the wait doubles with each
    assert "has not kept 1 results" in sender.problem
    assert reread(study).finished_at is None
    sender.send_all()
    sender.take_report(report(str(study.delivery("pacs").transaction_uid), "1.9.1"))
    assert (sender.problem, study.finished_at is None) == ("", False)


def test_a_request_of_commitment_that_failed_is_forgotten_once_the_destination_answers(
    sender: Sender, spool: Spool, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **options: Any) -> bool:
        raise UnreachableError("down")

    monkeypatch.setattr(dimse, "request_commitments", fail)
    sender.send_all()
    assert sender.problem == "down"
    monkeypatch.setattr(dimse, "request_commitments", peer.request_commitments)
    sender.send_all()
    assert (sender.problem, sender.backoff.failures) == ("", 0)


def test_commitment_is_requested_again_after_the_clock_was_set_back(
    sender: Sender, spool: Spool, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender.send_all()
    for now, requests in ((1e9, 2), (1e9 + 200, 2), (1e9 + 400, 4)):
        monkeypatch.setattr("time.time", lambda now=now: now)
        sender.send_all()
        assert len(peer.requests) == requests


def test_a_report_of_another_transaction_changes_nothing(sender: Sender, spool: Spool, peer: Peer) -> None:
    sender.send_all()
    assert sender.take_report(report("1.2.3.4"))[0] == 0x0112
    assert sender.take_report(report(""))[0] == 0x0112
    assert sender.waiting == 0


def test_a_destination_without_commitment_is_not_waited_for(sender: Sender, spool: Spool, peer: Peer) -> None:
    peer.commits = False
    sender.send_all()
    assert all(study.finished_at is not None for study in spool.studies)


def test_commitment_is_not_requested_twice_at_once(sender: Sender, spool: Spool, peer: Peer) -> None:
    sender.send_all()
    sender.send_all()
    assert len(peer.requests) == 2


@pytest.mark.parametrize("damage", [None, b"no DICOM"])
def test_a_damaged_result_delays_its_study_alone_and_ends_nothing(
    sender: Sender, spool: Spool, monkeypatch: pytest.MonkeyPatch, damage: bytes | None
) -> None:
    got: list[str] = []

    def send(_: Any, paths: Mapping[str, Path], **options: Any) -> Iterator[tuple[str, ArchiveError | None]]:
        for name, path in paths.items():
            got.append(str(dcmread(path).SOPInstanceUID))
            yield name, None

    monkeypatch.setattr(dimse, "send", send)
    monkeypatch.setattr(dimse, "request_commitments", lambda *_, **options: False)
    result = spool.studies[0].result_folder / "seg" / "1.2.1.dcm"
    whole = result.read_bytes()
    result.unlink()
    if damage is not None:
        result.write_bytes(damage)
    sender.send_all()
    assert (got, sender.waiting, sender.backoff.is_over) == (["1.9.2"], 1, True)
    assert sender.problem == "results of 1 studies cannot be sent; the audit log says why"
    result.write_bytes(whole)
    monkeypatch.setattr("time.monotonic", lambda: float("inf"))
    sender.send_all()
    assert (got, sender.waiting, sender.problem) == (["1.9.2", "1.9.1"], 0, "")
