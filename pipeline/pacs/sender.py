"""Send results to a destination until it has acknowledged them, and ask it to commit to their storage."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Event, Thread
from typing import Final

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import evt

from pneumoseg.pipeline.pacs import dicomweb, dimse
from pneumoseg.pipeline.pacs.audit import Audit
from pneumoseg.pipeline.pacs.config import DicomDestination, ListenConfig
from pneumoseg.pipeline.pacs.dicomweb import ArchiveError, UnreachableError
from pneumoseg.pipeline.pacs.metrics import Metrics
from pneumoseg.pipeline.pacs.receiver import NO_SUCH_TRANSACTION, SUCCESS
from pneumoseg.pipeline.pacs.spool import Spool
from pneumoseg.pipeline.pacs.study import Backoff, Study
from pneumoseg.transforms.reader.elements import quiet_libraries

_PAUSE_S: Final = 1.0  # between looks for something to send, if nothing wakes the thread
_REPORT_S: Final = 300.0  # without a report, storage commitment is requested again


class Sender:
    """Sends results to one destination, in a thread of its own: a destination that is down delays no other.

    Args:
        name: Name of the destination.
        config: Configuration of the listener.
        spool: Spool with the studies.
        audit: Audit log.
        metrics: Metrics.
    """

    def __init__(self, name: str, config: ListenConfig, spool: Spool, audit: Audit, metrics: Metrics) -> None:
        self.name = name
        self.config = config
        self.destination = config.destinations[name]
        self.spool = spool
        self.audit = audit
        self.metrics = metrics
        self.backoff = Backoff(config.retry)
        self.problem = ""
        """Why the last attempt failed; empty if it did not."""
        self._refused: dict[Study, Backoff] = {}
        self._stopped = Event()
        self._thread = Thread(target=self._run, name=f"sender-{name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the file that it sends."""
        self._stopped.set()
        self.spool.notify()
        self._thread.join()

    @property
    def waiting(self) -> int:
        """Number of results that the destination has not acknowledged."""
        return sum(len(study.due_for(self.name)) for study in self.spool.studies)

    def _run(self) -> None:
        while not self._stopped.is_set():
            if self.backoff.is_over:
                self.send_all()
            with self.spool.changed:
                self.spool.changed.wait(_PAUSE_S)

    def send_all(self) -> None:
        """Send what is due, study by study, and request commitment; end where the destination cannot be reached."""
        try:
            for study in self.spool.studies:
                if self._stopped.is_set():
                    return
                if (due := study.due_for(self.name)) and self._backoff_of(study).is_over:
                    self._try(study, due)
            self._commit()
            self.backoff.succeed()
            if not self._stuck:
                self.problem = ""
        except Exception as error:  # noqa: BLE001  (the thread must not end)
            self._fail(self.backoff, _why(error))

    def _try(self, study: Study, due: Mapping[str, str]) -> None:
        """Send results of a study; a damaged one delays this study alone.

        Raises: UnreachableError: If the destination cannot be reached.
        """
        try:
            self._send(study, due)
        except UnreachableError:
            raise
        except Exception as error:  # noqa: BLE001  (of a file in the spool, and of the libraries that read it)
            self._fail(self._backoff_of(study), _why(error), study=study.uid)

    def _backoff_of(self, study: Study) -> Backoff:
        """Waiting time of a study whose results were refused: the others are sent meanwhile."""
        return self._refused.setdefault(study, Backoff(self.config.retry))

    def _fail(self, backoff: Backoff, why: str, *, study: str = "") -> None:
        wait = round(backoff.fail(), 1)
        self.problem = why
        self.metrics.send_failed.labels(self.name).inc()
        self.audit.write("send failed", study=study, destination=self.name, why=why, retry_in_s=wait)

    def _send(self, study: Study, due: Mapping[str, str]) -> None:
        """Send results of a study; a result that is refused does not stop the others.

        Raises: UnreachableError: If the destination cannot be reached.
        """
        refused: ArchiveError | None = None
        for path, error in self._attempts(study, due):
            if isinstance(error, UnreachableError):
                raise error
            if error is None:
                study.acknowledge(self.name, path, due[path])
                self.metrics.sent.labels(self.name).inc()
                instance = _identity(study.result_folder / path)[1]
                kind = path.partition("/")[0]
                self.audit.write("sent", study=study.uid, instance=instance, destination=self.name, kind=kind)
            refused = refused or error
            if self._stopped.is_set():
                return
        self.backoff.succeed()
        if refused is not None:
            self._fail(self._backoff_of(study), str(refused), study=study.uid)
        else:
            self._recover(study)

    @property
    def _stuck(self) -> int:
        """Number of studies whose results were refused or lost."""
        return sum(backoff.failures > 0 for backoff in list(self._refused.values()))

    def _recover(self, study: Study) -> None:
        """End the waiting time of a study, but for one whose results the destination has lost before."""
        if not study.delivery(self.name).requests:
            self._refused.pop(study, None)
        stuck = self._stuck
        self.problem = f"results of {stuck} studies cannot be sent; the audit log says why" if stuck else ""

    def _attempts(self, study: Study, due: Mapping[str, str]) -> Iterator[tuple[str, ArchiveError | None]]:
        paths = {path: study.result_folder / path for path in due}
        if isinstance(self.destination, DicomDestination):
            yield from dimse.send(self.destination, paths, ae_title=self.config.ae_title)
            return
        client = dicomweb.make_client(
            self.destination.url,
            credentials=self.destination.credentials,
            authorities=self.destination.authorities,
        )
        for name, path in paths.items():
            try:
                dicomweb.store(client, path)
                yield name, None
            except ArchiveError as error:
                yield name, error

    def _commit(self) -> None:
        """Request storage commitment for acknowledged results, and again where no report comes."""
        requests: dict[str, list[dimse.Identity]] = {}
        asked: list[Study] = []
        now = time.time()
        for study in self.spool.studies:
            pending = study.uncommitted(self.name)
            if not pending or study.due_for(self.name):
                continue
            delivery = study.delivery(self.name)
            if (delivery.requested_at or now) > now:  # the clock was set back
                study.change_delivery(self.name, requested_at=now)
                delivery = study.delivery(self.name)
            since = now - (delivery.requested_at or now)
            if not isinstance(self.destination, DicomDestination) or not self.destination.commitment:
                self._settle(study, "not requested")
            elif since > self.config.retry.commitment_h * 3600:
                self._settle(study, "no report")
            elif delivery.transaction_uid is None or since >= _REPORT_S * delivery.requests:
                transaction = str(generate_uid(prefix=None))
                # on disk first: the report may come before the response
                study.change_delivery(
                    self.name,
                    transaction_uid=transaction,
                    requested_at=delivery.requested_at or now,
                    requests=delivery.requests + 1,
                )
                requests[transaction] = [_identity(study.result_folder / path) for path in pending]
                asked.append(study)
        if requests and isinstance(self.destination, DicomDestination):
            ae_title = self.config.ae_title
            if not dimse.request_commitments(
                self.destination, requests, ae_title=ae_title, on_report=self.take_report
            ):
                for study in asked:
                    self._settle(study, "not offered")

    def _settle(self, study: Study, how: str) -> None:
        """Wait no longer for commitment to the results of a study."""
        delivery, pending = study.delivery(self.name), study.uncommitted(self.name)
        study.change_delivery(
            self.name,
            committed={**delivery.committed, **pending},
            transaction_uid=None,
            requested_at=None,
            requests=0,
        )
        self._recover(study)
        self.metrics.committed.labels(self.name, how).inc(len(pending))
        if how == "no report":
            self.audit.write("no commitment", study=study.uid, destination=self.name)

    def take_report(self, event: evt.Event) -> tuple[int, Dataset | None]:
        """Take a report of storage commitment (N-EVENT-REPORT).

        Results that the destination has not committed to are sent again.

        Args:
            event: Event with the report.

        Returns: Status of the response, and no data set.
        Source: DICOM PS3.4 J.3.3.
        """
        try:
            with quiet_libraries():
                report = event.event_information
                transaction = str(report.get("TransactionUID", ""))
                stored = {
                    str(item.get("ReferencedSOPInstanceUID"))
                    for item in report.get("ReferencedSOPSequence") or ()
                }
        except (ValueError, AttributeError, TypeError, KeyError):
            return NO_SUCH_TRANSACTION, None
        for study in self.spool.studies:
            with study.lock:
                if transaction and study.delivery(self.name).transaction_uid == transaction:
                    self._note_report(study, stored)
                    return SUCCESS, None
        return NO_SUCH_TRANSACTION, None

    def _note_report(self, study: Study, stored: set[str]) -> None:
        delivery, pending = study.delivery(self.name), study.uncommitted(self.name)
        kept = {
            path: digest
            for path, digest in pending.items()
            if _identity(study.result_folder / path)[1] in stored
        }
        lost = pending.keys() - kept.keys()
        study.change_delivery(
            self.name,
            committed={**delivery.committed, **kept},
            acknowledged={path: digest for path, digest in delivery.acknowledged.items() if path not in lost},
            transaction_uid=None,
            requested_at=None,
            requests=delivery.requests if lost else 0,
        )
        self.metrics.committed.labels(self.name, "committed").inc(len(kept))
        self.metrics.committed.labels(self.name, "lost").inc(len(lost))
        self.audit.write("committed", study=study.uid, destination=self.name, kept=len(kept), lost=len(lost))
        if not lost:
            self._recover(study)
        elif delivery.requests > 1:  # not for the first time
            why = f"the destination has not kept {len(lost)} results"
            self._fail(self._backoff_of(study), why, study=study.uid)
        self.spool.notify()


def _why(error: Exception) -> str:
    """Describe an error without quoting a file."""
    if isinstance(error, ArchiveError):
        return str(error)
    return f"a result cannot be read or noted ({getattr(error, 'strerror', None) or type(error).__name__})"


def _identity(path: Path) -> dimse.Identity:
    with quiet_libraries():
        header = dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID", "SOPInstanceUID"])
    return str(header.SOPClassUID), str(header.SOPInstanceUID)
