"""Watch a folder: run `predict_folder` on its files as soon as they are complete, until a signal ends it."""

import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from pneumoseg.pipeline.core.devices import resolve_device
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.core.interruption import InterruptedRunError, Interruption
from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.inference.model import ModelOptions, load_model
from pneumoseg.pipeline.jobs.cluster import LOCAL
from pneumoseg.pipeline.jobs.predict import PredictReport, predict_folder
from pneumoseg.pipeline.reading.folders import list_files, may_be_radiograph
from pneumoseg.pipeline.reading.readers import Readers
from pneumoseg.pipeline.results.receipts import has_receipts
from pneumoseg.transforms.reader.radiograph import read_radiograph

_TEMPORARY: Final = (
    ".part", ".partial", ".tmp", ".temp", ".filepart", ".crdownload", ".writing", ".upload", "~",
)  # fmt: skip
"""Ends of names that programs give to files and folders which they have not finished."""
_Signature = tuple[int, int, int]
"""Size in bytes, and the times of the last change of the content and of the file in nanoseconds.

The latter tells when another file of the same size and time is moved to the same place.
"""


def watch_folder(
    model_folder: str | Path,
    folder: str | Path,
    output: str | Path,
    *,
    options: ModelOptions = ModelOptions(),
    runtime: Runtime = Runtime(),
    settle_s: float = 5.0,
    on_pass: Callable[[PredictReport], None] = lambda _: None,
    **settings: Any,
) -> int:
    """Segment every radiograph that arrives in a folder, until SIGINT or SIGTERM.

    A file is complete when its size and time have not changed for *settle_s*, or when it appears with a time that is
    older, as a file does that was renamed into place. Results and receipts are those of `predict_folder`, which runs
    for each group of new files; the tables are written anew each time. Results of files that are moved away stay.

    Args:
        model_folder: Model folder written by `train_model`, or the name of a model of the package.
        folder: Folder to watch, with its subfolders.
        output: Folder for the results.
        options: How to use the model.
        runtime: Device, batch size and workers.
        settle_s: Seconds without a change after which a file is complete.
        on_pass: Called with the report after each group of files.
        settings: Further arguments of `predict_folder`.

    Returns: Number of the signal.

    Raises:
        UsageError: If an argument does not fit.
        JobError: If the model cannot be used, or another process uses *output*.
    """
    model_folder, folder, output = Path(model_folder), Path(folder), Path(output)
    if not folder.is_dir():
        raise UsageError(f"{folder}: is not a folder that can be watched")
    if settings.pop("part", None) is not None or settings.pop("overwrite", False):
        raise UsageError("--watch cannot be combined with --num-parts or --overwrite; leave them out")
    if settings.pop("engine", LOCAL) != LOCAL:
        raise UsageError("--watch runs in one process; leave --engine out")
    model = load_model(model_folder, resolve_device(runtime.device), options)
    arrivals = Arrivals(folder, output, settle_s, follow_links=settings.get("follow_links", False))
    seen: Mapping[Path, _Signature] | None = None
    known: dict[Path, str] = {}
    readers = Readers(read_radiograph, acceptance=settings.get("acceptance"), workers=runtime.workers)
    with readers, Interruption() as interruption:
        while not interruption.received:
            complete = arrivals.complete()
            # what earlier results do not allow is reported at once, and not when the first file arrives
            is_due = complete or (seen is None and has_receipts(output))
            if is_due and complete != seen:
                unchanged = dict((seen or {}).items() & complete.items())
                known = {path: digest for path, digest in known.items() if path in unchanged}
                try:
                    report = predict_folder(
                        model_folder, folder, output, options=options, runtime=runtime, model=model,
                        readers=readers, only=complete, known=known, **settings,
                    )  # fmt: skip
                except InterruptedRunError as error:
                    return error.exit_code - 128
                seen = complete
                on_pass(report)
            _wait(min(1.0, settle_s / 2), interruption)
    return interruption.received


def _wait(seconds: float, interruption: Interruption) -> None:
    end = time.monotonic() + seconds
    while not interruption.received and time.monotonic() < end:
        time.sleep(0.05)


@dataclass
class _Seen:
    """A file as it was at the last look.

    Attributes:
        path: Its path.
        signature: Its size and time.
        since: Moment since which it has not changed.
    """

    path: Path
    signature: _Signature
    since: float

    @cached_property
    def may_be_radiograph(self) -> bool:
        """Whether `predict_folder` would take it; its first bytes are read once for each of its versions."""
        return may_be_radiograph(self.path)


@dataclass
class Arrivals:
    """The radiographs in a folder, and since when each has not changed.

    Attributes:
        folder: Folder with subfolders; those with results of earlier commands, and files and folders with the name of
            a hidden or an unfinished one, are left out.
        leave_out: Folder in it to leave out, with the results.
        settle_s: Seconds without a change after which a file is complete.
        follow_links: Whether to follow links in it.
    """

    folder: Path
    leave_out: Path
    settle_s: float
    follow_links: bool = False
    _seen: dict[Path, _Seen] = field(default_factory=dict)

    def complete(self) -> Mapping[Path, _Signature]:
        """Look at the folder; returns the complete radiographs with their sizes and times."""
        now, today = time.monotonic(), time.time()
        before, self._seen = self._seen, {}  # files that have gone are forgotten
        found: dict[Path, _Signature] = {}
        for path, signature in self._files():
            seen = before.get(path)
            if seen is None or seen.signature != signature:
                age = today - signature[1] / 1e9
                since = now - age if seen is None and age >= self.settle_s else now
                seen = _Seen(path, signature, since)
            self._seen[path] = seen
            if now - seen.since >= self.settle_s and seen.may_be_radiograph:
                found[path] = signature
        return found

    def _files(self) -> Iterator[tuple[Path, _Signature]]:
        if not self.folder.is_dir():  # a drive may come back
            return
        paths, _ = list_files(self.folder, leave_out=[self.leave_out], follow_links=self.follow_links)
        for path in paths:
            if not any(map(_is_temporary, path.relative_to(self.folder).parts)):
                with suppress(OSError):  # it has just gone
                    status = path.stat()
                    if stat.S_ISREG(status.st_mode):
                        yield path, (status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _is_temporary(name: str) -> bool:
    return name.startswith(".") or name.casefold().endswith(_TEMPORARY)
