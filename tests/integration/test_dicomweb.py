"""DICOMweb in both directions against a real archive: `pull`, and results by STOW-RS; and TLS of the listener."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from pydicom import dcmread
from pynetdicom import AE
from tests.integration.archive import HOST, Archive
from tests.integration.command import run_command
from tests.integration.listener import (
    MODALITY,
    close,
    dicom_destination,
    running_nursery,
    send,
    wait_for,
    write_config,
    write_studies,
)

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.jobs.pull import pull_images
from pneumoseg.pipeline.pacs import pull
from pneumoseg.pipeline.pacs.config import ClientTls
from pneumoseg.pipeline.pacs.dimse import client_context

pytestmark = [pytest.mark.slow, pytest.mark.dicom_tools]


@pytest.fixture
def url(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of the empty archive, with its credentials in the environment."""
    archive.delete_all()
    monkeypatch.setenv("PNEUMOSEG_DICOMWEB_USER", "tests")
    monkeypatch.setenv("PNEUMOSEG_DICOMWEB_PASSWORD", archive.password)
    return f"http://{HOST}:{archive.http_port}/dicom-web"


def test_pull_fetches_what_fits_page_by_page_and_resumes(
    archive: Archive, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "_PAGE", 2)
    images = write_studies(tmp_path / "images", range(10))
    archive.post(*images)
    told = run_command("pull", url, "-o", tmp_path / "in")
    assert told.returncode == 0
    assert "fetched 10 images, 0 were there" in told.stdout
    found = {dcmread(path).SOPInstanceUID: path for path in (tmp_path / "in").rglob("*.dcm")}
    for path in images:
        sent = dcmread(path)
        received = dcmread(found[sent.SOPInstanceUID])
        assert received == sent
        assert received.file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID
    next(iter(found.values())).unlink()
    report = pull_images(url, tmp_path / "in")
    assert (report.fetched, report.kept, report.studies) == (1, 9, 5)


def test_pull_fetches_only_what_fits_the_query(archive: Archive, url: str, tmp_path: Path) -> None:
    archive.post(*write_studies(tmp_path / "images", range(4)))
    assert pull_images(url, tmp_path / "one", query=["PatientID=patient1", "Modality=DX"]).fetched == 2
    assert pull_images(url, tmp_path / "two", limit=1).studies == 1
    with pytest.raises(JobError, match="no study matches"):
        pull_images(url, tmp_path / "none", query=["PatientID=nobody"])


def test_pull_without_the_password_names_the_credentials(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PNEUMOSEG_DICOMWEB_PASSWORD", "wrong")
    with pytest.raises(JobError, match="401; are the credentials in the environment right"):
        pull_images(url, tmp_path)


def test_results_come_by_stow_rs(archive: Archive, url: str, model_folder: Path, tmp_path: Path) -> None:
    (image, *_) = write_studies(tmp_path / "images", [0])
    listener = write_config(tmp_path, model_folder, {"protocol": "dicomweb", "url": url})
    with running_nursery() as nursery:  # gets the credentials from the environment
        listener.pid = nursery.start(listener.config)
        try:
            assert send(listener, [image]) == [image]
            wait_for(lambda: len(archive.query("series")) == 3)
            wait_for(lambda: listener.metric("results_sent_total") == 3)
        finally:
            listener.stop()
    modalities = {series["00080060"]["Value"][0] for series in archive.query("series")}
    assert modalities == {"SEG", "SR", "OT"}
    log = (tmp_path / "spool" / "audit.log").read_text()
    assert os.environ["PNEUMOSEG_DICOMWEB_PASSWORD"] not in log


def make_certificates(folder: Path) -> None:
    """An authority, and certificates that it has signed for this machine and for a peer; and one that it has not."""
    folder.mkdir()

    def run(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    extension = folder / "names"
    extension.write_text(f"subjectAltName=IP:{HOST}")
    for authority in ("authority", "other"):
        run(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
            *("-subj", f"/CN={authority}", "-keyout", f"{authority}.key", "-out", f"{authority}.pem"),
            *("-addext", "keyUsage=critical,keyCertSign"),
        )
    for name, authority in (("server", "authority"), ("peer", "authority"), ("stranger", "other")):
        run(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr"),
        )
        run(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key"),
            *("-CAcreateserial", "-days", "2", "-extfile", "names", "-out", f"{name}.pem"),
        )


def test_with_tls_only_peers_with_a_certificate_are_let_in(
    archive: Archive, model_folder: Path, tmp_path: Path
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    keys = tmp_path / "keys"
    make_certificates(keys)
    listener = write_config(
        tmp_path,
        model_folder,
        dicom_destination(archive),
        tls={
            "certificate": "keys/server.pem",
            "key": "keys/server.key",
            "client_authorities": "keys/authority.pem",
        },
    )
    entity = AE(ae_title=MODALITY)
    entity.acse_timeout = 10
    entity.add_requested_context("1.2.840.10008.1.1")
    with running_nursery() as nursery:
        listener.pid = nursery.start(listener.config)
        try:
            is_let_in = {}
            for name in ("peer", "stranger", None):
                tls = ClientTls(
                    authorities=keys / "authority.pem",
                    certificate=None if name is None else keys / f"{name}.pem",
                    key=None if name is None else keys / f"{name}.key",
                )
                association = entity.associate(
                    HOST, listener.port, ae_title="PNEUMOSEG", tls_args=(client_context(tls), HOST)
                )
                is_let_in[name] = association.is_established and association.send_c_echo().get("Status") == 0
                close(association)
            assert is_let_in == {"peer": True, "stranger": False, None: False}
            plain = entity.associate(HOST, listener.port, ae_title="PNEUMOSEG")
            assert not plain.is_established
            close(plain)
        finally:
            listener.stop()
