from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.jobs import pull as job
from pneumoseg.pipeline.pacs import pull
from pneumoseg.pipeline.pacs.dicomweb import ArchiveError, credentials_of, make_client
from pneumoseg.pipeline.pacs.pull import Instance, fetch, find_studies, parse_query, with_retries

UIDS = [f"1.2.{number}" for number in range(7)]


def server(pages: Callable[[int | None, int], list[str]]) -> Any:
    """An archive whose search returns what *pages* makes of limit and offset."""

    def search(search_filters: Any, limit: int | None = None, offset: int = 0) -> list[Any]:
        return [{"0020000D": {"Value": [uid]}} for uid in pages(limit, offset)]

    return SimpleNamespace(search_for_studies=search)


SERVERS: dict[str, Callable[[int | None, int], list[str]]] = {
    "as the standard says": lambda limit, offset: UIDS[offset:][:limit],
    "short pages": lambda _, offset: UIDS[offset:][:2],
    "ignores the offset": lambda limit, _: UIDS[:limit],
    "forgets the rest": lambda limit, offset: UIDS[:limit] if offset == 0 else [],
    "ignores both": lambda *_: UIDS,
}


@pytest.mark.parametrize("pages", SERVERS.values(), ids=SERVERS.keys())
def test_all_studies_are_found_whatever_the_server_makes_of_pages(
    pages: Callable[[int | None, int], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "_PAGE", 3)
    assert list(find_studies(server(pages), parse_query(["PatientID=a"]))) == UIDS


def test_an_answer_with_a_path_in_place_of_a_uid_is_left_out() -> None:
    assert list(find_studies(server(lambda *_: ["../../etc", "1.2"]), parse_query(["PatientID=a"]))) == [
        "1.2"
    ]


def test_what_has_no_valid_uid_is_reported_and_never_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def searched(tag: str, *uids: str) -> Callable[..., list[Any]]:
        return lambda *_, **options: [{tag: {"Value": [uid]} if uid else {"vr": "UI"}} for uid in uids]

    client = SimpleNamespace(
        search_for_studies=searched("0020000D", "1.2.03", "1.2"),
        search_for_series=searched("0020000E", "../..", "1.3"),
        search_for_instances=searched("00080018", "", "1.4"),
    )
    asked: list[Instance] = []
    monkeypatch.setattr(job, "make_client", lambda *_, **options: client)
    monkeypatch.setattr(job, "fetch", lambda _, instance, path: asked.append(instance))
    report = job.pull_images("http://host", tmp_path / "in", query=["PatientID=a"])
    assert asked == [Instance("1.2", "1.3", "1.4")]
    assert [text.partition(":")[0] for text in report.failed] == ["1.2.03", "../..", "an empty text"]
    assert report.exit_code == 3


def test_values_of_a_keyword_are_alternatives_and_keywords_are_combined() -> None:
    query = parse_query(["Modality=CR", "Modality=DX", "PatientID=a"])
    assert query.series == ({"Modality": "CR"}, {"Modality": "DX"})
    assert query.studies == (
        {"PatientID": "a", "ModalitiesInStudy": "CR"},
        {"PatientID": "a", "ModalitiesInStudy": "DX"},
    )


@pytest.mark.parametrize("text", ["Modality", "Modality=", "NoKeyword=1", "=1"])
def test_a_condition_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="KEYWORD=VALUE") as caught:
        parse_query([text])
    assert ("NoKeyword is no DICOM keyword" in str(caught.value)) == (text == "NoKeyword=1")


def test_a_transient_error_is_tried_again_with_growing_pauses() -> None:
    pauses: list[float] = []
    answers = iter([requests.ConnectionError(), requests.ConnectionError(), None])

    def attempt() -> str:
        if error := next(answers):
            raise error
        return "done"

    assert with_retries(attempt, sleep=pauses.append) == "done"
    assert pauses == [0.5, 1.0]


@pytest.mark.parametrize(("status", "attempts"), [(404, 1), (401, 1), (503, 6)])
def test_only_a_transient_status_is_tried_again(status: int, attempts: int) -> None:
    pauses: list[float] = []

    def attempt() -> None:
        response = requests.Response()
        response.status_code = status
        raise requests.HTTPError(response=response)

    with pytest.raises(ArchiveError, match=str(status)):
        with_retries(attempt, sleep=pauses.append)
    assert len(pauses) == attempts - 1


def test_another_instance_than_the_one_that_was_asked_for_is_not_kept(tmp_path: Path) -> None:
    client: Any = SimpleNamespace(retrieve_instance=lambda *_: {"SOPInstanceUID": "1.9"})
    with pytest.raises(ArchiveError, match="another instance"):
        fetch(client, Instance("1.1", "1.2", "1.3"), tmp_path / "a.dcm")
    assert not list(tmp_path.iterdir())


def test_credentials_come_from_the_environment_and_never_from_the_url(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request = requests.Request("GET", "http://host/").prepare()
    monkeypatch.setenv("SITE_TOKEN", "secret")
    assert credentials_of("SITE")(request).headers["Authorization"] == "Bearer secret"
    monkeypatch.setenv("OTHER_USER", "me")
    with pytest.raises(UsageError, match="OTHER_PASSWORD"):
        credentials_of("OTHER")
    with pytest.raises(UsageError, match="the URL holds credentials") as raised:
        make_client("http://me:secret@host/dicom-web")
    assert "secret" not in str(raised.value)
