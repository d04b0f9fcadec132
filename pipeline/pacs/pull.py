"""Search an archive by QIDO-RS, page by page, and fetch instances by WADO-RS."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Final, TypeVar

from dicomweb_client import DICOMwebClient
from pydicom import dcmwrite
from pydicom.datadict import tag_for_keyword

from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.core.files import written_atomically
from pneumoseg.pipeline.pacs.dicomweb import ArchiveError, archive_errors
from pneumoseg.transforms.reader.elements import is_uid, quiet_libraries

DEFAULT_QUERY: Final = ("Modality=CR", "Modality=DX")
_OF_SERIES: Final = frozenset({
    "Modality", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "BodyPartExamined",
    "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime",
})  # fmt: skip
"""Keywords that are matched at the level of series (PS3.18 table 10.6.1-5); all others are matched for studies."""

_PAGE: Final = 100
_ATTEMPTS: Final = 6
_FIRST_WAIT_S: Final = 0.5
_LONGEST_WAIT_S: Final = 30.0
_Result = TypeVar("_Result")
OnInvalid = Callable[[str], None]
"""Take what an archive names in place of a UID: the study, series or instance cannot be asked for."""


@dataclass(frozen=True)
class Instance:
    """An instance that was found; all UIDs are valid.

    Attributes:
        study: StudyInstanceUID.
        series: SeriesInstanceUID.
        sop: SOPInstanceUID.
    """

    study: str
    series: str
    sop: str


def with_retries(attempt: Callable[[], _Result], *, sleep: Callable[[float], None] = time.sleep) -> _Result:
    """Repeat a request that fails for a transient reason, with a growing pause.

    Args:
        attempt: Makes the request.
        sleep: Waits for a number of seconds.

    Raises: ArchiveError: If the request fails for good, or for the sixth time.
    """
    for number in range(_ATTEMPTS):
        try:
            with archive_errors():
                return attempt()
        except ArchiveError as error:
            if not error.is_transient or number == _ATTEMPTS - 1:
                raise
            sleep(min(_FIRST_WAIT_S * 2**number, _LONGEST_WAIT_S))
    raise AssertionError


@dataclass(frozen=True)
class Query:
    """Conditions on studies and series; values of one keyword are alternatives.

    Attributes:
        studies: Conditions on studies, each a mapping of keywords to values; one search for each.
        series: Conditions on series, in the same way.
    """

    studies: tuple[Mapping[str, str], ...]
    series: tuple[Mapping[str, str], ...]


def parse_query(texts: Sequence[str]) -> Query:
    """Parse conditions.

    Args:
        texts: ``KEYWORD=VALUE`` texts with keywords of the DICOM standard; none stands for `DEFAULT_QUERY`.

    Raises: UsageError: If a text is not of this kind.
    """
    values: dict[str, list[str]] = {}
    for text in texts or DEFAULT_QUERY:
        keyword, _, value = text.partition("=")
        if not keyword or not value or tag_for_keyword(keyword) is None:
            unknown = f"{keyword} is no DICOM keyword; " if keyword and value else ""
            raise UsageError(
                f"--query {text}: {unknown}KEYWORD=VALUE would fit, such as StudyDate=20260101-20260131"
            )
        values.setdefault(keyword, []).append(value)
    of_studies = {keyword: found for keyword, found in values.items() if keyword not in _OF_SERIES}
    if "Modality" in values and "ModalitiesInStudy" not in values:
        of_studies["ModalitiesInStudy"] = values["Modality"]
    return Query(
        _combinations(of_studies),
        _combinations({keyword: found for keyword, found in values.items() if keyword in _OF_SERIES}),
    )


def _combinations(values: Mapping[str, Sequence[str]]) -> tuple[Mapping[str, str], ...]:
    return tuple(dict(zip(values, choice, strict=True)) for choice in product(*values.values()))


def find_studies(
    client: DICOMwebClient, query: Query, *, on_invalid: OnInvalid = lambda _: None
) -> Iterator[str]:
    """Search for studies, page by page.

    Args:
        client: Client of the archive.
        query: Conditions.
        on_invalid: Called with what stands in place of a UID.

    Yields: StudyInstanceUID of each.
    Raises: ArchiveError: If the archive cannot be searched.
    """
    known: set[str] = set()
    for filters in query.studies:
        for uid in _pages(client.search_for_studies, "0020000D", filters, on_invalid):
            if uid not in known:
                known.add(uid)
                yield uid


def find_instances(
    client: DICOMwebClient, study: str, query: Query, *, on_invalid: OnInvalid = lambda _: None
) -> Iterator[Instance]:
    """Search for the instances of a study.

    Args:
        client: Client of the archive.
        study: StudyInstanceUID.
        query: Conditions on its series.
        on_invalid: Called with what stands in place of a UID.

    Raises: ArchiveError: If the archive cannot be searched.
    """
    search_series = partial(client.search_for_series, study)
    found = [
        uid for filters in query.series for uid in _pages(search_series, "0020000E", filters, on_invalid)
    ]
    for series in dict.fromkeys(found):
        search = partial(client.search_for_instances, study, series)
        for sop in _pages(search, "00080018", {}, on_invalid):
            yield Instance(study, series, sop)


def _pages(
    search: Callable[..., Any], tag: str, filters: Mapping[str, str], on_invalid: OnInvalid
) -> Iterator[str]:
    """Yield the valid UIDs of all pages; any other one could be a path, and is reported.

    Some servers ignore the offset, or forget the rest of the results together with some conditions (Orthanc's DICOMweb
    1.7 with ModalitiesInStudy): where nothing new follows a full page, all results are requested at once.
    """
    known: set[str] = set()
    offset, is_full = 0, False
    while True:
        found = _search(search, tag, filters, limit=_PAGE, offset=offset)
        is_last = not set(found) - known
        if is_last and is_full:
            found = _search(search, tag, filters)
        new = [uid for uid in dict.fromkeys(found) if uid not in known]
        known.update(new)
        for uid in new:
            if is_uid(uid):
                yield uid
            else:
                on_invalid(uid)
        if is_last:
            return
        offset, is_full = offset + len(found), len(found) >= _PAGE


def _search(search: Callable[..., Any], tag: str, filters: Mapping[str, str], **page: int) -> list[str]:
    """Search once; returns the UIDs that are found, an empty one where an item has none."""

    def attempt() -> list[str]:
        found = search(search_filters=dict(filters), **page)
        return [str((item.get(tag, {}).get("Value") or [""])[0]) for item in found]

    return with_retries(attempt)


def fetch(client: DICOMwebClient, instance: Instance, path: Path) -> None:
    """Fetch an instance in the transfer syntax in which the archive holds it.

    Args:
        client: Client of the archive.
        instance: Instance.
        path: Path of the file to write; it is there completely, or not at all.

    Raises:
        ArchiveError: If it cannot be fetched, or is another instance.
        OSError: If it cannot be written.
    """
    dataset = with_retries(lambda: client.retrieve_instance(instance.study, instance.series, instance.sop))
    if str(dataset.get("SOPInstanceUID")) != instance.sop:
        raise ArchiveError("the archive sent another instance", is_transient=False)
    with written_atomically(path) as temporary, quiet_libraries():
        dcmwrite(temporary, dataset)
