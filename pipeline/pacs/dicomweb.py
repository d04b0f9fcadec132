"""A DICOMweb client with credentials from the environment; its errors are told apart by whether a retry may help."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import requests
from dicomweb_client import DICOMwebClient
from pydicom import dcmread
from pydicom.dataset import Dataset
from requests.auth import AuthBase, HTTPBasicAuth

from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.pacs.config import CREDENTIALS
from pneumoseg.transforms.reader.elements import quiet_libraries

_TIMEOUT_S: Final = (10.0, 60.0)  # to connect, and between two bytes of an answer
_CHUNK_BYTES: Final = 2**30  # one request is never split: some servers refuse chunked requests
DUPLICATE: Final = 0x0111
"""Status or reason of a refusal: the instance is there. UIDs follow from the content, so that it is the same."""
_TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class ArchiveError(Exception):
    """A request or an association failed; the message says why without quoting identifiers.

    Args:
        message: What failed.
        is_transient: Whether the same attempt may succeed later.
    """

    def __init__(self, message: str, *, is_transient: bool = True) -> None:
        super().__init__(message)
        self.is_transient = is_transient


class UnreachableError(ArchiveError):
    """The archive cannot be reached: other files would fail, too."""


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


class _NoCredentials(AuthBase):
    """Sends no credentials, not even those that requests would find in a file of the user."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


def credentials_of(prefix: str = CREDENTIALS) -> AuthBase:
    """Read credentials from the environment: ``PREFIX_TOKEN``, or ``PREFIX_USER`` and ``PREFIX_PASSWORD``.

    Args:
        prefix: Prefix of the variables.

    Returns: Authentication of requests; none where no variable is set.
    Raises: UsageError: If there is a user without a password, or the other way round.
    """
    token, user, password = (os.environ.get(f"{prefix}_{name}") for name in ("TOKEN", "USER", "PASSWORD"))
    if token:
        return _Bearer(token)
    if bool(user) != bool(password):
        raise UsageError(
            f"{prefix}_USER and {prefix}_PASSWORD belong together; set both in the environment, or none"
        )
    return HTTPBasicAuth(user, password) if user and password else _NoCredentials()


def make_client(
    url: str, *, credentials: str = CREDENTIALS, authorities: Path | None = None
) -> DICOMwebClient:
    """Make a client without retries of its own.

    Args:
        url: Root of the DICOMweb services.
        credentials: Prefix of the environment variables with the credentials.
        authorities: PEM file with the authorities that sign the server's certificate; None uses those of the system.

    Raises: UsageError: If the URL or the credentials do not fit.
    """
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise UsageError(
            f"the URL holds credentials; set {credentials}_USER and {credentials}_PASSWORD in the environment instead"
        )
    session = requests.Session()
    session.auth = credentials_of(credentials)
    session.max_redirects = 0  # credentials go to the server that was named
    session.hooks["response"] = [_prepare_answer]
    if authorities is not None:
        session.verify = str(authorities)
    try:
        client = DICOMwebClient(url.rstrip("/"), session=session, timeout=_TIMEOUT_S, chunk_size=_CHUNK_BYTES)
    except ValueError:
        raise UsageError(f"{url}: is not a URL; http://localhost:8042/dicom-web would fit") from None
    client.set_http_retry_params(retry=False)
    return client


def _prepare_answer(response: requests.Response, **_: Any) -> None:
    """Check that an answer in parts is whole, and give others the media types that dicomweb-client knows.

    That takes a body that is cut for whole, and one with ``; charset=utf-8`` for none, with all failures in it.

    Raises: ArchiveError: If the end is missing.
    """
    header = Message()
    header["Content-Type"] = response.headers.get("Content-Type", "")
    boundary = header.get_boundary()
    if response.ok and boundary is not None and f"--{boundary}--".encode() not in response.content:
        raise ArchiveError("the server's answer is cut")
    if header.get_content_subtype() in {"dicom+json", "json", "dicom+xml", "xml"}:
        response.headers["Content-Type"] = f"application/{header.get_content_subtype()}"


@contextmanager
def archive_errors() -> Iterator[None]:
    """Turn the errors of a request into an `ArchiveError`.

    Raises: ArchiveError: If the server cannot be reached or refuses, or its answer cannot be read.
    """
    try:
        with quiet_libraries(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of an answer that is not a multipart one
            yield
    except requests.HTTPError as error:
        status = error.response.status_code
        advice = {
            401: "; are the credentials in the environment right?",
            403: "; may this user do that?",
            404: "; is the URL right?",
        }.get(status, "")
        raise ArchiveError(
            f"the server answered {status}{advice}", is_transient=status in _TRANSIENT
        ) from None
    except requests.exceptions.SSLError:
        raise UnreachableError("the server's certificate is not accepted", is_transient=False) from None
    except requests.exceptions.JSONDecodeError:
        raise ArchiveError("the server's answer is no JSON; is the URL right?") from None
    except requests.RequestException as error:
        raise UnreachableError(f"the server cannot be reached ({type(error).__name__})") from None
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ArchiveError(f"the server's answer cannot be read ({type(error).__name__})") from None


def store(client: DICOMwebClient, path: Path) -> None:
    """Store a file by STOW-RS.

    Args:
        client: Client of the server.
        path: Path of the file.

    Raises: ArchiveError: If the server does not acknowledge it.
    Source: DICOM PS3.18 10.5.3 (status 409 comes with reasons, too) and table I.2.1-1.
    """
    with archive_errors():
        dataset = dcmread(path)
        try:
            answer = client.store_instances([dataset])
        except requests.HTTPError as error:
            if error.response.status_code != HTTPStatus.CONFLICT:
                raise
            try:
                answer = Dataset.from_json(error.response.json())
            except ValueError:  # it comes without reasons
                raise error from None
        failed = answer.get("FailedSOPSequence") or []
        reason = int(failed[0].get("FailureReason", 0)) if failed else 0
        is_stored = not failed and bool(answer.get("ReferencedSOPSequence"))
    if reason == DUPLICATE or is_stored:
        return
    if failed:
        raise ArchiveError(
            f"the server refused the result (reason 0x{reason:04X})", is_transient=reason >> 8 == 0xA7
        )
    raise ArchiveError("the server's answer does not say that the result is stored; is the URL right?")
