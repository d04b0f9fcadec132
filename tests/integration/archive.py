"""A real archive on this machine alone: Orthanc, with authentication, in a folder of its own."""

import base64
import json
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

import pytest

HOST: Final = "127.0.0.1"
AE_TITLE: Final = "PNEUMOSEG"
DICOMWEB_PLUGIN: Final = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
_NAME: Final = "ARCHIVE"
_MAX_START_S: Final = 60


def free_port() -> int:
    """A port that nothing listens to."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
    return port


@dataclass(frozen=True)
class Archive:
    """A running Orthanc.

    Attributes:
        http_port: Port of its REST and DICOMweb interfaces.
        dicom_port: Port of its DICOM interface.
        move_port: Port at which it expects the receiver of a C-MOVE.
        password: Password of the user ``tests``.
        folder: Folder for what the DICOM tools receive.
    """

    http_port: int
    dicom_port: int
    move_port: int
    password: str
    folder: Path

    @property
    def authorization(self) -> str:
        """Value of the header that lets a request in."""
        return "Basic " + base64.b64encode(f"tests:{self.password}".encode()).decode()

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] = {},
        *,
        authorized: bool = True,
    ) -> tuple[int, Message, bytes]:
        """Send a request; returns status, headers and body of the answer."""
        connection = HTTPConnection(HOST, self.http_port, timeout=60)
        try:
            credentials = {"Authorization": self.authorization} if authorized else {}
            connection.request(method, path, body, {**credentials, **headers})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def query(self, path: str) -> list[dict[str, Any]]:
        """Search with QIDO-RS."""
        status, _, body = self.request(
            "GET", f"/dicom-web/{path}", headers={"Accept": "application/dicom+json"}
        )
        assert status == 200, body
        found: list[dict[str, Any]] = json.loads(body)
        return found

    def post(self, *paths: Path) -> dict[str, Any]:
        """Store files with STOW-RS; returns the answer."""
        boundary = "between-two-files"
        parts = [
            f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + path.read_bytes() + b"\r\n"
            for path in paths
        ]
        status, _, body = self.request(
            "POST",
            "/dicom-web/studies",
            b"".join(parts) + f"--{boundary}--\r\n".encode(),
            {
                "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
                "Accept": "application/dicom+json",
            },
        )
        assert status == 200, body
        answer: dict[str, Any] = json.loads(body)
        return answer

    def fetch(self, study_uid: str) -> list[bytes]:
        """Fetch all files of a study with WADO-RS, in the transfer syntaxes that they were stored in."""
        status, headers, body = self.request(
            "GET",
            f"/dicom-web/studies/{study_uid}",
            headers={"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'},
        )
        assert status == 200, body
        answer = BytesParser().parsebytes(
            b"Content-Type: " + headers["Content-Type"].encode() + b"\r\n\r\n" + body
        )
        parts = answer.get_payload()
        assert isinstance(parts, list)
        return [part.get_payload(decode=True) for part in parts]  # type: ignore[misc, union-attr]

    def delete_all(self) -> None:
        """Empty the archive."""
        _, _, body = self.request("GET", "/studies")
        for study in json.loads(body):
            self.request("DELETE", f"/studies/{study}")

    def run_tool(self, name: str, *arguments: object, files: Sequence[Path] = ()) -> str:
        """Run a program of DCMTK against the archive; returns what it prints."""
        # pynetdicom installs programs of the same names, which take other options
        program = Path(shutil.which("dcmcjpeg") or name).with_name(name)
        command = [program, "-aet", AE_TITLE, "-aec", _NAME, *arguments, HOST, self.dicom_port, *files]
        told = subprocess.run(
            list(map(str, command)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
            timeout=120,
        )
        assert told.returncode == 0, told.stdout
        return told.stdout


def configured_archive(folder: Path) -> Archive:
    """Configure Orthanc with authentication, open to this machine alone.

    Args:
        folder: Empty folder for its configuration, database and log.
    """
    program = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
    if not Path(program).exists() or not DICOMWEB_PLUGIN.exists():
        pytest.skip("Orthanc and its DICOMweb plugin are not installed")
    archive = Archive(free_port(), free_port(), free_port(), secrets.token_hex(16), folder)
    configuration = {
        "Name": _NAME,
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [str(DICOMWEB_PLUGIN)],
        "HttpPort": archive.http_port,
        "HttpBindAddresses": [HOST],
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {"tests": archive.password},
        "DicomPort": archive.dicom_port,
        "DicomAet": _NAME,
        "DicomCheckCalledAet": True,
        "DicomCheckModalityHost": True,
        "DicomAlwaysAllowEcho": False,
        "DicomAlwaysAllowStore": False,
        "DicomModalities": {"tests": [AE_TITLE, HOST, archive.move_port]},
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration), encoding="utf-8")
    return archive


@contextmanager
def running_archive(folder: Path) -> Iterator[Archive]:
    """Start an archive in an empty folder, and stop it at the end."""
    archive = configured_archive(folder)
    with started(archive):
        yield archive


@contextmanager
def started(archive: Archive) -> Iterator[None]:
    """Run an archive that is configured, while the context lasts; what it holds stays."""
    program = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
    with (archive.folder / "orthanc.log").open("ab") as log:
        process = subprocess.Popen([program, str(archive.folder / "orthanc.json")], stdout=log, stderr=log)
        try:
            _wait_for(archive, process)
            yield
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait_for(archive: Archive, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _MAX_START_S
    while time.monotonic() < end:
        assert process.poll() is None, (archive.folder / "orthanc.log").read_text()
        try:
            status, _, _ = archive.request("GET", "/dicom-web/studies")
        except OSError:
            time.sleep(0.1)
            continue
        assert status == 200, (archive.folder / "orthanc.log").read_text()
        return
    pytest.fail("Orthanc did not start: " + (archive.folder / "orthanc.log").read_text())
