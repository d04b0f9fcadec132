"""The spool: received images on disk, synced before they are acknowledged, within bounds."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Condition
from typing import Final, Literal

from pneumoseg.pipeline.core.claims import locked, remove_unfinished
from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.files import sync_folder, written_atomically
from pneumoseg.pipeline.pacs.config import ListenConfig, Rule
from pneumoseg.pipeline.pacs.rules import ImageFacts
from pneumoseg.pipeline.pacs.study import IMAGES, State, Study

STUDIES: Final = "studies"
_GIB: Final = 2**30


Kept = Literal["new", "again"]
"""What has become of an image that was stored; the same bytes as of one that comes again were there already."""


class SpoolFullError(Exception):
    """There is no room for another image; the message says which bound was reached."""


class OtherContentError(Exception):
    """The study has an image with this SOPInstanceUID and other content."""


class Spool:
    """All studies that are received, analysed or being sent, by StudyInstanceUID and rule.

    Args:
        config: Configuration of the listener.
    """

    def __init__(self, config: ListenConfig) -> None:
        self.folder = config.spool
        self.limits = config.limits
        self.retry = config.retry
        self.retention_s = config.retention_h * 3600
        self.rules = {rule.name: rule for rule in config.rules}
        self.changed = Condition()
        """Notified when there may be something to analyse or to send."""
        self._studies: dict[tuple[str, str], Study] = {}
        self.used_bytes = 0
        """Sum of the sizes of all images."""

    @contextmanager
    def opened(self) -> Iterator[list[Path]]:
        """Lock the spool, remove what a killed process left unfinished, and read all studies.

        Yields: Folders of studies that cannot be used, since their state is damaged and their rule has gone.
        Raises: JobError: If another process uses the spool.
        """
        root = self.folder / STUDIES
        root.mkdir(parents=True, exist_ok=True)
        with locked(self.folder):
            remove_unfinished(root)
            unusable = []
            for folder in sorted(root.glob("*/*")):
                if not any((folder / IMAGES).glob("*")):  # killed before its first image was acknowledged
                    self._delete(folder)
                elif (study := self._read(folder)) is not None:
                    self._studies[folder.parent.name, folder.name] = study
                else:
                    unusable.append(folder)
            self.used_bytes = sum(study.size for study in self._studies.values())
            yield unusable

    def _read(self, folder: Path) -> Study | None:
        """Read a study; one with a damaged state is analysed and sent again, which makes the same results."""
        try:
            return Study.read(folder, self.retry)
        except JobError:
            rule = self.rules.get(folder.name)
            return Study.create(folder, _initial_state(rule, ae=""), self.retry) if rule else None

    @property
    def studies(self) -> list[Study]:
        """All studies, in the order of their first images."""
        with self.changed:
            return list(self._studies.values())

    @property
    def free_bytes(self) -> int:
        """Free bytes of the disk."""
        return shutil.disk_usage(self.folder).free

    def lacks_space(self, size: int = 0) -> bool:
        """Check whether the disk would have less free space than it is to keep.

        Args:
            size: Bytes to write before.
        """
        return self.free_bytes - size < self.limits.free_gb * _GIB

    def notify(self) -> None:
        """Wake up whoever waits for something to do."""
        with self.changed:
            self.changed.notify_all()

    def store(self, content: bytes, facts: ImageFacts, rule: Rule, *, ae: str) -> Kept:
        """Store an image; it is on disk when this returns.

        Args:
            content: Whole DICOM file.
            facts: Its facts, with valid UIDs.
            rule: Rule that was chosen for it.
            ae: AE title of the sender.

        Raises:
            SpoolFullError: If there is no room for it.
            OtherContentError: If another image of the study has its SOPInstanceUID.
            OSError: If it cannot be written.
        """
        name = f"{facts.sop_instance_uid}.dcm"
        self._check_room(len(content))
        while True:
            study = self._study(str(facts.study_uid), rule, ae)
            with study.lock:
                if study.folder.exists():  # else it was removed as complete just now
                    return self._add(study, name, content)

    def _study(self, uid: str, rule: Rule, ae: str) -> Study:
        with self.changed:
            study = self._studies.get((uid, rule.name))
            if study is not None and not study.folder.exists():  # somebody has deleted it
                self.used_bytes -= study.size
                study = None
            if study is None:
                folder = self.folder / STUDIES / uid / rule.name
                study = Study.create(folder, _initial_state(rule, ae=ae), self.retry)
                self._studies[uid, rule.name] = study
            return study

    def _add(self, study: Study, name: str, content: bytes) -> Kept:
        path = study.folder / IMAGES / name
        if path.exists():
            if path.read_bytes() == content:
                return "again"
            raise OtherContentError
        with written_atomically(path) as temporary:
            temporary.write_bytes(content)
        sync_folder(path.parent)
        study.add(name, len(content))
        with self.changed:
            self.used_bytes += len(content)
            self.changed.notify_all()
        return "new"

    def _check_room(self, size: int) -> None:
        """Check that an image would fit; complete studies make room for it."""
        for is_last in (False, True):
            if self.used_bytes + size > self.limits.spool_gb * _GIB:
                bound = "limits.spool_gb"
            elif self.lacks_space(size):
                bound = "limits.free_gb"
            else:
                return
            if is_last:
                raise SpoolFullError(bound)
            self.remove_finished(older_than_s=0)

    def remove_finished(self, older_than_s: float | None = None) -> int:
        """Remove studies that are complete.

        Args:
            older_than_s: Seconds since their completion; None for the configured retention.

        Returns: Number of studies that were removed.
        """
        bound = time.monotonic() - (self.retention_s if older_than_s is None else older_than_s)
        removed = 0
        with self.changed:
            for key, study in list(self._studies.items()):
                # one that is in use stays: its thread may wait for `changed`, and neither would ever continue
                if not study.lock.acquire(blocking=False):
                    continue
                try:
                    if study.finished_at is not None and study.finished_at <= bound:
                        del self._studies[key]
                        self.used_bytes -= study.size
                        self._delete(study.folder)
                        removed += 1
                finally:
                    study.lock.release()
        return removed

    @staticmethod
    def _delete(folder: Path) -> None:
        """Delete the folder of a study, the images first: without them, a rest of it is deleted at the next start."""
        shutil.rmtree(folder / IMAGES, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # the study has a folder of another rule
            folder.parent.rmdir()


def _initial_state(rule: Rule, *, ae: str) -> State:
    return State(ae=ae, rule=rule.name, outputs=rule.outputs, send_to=rule.send_to)
