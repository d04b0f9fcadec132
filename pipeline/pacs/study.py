"""One study in the spool: its images, its results and what has become of them; everything that counts is on disk."""

import json
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from threading import RLock
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.files import sync_folder, write_json
from pneumoseg.pipeline.pacs.config import Name, OutputKind, Retry

IMAGES: Final = "images"
RESULTS: Final = "results"
STATE: Final = "state.json"
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_ResultPath = Annotated[str, Field(pattern=r"^(seg|sr|sc|gsps)/[A-Za-z0-9][A-Za-z0-9._-]*\.dcm$")]


class Delivery(BaseModel):
    """What a destination has got.

    Attributes:
        acknowledged: SHA-256 of each result that the destination has acknowledged, by its path.
        transaction_uid: Transaction UID of a request for storage commitment that has no answer yet.
        requested_at: Time of the first such request, in seconds since 1970.
        requests: Number of such requests.
        committed: SHA-256 of each result that the destination has committed to, or that is not waited for any longer.
    """

    model_config = ConfigDict(extra="forbid")

    acknowledged: dict[_ResultPath, _Digest] = Field(default_factory=dict)
    transaction_uid: str | None = None
    requested_at: float | None = None
    requests: int = 0
    committed: dict[_ResultPath, _Digest] = Field(default_factory=dict)


class State(BaseModel):
    """The content of ``state.json``.

    Attributes:
        ae: AE title of the sender.
        rule: Name of the rule that was chosen when the first image arrived.
        outputs: Requested kinds of results.
        send_to: Names of the destinations.
        analysed: File names of the images that have been analysed.
        results: SHA-256 of each result, by its path within the folder of the results.
        deliveries: What each destination has got.
    """

    model_config = ConfigDict(extra="forbid")

    ae: str
    rule: Name
    outputs: tuple[OutputKind, ...]
    send_to: tuple[Name, ...]
    analysed: tuple[str, ...] = ()
    results: dict[_ResultPath, _Digest] = Field(default_factory=dict)
    deliveries: dict[Name, Delivery] = Field(default_factory=dict)


class Backoff:
    """Waiting time after failures: it doubles with each, up to a limit.

    Args:
        retry: First and longest waiting time.
    """

    def __init__(self, retry: Retry) -> None:
        self.retry = retry
        self.failures = 0
        self._due = 0.0

    @property
    def is_over(self) -> bool:
        """Whether the next attempt may begin."""
        return time.monotonic() >= self._due

    def fail(self) -> float:
        """Note a failure; returns the seconds until the next attempt."""
        wait = min(self.retry.first_s * 2.0 ** min(self.failures, 30), self.retry.longest_s)
        self.failures += 1
        self._due = time.monotonic() + wait
        return wait

    def succeed(self) -> None:
        """Note a success, which ends all waiting."""
        self.failures, self._due = 0, 0.0


