"""The listener: receiver, analysis, senders and monitor around one spool, until a signal ends it."""

import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
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
from pneumoseg.transforms.reader.reasons import Reason

_PAUSE_S: Final = 0.5  # between looks for a study that is due
_CLEANING_S: Final = 60.0
_MANY_FAILURES: Final = 3  # of one analysis, after which the listener is not healthy
_OF_MACHINE: Final = frozenset(
    {Reason.TIMED_OUT, Reason.DECODER_DIED}
)  # or of the image: tried again some times
_UID: Final = re.compile(r"[0-9]+(\.[0-9]+){3,}")  # names of files are UIDs


@dataclass(frozen=True)
class ImageOutcome:
    """What has become of an image in the analysis.

    Attributes:
        status: Status of its row in the tables.
        reason: Reasons of a refusal or a warning, separated by spaces.
        left_out: DICOM results that could not be made, each with the reason.
    """

    status: str
    reason: str = ""
    left_out: str = ""


@dataclass(frozen=True)
class Analysed:
    """What the analysis of a study has made.

    Attributes:
        results: SHA-256 of each DICOM result, by its path within the folder of the results.
        images: Outcome of each image, by its file name.
    """

    results: Mapping[str, str]
    images: Mapping[str, ImageOutcome]


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
        self._unusable = 0

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
            unusable = stack.enter_context(self.spool.opened())
            self._unusable = len(unusable)
            for folder in unusable:
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
            "results_waiting",
            "Results that are not sent",
            lambda: sum(each.waiting for each in self.senders) + self._without_destination(),
        )
        watch("spool_bytes", "Bytes of the images in the spool", lambda: self.spool.used_bytes)
        watch("free_bytes", "Free bytes of the disk", lambda: self.spool.free_bytes)

    def _waiting(self) -> list[Study]:
        return [study for study in self.spool.studies if not study.is_analysed]

    def _without_destination(self) -> int:
        """Count the results for destinations that the configuration no longer names."""
        return sum(
            len(study.due_for(name))
            for study in self.spool.studies
            for name in study.state.send_to
            if name not in self.config.destinations
        )

    def problems(self) -> dict[str, str]:
        """List what is wrong, by part, without identifiers; empty if all is well."""
        found = {f"destination {each.name}": each.problem for each in self.senders if each.problem}
        failing = sum(study.backoff.failures >= _MANY_FAILURES for study in self._waiting())
        if failing:
            found["analysis"] = f"{failing} studies cannot be analysed; the audit log says why"
        if lost := self._without_destination():
            found["configuration"] = f"{lost} results wait for destinations that it does not name"
        if self._unusable:
            found["studies"] = (
                f"{self._unusable} studies have a damaged state.json, and a rule that the configuration does not name"
            )
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
            settled = [name for name in images if self._is_settled(study, made.images.get(name))]
            new = set(settled) - set(study.state.analysed)
            study.note_analysis(settled, made.results)
        except InterruptedRunError:
            raise
        except Exception as error:  # noqa: BLE001  (one study must not end the listener; it is tried again)
            self._fail(study, str(error) if isinstance(error, JobError) else explain(error))
            return True
        self._note(study, made, new, seconds=time.monotonic() - began)
        if unsettled := len(images) - len(settled):
            self._fail(study, f"{unsettled} images could not be read")
        self.spool.notify()
        return True

    @staticmethod
    def _is_settled(study: Study, image: ImageOutcome | None) -> bool:
        """Check whether the outcome of an image is final; one that was not read for want of time may be read later."""
        if image is None or Reason.UNREADABLE in image.reason.split():  # the disk, and not the file
            return False
        return study.backoff.failures >= _MANY_FAILURES or _OF_MACHINE.isdisjoint(image.reason.split())

    def _fail(self, study: Study, why: str) -> None:
        wait = round(study.backoff.fail(), 1)
        self.metrics.failed.inc()
        self.audit.write("analysis failed", study=study.uid, why=_UID.sub("UID", why), retry_in_s=wait)

    def _note(self, study: Study, made: Analysed, new: Collection[str], *, seconds: float) -> None:
        """Count what was made, and log why images have no results, or not all, or have to be reviewed."""
        self.metrics.seconds.observe(seconds)
        for name in sorted(new):
            image = made.images[name]
            self.metrics.analysed.labels(image.status).inc()
            if image.left_out:
                self.metrics.incomplete.inc()
            if image.reason or image.left_out:
                instance = name.removesuffix(".dcm")
                self.audit.write("image", study=study.uid, instance=instance, **asdict(image))
        statuses = Counter(image.status for image in made.images.values())
        facts: dict[str, Any] = {"images": len(made.images), "results": len(made.results), **statuses}
        self.audit.write("analysed", study=study.uid, seconds=round(seconds, 3), **facts)

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
