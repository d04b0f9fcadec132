"""The OHIF viewer over an archive, and pictures of what it shows in Chromium."""

import base64
import json
import mimetypes
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import IO, Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.integration.archive import HOST, Archive

Colours = NDArray[np.uint8]
_MAX_WAIT_S: Final = 60
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
    "--disable-component-update", "--disable-sync", "--window-size=1400,1000", "--remote-debugging-pipe",
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


class Browser:
    """A page of Chromium, driven over the pipes of the DevTools protocol.

    Args:
        commands: Pipe that the browser reads from.
        answers: Pipe that it writes to.

    Attributes:
        requests: Addresses that the page has requested so far, in order.
    """

    def __init__(self, commands: IO[bytes], answers: IO[bytes]) -> None:
        self._commands, self._answers = commands, answers
        self._count = 0
        self._session: str | None = None
        self._errors: list[str] = []
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Runtime.enable")
        self.call("Network.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; errors of scripts in between are kept."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = json.loads(self._next())
            if answer.get("id") == self._count:
                if "error" in answer:
                    raise RuntimeError(answer["error"]["message"])
                result: dict[str, Any] = answer["result"]
                return result
            parameters = answer.get("params", {})
            if answer.get("method") == "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
            if answer.get("method") == "Runtime.exceptionThrown" or parameters.get("type") == "error":
                self._errors.append(json.dumps(parameters))

    def value(self, expression: str) -> Any:
        """Evaluate an expression in the page; the value of a promise is awaited."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"]["description"])
        return found["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until an expression is true in the page, at most a minute."""
        end = time.monotonic() + _MAX_WAIT_S
        while not self.value(expression):
            assert time.monotonic() < end, f"{expression} did not become true"
            time.sleep(0.1)

    def choose_file(self, selector: str, path: Path) -> None:
        """Choose a file in a form, as a person does."""
        element = self.call("Runtime.evaluate", expression=f"document.querySelector({selector!r})")
        self.call("DOM.setFileInputFiles", files=[str(path)], objectId=element["result"]["objectId"])

    def _next(self) -> bytes:
        message = bytearray()
        while (byte := self._answers.read(1)) != b"\0":
            assert byte, "the browser has gone"
            message += byte
        return bytes(message)

    def open(self, address: str, picture: Path, *, is_done: Callable[[Colours], bool]) -> list[str]:
        """Open a page and keep a picture of it, as soon as it shows what is waited for or after a minute.

        Args:
            address: Address of the page.
            picture: Path of the PNG file to write.
            is_done: Whether a picture, of shape ``(rows, columns, 3)``, shows it.

        Returns: Errors of its scripts.
        """
        self._errors.clear()
        self.call("Page.navigate", url=address)
        end = time.monotonic() + _MAX_WAIT_S
        while True:
            time.sleep(0.5)
            try:
                taken = self.call("Page.captureScreenshot", format="png")["data"]
            except RuntimeError:  # there is no page while one takes the place of another
                if time.monotonic() > end:
                    raise
                continue
            picture.write_bytes(base64.b64decode(taken))
            with Image.open(picture) as opened:
                done = is_done(np.asarray(opened.convert("RGB")))
            if done or time.monotonic() > end:
                return list(self._errors)


@contextmanager
def running_browser(profile: Path) -> Iterator[Browser]:
    """Start Chromium, and end it at the end.

    Args:
        profile: Folder for the browser's own files.
    """
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("Chromium is not installed")
    (to_read, commands), (answers, to_write) = os.pipe(), os.pipe()
    with os.fdopen(commands, "wb", buffering=0) as writer, os.fdopen(answers, "rb") as reader:
        process = subprocess.Popen(
            # the browser reads commands from descriptor 3 and writes answers to 4
            [
                "bash", "-c", f'exec "$@" 3<&{to_read} 4>&{to_write}', "bash",
                program, *_FLAGS, f"--user-data-dir={profile}",
            ],
            pass_fds=(to_read, to_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_read)
        os.close(to_write)
        try:
            yield Browser(writer, reader)
        finally:
            process.terminate()
            process.wait(timeout=30)
