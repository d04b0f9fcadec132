"""Fetch radiographs from an archive by DICOMweb into a folder, and resume where an earlier run has ended."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from dicomweb_client import DICOMwebClient

from pneumoseg.pipeline.core.claims import locked, remove_unfinished
from pneumoseg.pipeline.core.console import Pace, say
from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.interruption import InterruptedRunError, Interruption
from pneumoseg.pipeline.pacs.config import CREDENTIALS
from pneumoseg.pipeline.pacs.dicomweb import ArchiveError, UnreachableError, make_client
from pneumoseg.pipeline.pacs.pull import (
    DEFAULT_QUERY,
    Instance,
    Query,
    fetch,
    find_instances,
    find_studies,
    parse_query,
)


@dataclass
class PullReport:
    """What was fetched.

    Attributes:
        studies: Number of studies that were found.
        fetched: Number of instances that were fetched.
        kept: Number of instances that were there from an earlier run.
        failed: For each instance or study that could not be fetched, its UID and the reason.
    """

    studies: int = 0
    fetched: int = 0
    kept: int = 0
    failed: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0, or 3 if something could not be fetched."""
        return 3 if self.failed else 0


def pull_images(
    url: str,
    output: str | Path,
    *,
    query: Sequence[str] = (),
    credentials: str = CREDENTIALS,
    limit: int | None = None,
) -> PullReport:
    """Fetch all instances that fit a query, each as ``STUDY/SERIES/SOP.dcm`` of its UIDs.

    A file is complete as soon as it has its name, so that a rerun fetches what is missing.

    Args:
        url: Root of the DICOMweb services.
        output: Folder for the files.
        query: ``KEYWORD=VALUE`` conditions on studies and series; none selects the modalities CR and DX.
        credentials: Prefix of the environment variables with the credentials.
        limit: Most studies to fetch; None for all.

    Raises:
        UsageError: If the URL, a condition or the credentials do not fit.
        JobError: If the archive cannot be reached, nothing was found, or a signal was received.
    """
    output, conditions = Path(output), parse_query(query)
    report = PullReport()
    client = make_client(url, credentials=credentials)
    output.mkdir(parents=True, exist_ok=True)
    with locked(output), Interruption() as interruption:
        remove_unfinished(output)
        pulling = _Pulling(client, conditions, output, report)
        try:
            for instance in pulling.find(limit):
                if interruption.received:
                    raise InterruptedRunError(
                        f"interrupted; {report.fetched} images are fetched, the same command continues",
                        interruption.received,
                    )
                pulling.fetch(instance)
        except ArchiveError as error:
            raise JobError(
                f"{url}: {error}; {report.fetched} images are fetched, the same command continues"
            ) from None
    if not report.studies:
        raise JobError(f"{url}: no study fits {' '.join(query or DEFAULT_QUERY)}; look at --query")
    return report


@dataclass
class _Pulling:
    """One run; an error of a single study or instance is listed, and the others continue."""

    client: DICOMwebClient
    conditions: Query
    output: Path
    report: PullReport
    pace: Pace = field(default_factory=lambda: Pace(0))

    def find(self, limit: int | None) -> Iterator[Instance]:
        """Yield the instances of all studies, or of the first ones."""
        for study in islice(find_studies(self.client, self.conditions), limit):
            self.report.studies += 1
            with self._listed(study):
                yield from find_instances(self.client, study, self.conditions)

    def fetch(self, instance: Instance) -> None:
        """Fetch an instance, unless it is there."""
        path = self.output / instance.study / instance.series / f"{instance.sop}.dcm"
        if path.exists():
            self.report.kept += 1
            return
        with self._listed(instance.sop):
            fetch(self.client, instance, path)
            self.report.fetched += 1
        if self.pace.advance() is not None:
            say(f"fetched {self.report.fetched} images of {self.report.studies} studies")

    @contextmanager
    def _listed(self, uid: str) -> Iterator[None]:
        try:
            yield
        except UnreachableError:
            raise
        except ArchiveError as error:
            self.report.failed.append(f"{uid}: {error}")
