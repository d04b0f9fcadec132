"""The OHIF viewer over an archive, and pictures of what it shows in Chromium."""

import json
import mimetypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Final

import pytest
from tests.integration.archive import HOST, Archive

SITE: Final = Path(os.environ.get("PNEUMOSEG_OHIF", Path(__file__).parents[2] / ".ohif" / "package" / "dist"))
"""Built site of the npm package ``@ohif/app``; ``make .ohif`` fetches it."""

_SOURCE: Final = {
    "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
    "sourceName": "archive",
    "configuration": {
        "friendlyName": "archive", "name": "archive", "wadoUriRoot": "/wado", "qidoRoot": "/dicom-web",
        "wadoRoot": "/dicom-web", "imageRendering": "wadors", "thumbnailRendering": "wadors",
        "qidoSupportsIncludeField": False, "supportsFuzzyMatching": False, "supportsWildcard": True,
        "enableStudyLazyLoad": True, "bulkDataURI": {"enabled": True, "relativeResolution": "studies"},
        "omitQuotationForMultipartRequest": True, "singlepart": "bulkdata,video",
    },
}  # fmt: skip
_CONFIGURATION: Final = {
    "routerBasename": "/", "extensions": [], "modes": [], "customizationService": {}, "showStudyList": True,
    "maxNumberOfWebWorkers": 1, "showWarningMessageForCrossOrigin": False, "showCPUFallbackMessage": False,
    "showErrorDetails": "always", "investigationalUseDialog": {"option": "never"},
    "defaultDataSourceName": "archive", "dataSources": [_SOURCE],
}  # fmt: skip
_START: Final = (
    "localStorage.setItem('shownTours', '[\"basicViewerTour\"]');"  # else it explains itself over the image
    f"window.config = {json.dumps(_CONFIGURATION)};"
)
_FLAGS: Final = (
    "--headless=new", "--no-sandbox", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--window-size=1400,1000",
)  # fmt: skip
_FORWARDED: Final = ("Accept", "Content-Type")


@contextmanager
def served(archive: Archive) -> Iterator[str]:
    """Serve the site, and the archive's DICOMweb under the same address; returns the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            place = self.path.partition("?")[0]
            if place.startswith(("/dicom-web", "/wado")):
                asked = {name: value for name in _FORWARDED if (value := self.headers.get(name))}
                status, headers, body = archive.request("GET", self.path, headers=asked)
                self.answer(status, headers.get("Content-Type", "application/octet-stream"), body)
            elif place == "/app-config.js":
                self.answer(200, "text/javascript", _START.encode())
            else:
                path = SITE / place.lstrip("/")
                path = path if path.is_file() else SITE / "index.html"  # the site's script reads the address
                kind = "application/wasm" if path.suffix == ".wasm" else mimetypes.guess_type(path)[0]
                self.answer(200, kind or "application/octet-stream", path.read_bytes())

        def answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")  # for memory that workers share
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Print nothing."""

    if not (SITE / "index.html").is_file():
        pytest.skip("the site of OHIF is not there; `make .ohif` fetches it")
    server = ThreadingHTTPServer((HOST, 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def screenshot(address: str, picture: Path, *, wait_s: int = 60) -> list[str]:
    """Take a picture of a page once it is quiet; returns what its console says."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("Chromium is not installed")
    told = subprocess.run(
        [
            browser, *_FLAGS, f"--user-data-dir={picture.with_suffix('.profile')}", f"--screenshot={picture}",
            f"--virtual-time-budget={1000 * wait_s}", address,
        ],
        capture_output=True, encoding="utf-8", errors="replace", timeout=300, check=True,
    )  # fmt: skip
    return [line for line in told.stderr.splitlines() if "CONSOLE" in line]
