"""Running listeners, and peers that send to them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

import yaml
from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.association import Association
from tests.conftest import draw_case, write_radiograph
from tests.integration.archive import HOST, Archive, free_port

MODALITY: Final = "MODALITY"
_ROOT: Final = Path(__file__).parents[2]


@dataclass
class Nursery:
    """The process that forks listeners."""

    process: subprocess.Popen[str]

    def start(self, config: Path, kind: str = "never", place: str = "nowhere", index: int = 0) -> int:
        """Start a listener that may be killed, and wait until it listens; returns its process id."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{config} {kind} {place} {index}\n")
        self.process.stdin.flush()
        child = 0
        while True:
            line = self.process.stdout.readline().strip()
            assert line not in {"", "failed"}, "the listener has not started"
            if line.isdecimal():
                child = int(line)
            elif line == "ready":
                return child or int(self.process.stdout.readline())


@contextmanager
def running_nursery() -> Iterator[Nursery]:
    """Start the process, and end it at the end."""
    environment = {**os.environ, "PYTHONPATH": str(_ROOT / ".namespace"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__).with_name("listener_nursery.py"))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True, cwd=_ROOT
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "begin\n"
            yield Nursery(process)
        finally:
            process.kill()


def is_alive(pid: int) -> bool:
    """Whether a process that is no child of this one exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(what: Callable[[], object], *, seconds: float = 60) -> None:
    """Wait until *what* returns something true."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@dataclass
class Listener:
    """A listener with its files.

    Attributes:
        folder: Folder with the configuration and the spool.
        port: Port that it listens on.
        monitor_port: Port of its health and metrics.
        pid: Process id; 0 before it has started.
    """

    folder: Path
    port: int
    monitor_port: int
    pid: int = 0

    @property
    def config(self) -> Path:
        return self.folder / "listen.yaml"

    @property
    def events(self) -> list[dict[str, Any]]:
        """Lines of the audit log."""
        return [json.loads(line) for line in (self.folder / "spool" / "audit.log").read_text().splitlines()]

    def reasons(self) -> list[str]:
        """Why something was refused."""
        return [event["why"] for event in self.events if event["event"] == "refused"]

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        if self.pid and is_alive(self.pid):
            os.kill(self.pid, signal.SIGTERM)
            wait_for(lambda: not is_alive(self.pid))

    def get(self, path: str) -> tuple[int, str]:
        """Get a page of the monitor."""
        connection = HTTPConnection(HOST, self.monitor_port, timeout=30)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def metric(self, name: str) -> float:
        """Sum of the values of a metric over its labels."""
        lines = [
            line for line in self.get("/metrics")[1].splitlines() if line.startswith(f"pneumoseg_{name}")
        ]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def dicom_destination(archive: Archive, **values: Any) -> dict[str, Any]:
    """The archive as a destination of C-STORE."""
    return {"protocol": "dicom", "ae_title": "ARCHIVE", "host": HOST, "port": archive.dicom_port, **values}


def write_config(
    folder: Path, model: Path, destination: Mapping[str, Any], *, port: int = 0, **values: Any
) -> Listener:
    """Write the configuration of a listener that lets in a modality and the archive, from this machine."""
    folder.mkdir(parents=True, exist_ok=True)
    listener = Listener(folder, port or free_port(), free_port())
    content = {
        "host": HOST,
        "port": listener.port,
        "spool": "spool",
        "peers": [{"ae_title": name, "address": HOST} for name in (MODALITY, "ARCHIVE")],
        "destinations": {"archive": dict(destination)},
        "rules": [{"name": "chest", "modality": ["CR", "DX"], "send_to": ["archive"]}],
        "analysis": {"model": str(model), "device": "cpu"},
        "quiet_s": 0.3,
        "retry": {"first_s": 0.2, "longest_s": 1},
        "monitor": {"port": listener.monitor_port},
        "limits": {"free_gb": 0},
        **values,
    }
    listener.config.write_text(yaml.safe_dump(content))
    return listener


@contextmanager
def associated(listener: Listener, files: Sequence[Path], **options: Any) -> Iterator[Any]:
    """Open an association as the modality, for the SOP classes and transfer syntaxes of files."""
    entity = AE(ae_title=options.pop("calling", MODALITY))
    entity.dimse_timeout = entity.acse_timeout = 20
    headers = [dcmread(path, stop_before_pixels=True) for path in files]
    for sop_class, syntax in sorted(
        {(each.SOPClassUID, each.file_meta.TransferSyntaxUID) for each in headers}
    ):
        entity.add_requested_context(sop_class, syntax)
    entity.add_requested_context("1.2.840.10008.1.1")
    association = entity.associate(HOST, listener.port, ae_title="PNEUMOSEG", **options)
    try:
        yield association
    finally:
        close(association)


def close(association: Association) -> None:
    """Release an association, and close its connection, which pynetdicom leaves open after some failures."""
    if association.is_established:
        association.release()
    if association.dul.socket is not None and association.dul.socket.socket is not None:
        association.dul.socket.socket.close()


def send(listener: Listener, files: Sequence[Path]) -> list[Path]:
    """Send files until one fails; returns those that were acknowledged."""
    acknowledged = []
    with associated(listener, files) as association:
        for path in files:
            if not association.is_established:
                break
            status = association.send_c_store(path)
            if status.get("Status") != 0:
                break
            acknowledged.append(path)
    return acknowledged


def write_studies(folder: Path, numbers: Iterable[int]) -> list[Path]:
    """Write radiographs, two of them in each study, with and without a pneumothorax."""
    return [
        write_radiograph(
            folder / f"image{number}.dcm",
            draw_case(number % 6, positive=number % 2 == 0)[0],
            SOPInstanceUID=f"1.2.826.0.1.{number + 1}",
            StudyInstanceUID=f"1.2.826.0.2.{number // 2 + 1}",
            SeriesInstanceUID=f"1.2.826.0.3.{number // 2 + 1}",
            PatientID=f"patient{number // 2}",
        )
        for number in numbers
    ]
