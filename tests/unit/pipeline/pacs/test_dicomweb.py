from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import requests
from pydicom.dataset import Dataset
from tests.conftest import SHAPE, write_radiograph

from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.pacs.dicomweb import (
    ArchiveError,
    UnreachableError,
    archive_errors,
    make_client,
    store,
)


def of_status(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(response=response)


@pytest.mark.parametrize(
    ("error", "kind", "is_transient", "words"),
    [
        (of_status(401), ArchiveError, False, "credentials"),
        (of_status(404), ArchiveError, False, "URL"),
        (of_status(503), ArchiveError, True, "503"),
        (requests.exceptions.SSLError("secret"), UnreachableError, False, "certificate"),
        (requests.ConnectionError("secret"), UnreachableError, True, "cannot be reached"),
        (KeyError("secret"), ArchiveError, True, "cannot be read"),
    ],
)
def test_errors_are_told_apart_by_whether_a_retry_may_help_and_quote_nothing(
    error: Exception, kind: type[ArchiveError], is_transient: bool, words: str
) -> None:
    with pytest.raises(kind, match=words) as raised, archive_errors():
        raise error
    assert raised.value.is_transient is is_transient
    assert "secret" not in str(raised.value)


def test_a_text_that_is_no_url_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="is not a URL"):
        make_client("nowhere")


def test_a_result_that_the_server_has_not_stored_is_an_error_though_it_answers(tmp_path: Path) -> None:
    path = write_radiograph(tmp_path / "a.dcm", np.zeros(SHAPE, np.uint8))

    def answer(*reasons: int) -> Any:
        items = []
        for reason in reasons:
            items.append(Dataset())
            items[-1].FailureReason = reason
        return SimpleNamespace(store_instances=lambda _: {"FailedSOPSequence": items} if items else {})

    store(answer(), path)
    with pytest.raises(ArchiveError, match="0x0110") as raised:
        store(answer(0x0110), path)
    assert not raised.value.is_transient
    with pytest.raises(ArchiveError, match="0xA700") as raised:  # out of resources
        store(answer(0xA700), path)
    assert raised.value.is_transient