class Study:
    """The images of one study that one rule has chosen, with their results.

    A study is analysed as soon as it has images that were not, and none has arrived for a while; it is complete when
    all its images are analysed and every destination has acknowledged, and committed to, every result. All of that
    follows from the files in its folder, so that a process that is killed at any moment leaves nothing to repair.

    Args:
        folder: Folder of the study, which exists and holds ``state.json``.
        state: Content of ``state.json``.
        retry: Waiting times between attempts to analyse it.
    """

    def __init__(self, folder: Path, state: State, retry: Retry) -> None:
        self.folder = folder
        self.state = state
        self.lock = RLock()
        self.backoff = Backoff(retry)
        self.images = {path.name: path.stat().st_size for path in (folder / IMAGES).iterdir()}
        self._arrived = time.monotonic() - max(0.0, time.time() - (folder / IMAGES).stat().st_mtime)
        self.finished_at: float | None = None
        self._note_finish()

    @classmethod
    def create(cls, folder: Path, state: State, retry: Retry) -> "Study":
        """Create the folder of a study, on disk before this returns.

        Args:
            folder: Folder to create, in a folder that exists.
            state: Initial content of ``state.json``.
            retry: Waiting times between attempts to analyse it.
        """
        (folder / IMAGES).mkdir(parents=True, exist_ok=True)
        write_json(folder / STATE, state.model_dump(mode="json"))
        for place in (folder, folder.parent, folder.parent.parent):
            sync_folder(place)
        return cls(folder, state, retry)

    @classmethod
    def read(cls, folder: Path, retry: Retry) -> "Study":
        """Read a study from its folder.

        Args:
            folder: Folder of the study.
            retry: Waiting times between attempts to analyse it.

        Raises: JobError: If ``state.json`` is missing or damaged.
        """
        try:
            state = State.model_validate(json.loads((folder / STATE).read_text(encoding="utf-8")))
            return cls(folder, state, retry)
        except (OSError, ValueError, ValidationError) as error:
            raise JobError(
                f"{folder / STATE} cannot be read ({type(error).__name__}); was it changed by hand?"
            ) from None

    def add(self, name: str, size: int) -> None:
        """Note an image that is on disk.

        Args:
            name: File name of the image.
            size: Size of the file in bytes.
        """
        with self.lock:
            self.images[name] = size
            self._arrived = time.monotonic()
            self.finished_at = None
            self.backoff.succeed()

    @property
    def uid(self) -> str:
        """StudyInstanceUID."""
        return self.folder.parent.name

    @property
    def is_analysed(self) -> bool:
        """Whether all its images are."""
        return set(self.images) == set(self.state.analysed)

    def is_due(self, quiet_s: float) -> bool:
        """Check whether to analyse it now.

        Args:
            quiet_s: Seconds without a new image that end the arrival of a study.
        """
        with self.lock:
            quiet = time.monotonic() - self._arrived >= quiet_s
            return bool(self.images) and not self.is_analysed and quiet and self.backoff.is_over

    def note_analysis(self, images: Collection[str], results: Mapping[str, str]) -> None:
        """Keep the results of an analysis, on disk before this returns.

        Args:
            images: File names of the images that were analysed; the others are analysed again.
            results: SHA-256 of each result, by its path.
        """
        with self.lock:
            self._save(analysed=tuple(sorted(images)), results=dict(results))
            if self.is_analysed:
                self.backoff.succeed()

    def due_for(self, destination: str) -> dict[str, str]:
        """List the results that a destination has not acknowledged, by path, with their SHA-256.

        Args:
            destination: Name of the destination.
        """
        with self.lock:
            if destination not in self.state.send_to:
                return {}
            got = self.delivery(destination).acknowledged
            return {path: digest for path, digest in self.state.results.items() if got.get(path) != digest}

    def uncommitted(self, destination: str) -> dict[str, str]:
        """List the results that a destination has acknowledged but not committed to.

        Args:
            destination: Name of the destination.
        """
        with self.lock:
            delivery = self.delivery(destination)
            return {
                path: digest
                for path, digest in delivery.acknowledged.items()
                if delivery.committed.get(path) != digest
            }

    def delivery(self, destination: str) -> Delivery:
        """What a destination has got; nothing if nothing was sent yet.

        Args:
            destination: Name of the destination.
        """
        return self.state.deliveries.get(destination, Delivery())

    def acknowledge(self, destination: str, path: str, digest: str) -> None:
        """Keep that a destination has acknowledged a result.

        Args:
            destination: Name of the destination.
            path: Path of the result.
            digest: SHA-256 of what was sent.
        """
        with self.lock:
            delivery = self.delivery(destination)
            self.change_delivery(destination, acknowledged={**delivery.acknowledged, path: digest})

    def change_delivery(self, destination: str, **changes: object) -> None:
        """Keep changes of a delivery, on disk before this returns.

        Args:
            destination: Name of the destination.
            changes: New values of the attributes of `Delivery`.
        """
        with self.lock:
            delivery = self.delivery(destination).model_copy(update=changes)
            self._save(deliveries={**self.state.deliveries, destination: delivery})

    @property
    def result_folder(self) -> Path:
        """Folder of the results."""
        return self.folder / RESULTS

    @property
    def size(self) -> int:
        """Sum of the sizes of its images in bytes."""
        return sum(self.images.values())

    def _save(self, **changes: object) -> None:
        state = self.state.model_copy(update=changes)
        write_json(self.folder / STATE, state.model_dump(mode="json"))
        sync_folder(self.folder)
        self.state = state
        self._note_finish()

    def _note_finish(self) -> None:
        done = self.is_analysed and not any(
            self.due_for(name) or self.uncommitted(name) for name in self.state.send_to
        )
        if done and self.finished_at is None:
            self.finished_at = time.monotonic()
        elif not done:
            self.finished_at = None
