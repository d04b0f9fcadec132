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
from pneumoseg.pipeline.core.names import shown
from pneumoseg.pipeline.pacs.config import CREDENTIALS
from pneumoseg.pipeline.pacs.dicomweb import ArchiveError, UnreachableError, make_client
from pneumoseg.pipeline.pacs.pull import (
    DEFAULT_QUERY,
    Instance,
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

    def note_invalid(self, uid: str) -> None:
        """Note a study, series or instance whose UID is none, so that it cannot be asked for."""
        self.failed.append(f"{shown(uid) or 'an empty text'}: is no valid UID")

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
        pace = Pace(0)
        try:
            for study in islice(find_studies(client, conditions, on_invalid=report.note_invalid), limit):
                report.studies += 1
                with _listed(report, study):
                    found = find_instances(client, study, conditions, on_invalid=report.note_invalid)
                    for instance in found:
                        if interruption.received:
                            raise InterruptedRunError(
                                f"interrupted; {report.fetched} images are fetched, the same command continues",
                                interruption.received,
                            )
                        _pull(client, instance, output, report)
                        if pace.advance() is not None:
                            say(f"fetched {report.fetched} images of {report.studies} studies")
        except ArchiveError as error:
            raise JobError(
                f"{url}: {error}; {report.fetched} images are fetched, the same command continues"
            ) from None
    if not report.studies and not report.failed:
        raise JobError(f"{url}: no study matches {' '.join(query or DEFAULT_QUERY)}; look at --query")
    return report


def _pull(client: DICOMwebClient, instance: Instance, output: Path, report: PullReport) -> None:
    """Fetch an instance, unless it is there."""
    path = output / instance.study / instance.series / f"{instance.sop}.dcm"
    if path.exists():
        report.kept += 1
        return
    with _listed(report, instance.sop):
        fetch(client, instance, path)
        report.fetched += 1


@contextmanager
def _listed(report: PullReport, uid: str) -> Iterator[None]:
    """List the error of a single study or instance, and continue; an archive that cannot be reached ends the run."""
    try:
        yield
    except UnreachableError:
        raise
    except ArchiveError as error:
        report.failed.append(f"{uid}: {error}")
