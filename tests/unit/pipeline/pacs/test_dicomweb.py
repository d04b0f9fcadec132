import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import requests
from pydicom import dcmread
from tests.conftest import SHAPE, write_radiograph
from tests.integration.archive import HOST

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


@contextmanager
def server(status: int, media_type: str, body: bytes) -> Iterator[Any]:
    """A client of a server that answers each request in one way, and then closes the connection."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer((HOST, 0), Handler) as running:
        thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        client = make_client(f"http://{HOST}:{running.server_port}")
        try:
            yield client
        finally:
            client._session.close()
            running.shutdown()
            thread.join()


def answer(*, stored: bool = False, reason: int | None = None) -> bytes:
    uid = {"00081155": {"vr": "UI", "Value": ["1.2.3.4"]}}
    content: dict[str, Any] = {}
    if stored:
        content["00081199"] = {"vr": "SQ", "Value": [uid]}
    if reason is not None:
        content["00081198"] = {
            "vr": "SQ",
            "Value": [{**uid, "00081197": {"vr": "US", "Value": [reason]}}],
        }
    return json.dumps(content).encode()


JSON = "application/dicom+json"


@pytest.fixture
def result(tmp_path: Path) -> Path:
    return write_radiograph(tmp_path / "a.dcm", np.zeros(SHAPE, np.uint8))


@pytest.mark.parametrize(
    ("status", "media_type", "body"),
    [
        (200, JSON, answer(stored=True)),
        (200, f"{JSON}; charset=utf-8", answer(stored=True)),
        (409, JSON, answer(reason=0x0111)),  # it was stored before a crash
        (202, JSON, answer(reason=0x0111)),
    ],
)
def test_a_result_is_stored_where_the_server_says_so(
    status: int, media_type: str, body: bytes, result: Path
) -> None:
    with server(status, media_type, body) as client:
        store(client, result)


@pytest.mark.parametrize(
    ("status", "media_type", "body", "words", "is_transient"),
    [
        (202, JSON, answer(reason=0x0110), "0x0110", False),
        (202, f"{JSON}; charset=utf-8", answer(reason=0x0110), "0x0110", False),
        (409, JSON, answer(reason=0xA700), "0xA700", True),  # out of resources
        (200, JSON, answer(stored=True, reason=0xA700), "0xA700", True),
        (409, "text/plain", b"conflict", "409", False),
        (200, "text/html", b"<html>log in</html>", "does not say that the result is stored", True),
        (200, JSON, b"{}", "does not say that the result is stored", True),
        (204, JSON, b"", "does not say that the result is stored", True),
        (200, JSON, answer(stored=True)[:20], "no JSON", True),
    ],
)
def test_a_result_is_not_stored_where_the_server_does_not_say_so(
    *, status: int, media_type: str, body: bytes, words: str, is_transient: bool, result: Path
) -> None:
    with server(status, media_type, body) as client, pytest.raises(ArchiveError, match=words) as raised:
        store(client, result)
    assert raised.value.is_transient is is_transient
    assert not isinstance(raised.value, UnreachableError)


@pytest.mark.parametrize("missing", [0, 10, 500])
def test_an_image_that_the_server_sends_in_part_is_not_taken_for_whole(result: Path, missing: int) -> None:
    part = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + result.read_bytes() + b"\r\n--x--\r\n"
    body = part[: len(part) - missing]
    with server(200, 'multipart/related; type="application/dicom"; boundary=x', body) as client:
        if missing:
            with archive_errors(), pytest.raises(ArchiveError, match="cut"):
                client.retrieve_instance("1.2.3", "1.2.3.5", "1.2.3.4")
        else:
            assert client.retrieve_instance("1.2.3", "1.2.3.5", "1.2.3.4") == dcmread(result)
