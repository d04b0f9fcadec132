"""The listener: receiver, analysis, senders and monitor around one spool, until a signal ends it."""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydicom.dataset import Dataset
from pynetdicom import evt

from pneumoseg.pipeline.core.errors import JobError, explain
from pneumoseg.pipeline.core.interruption import InterruptedRunError, Interruption
from pneumoseg.pipeline.pacs.audit import Audit
from pneumoseg.pipeline.pacs.config import ListenConfig
from pneumoseg.pipeline.pacs.metrics import Metrics
from pneumoseg.pipeline.pacs.monitor import served
from pneumoseg.pipeline.pacs.receiver import NO_SUCH_TRANSACTION, SUCCESS, Receiver
from pneumoseg.pipeline.pacs.sender import Sender
from pneumoseg.pipeline.pacs.spool import Spool
from pneumoseg.pipeline.pacs.study import IMAGES, Study

_PAUSE_S: Final = 0.5  # between looks for a study that is due
_CLEANING_S: Final = 60.0
_MANY_FAILURES: Final = 3  # of one analysis, after which the listener is not healthy
_UID: Final = re.compile(r"[0-9]+(\.[0-9]+){3,}")  # names of files are UIDs


@dataclass(frozen=True)
class Analysed:
    """What the analysis of a study has made.

    Attributes:
        results: SHA-256 of each DICOM result, by its path within the folder of the results.
        statuses: Number of images by status.
    """

    results: Mapping[str, str]
    statuses: Mapping[str, int] = field(default_factory=dict)


Analyse = Callable[[Path, Path, Sequence[str]], Analysed]
"""Analyse a folder of images: writes results of the given kinds into another folder."""


class Service:
    """The running listener.

    Args:
        config: Configuration.
        analyse: Analyses a folder of images.
    """

    def __init__(self, config: ListenConfig, analyse: Analyse) -> None:
        self.config = config
        self.analyse = analyse
        self.metrics = Metrics()
        self.spool = Spool(config)
        self.audit = Audit(config.spool)
        self.senders = [
            Sender(name, config, self.spool, self.audit, self.metrics) for name in config.destinations
        ]
        self.receiver = Receiver(config, self.spool, self.audit, self.metrics, self._take_report)
        self._cleaned = time.monotonic()

    def run(self, ready: Callable[[], None]) -> int:
        """Run until SIGINT or SIGTERM; what has been acknowledged stays in the spool for the next start.

        Args:
            ready: Called once as soon as associations are accepted.

        Returns: Number of the signal.
        Raises: JobError: If the spool or a port cannot be used.
        """
        with self._parts(), Interruption() as interruption:
            ready()
            while not interruption.received:
                try:
                    if not self.analyse_next():
                        with self.spool.changed:
                            self.spool.changed.wait(_PAUSE_S)
                    self._clean()
                except InterruptedRunError as error:  # the analysis got the signal
                    return error.exit_code - 128
            return interruption.received

    @contextmanager
    def _parts(self) -> Iterator[None]:
        """Start all parts, and end them in the opposite order: first nothing more is received."""
        with ExitStack() as stack:
            stack.callback(self.audit.close)
            for folder in stack.enter_context(self.spool.opened()):
                self.audit.write("unusable", study=folder.parent.name)
            self._add_gauges()
            stack.enter_context(served(self.config.monitor, self.metrics.registry, self.problems))
            stack.callback(lambda: self.audit.write("end"))
            for sender in self.senders:
                sender.start()
                stack.callback(sender.stop)
            stack.enter_context(self.receiver.listening())
            self.audit.write("begin", studies=len(self.spool.studies))
            yield

    def _add_gauges(self) -> None:
        watch = self.metrics.watch
        watch("associations", "Open associations", lambda: self.receiver.associations)
        watch("studies", "Studies in the spool", lambda: len(self.spool.studies))
        watch("studies_waiting", "Studies that are not analysed", lambda: len(self._waiting()))
        watch(
            "results_waiting", "Results that are not sent", lambda: sum(each.waiting for each in self.senders)
        )
        watch("spool_bytes", "Bytes of the images in the spool", lambda: self.spool.used_bytes)
        watch("free_bytes", "Free bytes of the disk", lambda: self.spool.free_bytes)

    def _waiting(self) -> list[Study]:
        return [study for study in self.spool.studies if not study.is_analysed]

    def problems(self) -> dict[str, str]:
        """List what is wrong, by part, without identifiers; empty if all is well."""
        found = {f"destination {each.name}": each.problem for each in self.senders if each.problem}
        failing = sum(study.backoff.failures >= _MANY_FAILURES for study in self._waiting())
        if failing:
            found["analysis"] = f"{failing} studies cannot be analysed; the audit log says why"
        if self.spool.lacks_space():
            found["spool"] = "limits.free_gb is reached: images are refused"
        return found

    def analyse_next(self) -> bool:
        """Analyse one study that is due; returns whether there was one."""
        study = next((study for study in self.spool.studies if study.is_due(self.config.quiet_s)), None)
        if study is None:
            return False
        with study.lock:
            images = tuple(study.images)
        began = time.monotonic()
        try:
            made = self.analyse(study.folder / IMAGES, study.result_folder, study.state.outputs)
            study.note_analysis(images, made.results)
        except InterruptedRunError:
            raise
        except Exception as error:  # noqa: BLE001  (one study must not end the listener; it is tried again)
            why = _UID.sub("UID", str(error) if isinstance(error, JobError) else explain(error))
            wait = round(study.backoff.fail(), 1)
            self.metrics.failed.inc()
            self.audit.write("analysis failed", study=study.uid, why=why, retry_in_s=wait)
            return True
        seconds = time.monotonic() - began
        self.metrics.seconds.observe(seconds)
        for status, count in made.statuses.items():
            self.metrics.analysed.labels(status).inc(count)
        facts: dict[str, Any] = {"images": len(images), "results": len(made.results), **made.statuses}
        self.audit.write("analysed", study=study.uid, seconds=round(seconds, 3), **facts)
        self.spool.notify()
        return True

    def _clean(self) -> None:
        if time.monotonic() - self._cleaned >= _CLEANING_S:
            self._cleaned = time.monotonic()
            if removed := self.spool.remove_finished():
                self.audit.write("removed", studies=removed)

    def _take_report(self, event: evt.Event) -> tuple[int, Dataset | None]:
        """Hand a report of storage commitment to the sender that has requested it."""
        for sender in self.senders:
            status, answer = sender.take_report(event)
            if status == SUCCESS:
                return status, answer
        return NO_SUCH_TRANSACTION, None
