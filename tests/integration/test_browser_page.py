"""The exported page in Chromium: its masks are those of the command, and nothing leaves it."""

import base64
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.conftest import bright_pixel_network, write_model, write_radiograph
from tests.integration.viewer import Browser, running_browser

from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.formats.browser.libraries import PACKAGES, read_libraries
from pneumoseg.pipeline.inference.segmentation import ModelPredictor, load_predictor
from pneumoseg.pipeline.jobs.export import export_model
from pneumoseg.pipeline.model.description import TunedPoint
from pneumoseg.pipeline.phantom.dicom_files import write_dicom
from pneumoseg.pipeline.phantom.rendering import Phantom, render_phantom
from pneumoseg.transforms.measurements import LOOKS as REVIEW_WORDS

ROOT = Path(__file__).parents[2]
LIBRARIES = Path(os.environ.get("PNEUMOSEG_NPM", ROOT / ".npm"))
"""Archives of the page's libraries; ``make .npm`` fetches them."""
MASK = """(async () => {
    const canvas = document.querySelector("#mask");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const mask = Uint8Array.from({ length: canvas.width * canvas.height }, (_, index) => data[4 * index + 3] > 0);
    const url = await new Promise((done) => {
        const reader = new FileReader();
        reader.onload = () => done(reader.result);
        reader.readAsDataURL(new Blob([mask]));
    });
    return { columns: canvas.width, data: url.split(",")[1] };
})()"""
pytestmark = [pytest.mark.browser, pytest.mark.slow]


@dataclass(frozen=True)
class Page:
    """A page that has loaded its model."""

    browser: Browser
    address: str
    predictor: ModelPredictor

    def open(self, path: Path) -> str:
        """Open a file, and return what the page says about it."""
        self.browser.value("document.querySelector('#status').textContent = ''")
        self.browser.choose_file("#file", path)
        self.browser.wait_for(
            "document.querySelector('#status').textContent && !document.querySelector('#file').disabled"
        )
        return str(self.browser.value("document.querySelector('#status').textContent"))

    @property
    def mask(self) -> NDArray[np.uint8]:
        """The mask that it shows."""
        found = self.browser.value(MASK)
        return np.frombuffer(base64.b64decode(found["data"]), np.uint8).reshape(-1, found["columns"])


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page of a model that needs all parts of an operating point, on a plain web server."""
    if not LIBRARIES.is_dir():
        pytest.skip("the libraries of the page are not there; `make .npm` fetches them")
    point = TunedPoint(threshold=0.5, min_area_fraction=0.001, segmentation_threshold=0.3125)
    folder = tmp_path_factory.mktemp("page")
    model = write_model(folder / "model", bright_pixel_network(), point=point)
    export_model(model, folder, ["browser"], libraries=LIBRARIES)
    handler = partial(_Silent, directory=str(folder / "browser"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}/"
    try:
        with running_browser(folder / "profile") as browser:
            browser.call("Page.navigate", url=address)
            browser.wait_for("document.querySelector('#status')?.textContent.startsWith('Ready')")
            yield Page(browser, address, load_predictor(model, "cpu"))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return render_phantom(3, size=256)


def png(path: Path, phantom: Phantom, *, bits: int) -> Path:
    """A part of a phantom that is not square."""
    pixels = (phantom.image[:, 30:220] * (2**bits - 1)).round()
    Image.fromarray(pixels.astype(np.uint8 if bits == 8 else np.uint16)).save(path)
    return path


def turned(path: Path, phantom: Phantom) -> Path:
    """Signed and rescaled pixels with unused bits, stored upside down and exchanged, with padding, without a window."""
    upright = (phantom.image[:, 30:220] * 1000).round().astype(np.int16) - 300
    upright[:, :20] = -2000
    stored = np.ascontiguousarray(upright[::-1].T)
    return write_radiograph(
        path, stored.view(np.uint16).astype(np.uint8),  # replaced below
        PatientOrientation=["H", "L"], BitsAllocated=16, BitsStored=12, HighBit=13, PixelRepresentation=1,
        PixelData=(stored << 2).tobytes(), RescaleSlope="0.5", RescaleIntercept="-10",
        PixelPaddingValue=-2000, WindowCenter=None, WindowWidth=None,
    )  # fmt: skip


def write_case(kind: str, folder: Path, phantom: Phantom) -> Path:
    match kind:
        case "png8" | "png16":
            return png(folder / f"{kind}.png", phantom, bits=int(kind[3:]))
        case "turned":
            return turned(folder / "turned.dcm", phantom)
        case encoding:
            return write_dicom(phantom, folder, name=kind, encoding=encoding)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["png8", "png16", "jpeg", "monochrome1", "native8", "native16", "turned"])
def test_the_page_shows_the_mask_of_the_command(
    kind: str, page: Page, phantom: Phantom, tmp_path: Path
) -> None:
    path = write_case(kind, tmp_path, phantom)
    assert page.open(path) == path.name
    expected = page.predictor.predict(path)
    assert expected.mask.any()
    assert not expected.mask.all()
    np.testing.assert_array_equal(page.mask, expected.mask)
    shown = {
        name: page.browser.value(f"document.querySelector('#{name}').textContent")
        for name in ("probability", "area")
    }
    assert float(shown["probability"]) == pytest.approx(expected.probability, abs=1e-4)
    assert shown["area"].startswith(f"{expected.area_px} px")
    assert page.browser.value("document.querySelector('.notice').textContent") == (
        "Research use only. Not a medical device; not for diagnosis."
    )


LOOKS: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "upright": lambda pixels: pixels,
    "mirrored": np.fliplr,
    "turned by a quarter": np.rot90,
    "upside down": lambda pixels: np.rot90(pixels, 2),
    "turned the other way": lambda pixels: np.rot90(pixels, 3),
    "tilted": lambda pixels: np.asarray(Image.fromarray(pixels).rotate(30, Image.Resampling.BILINEAR)),
    "tilted the other way": lambda pixels: np.asarray(
        Image.fromarray(pixels).rotate(-40, Image.Resampling.BILINEAR)
    ),
    "leaning": lambda pixels: np.asarray(Image.fromarray(pixels).rotate(7, Image.Resampling.BILINEAR)),
    "inverted": lambda pixels: 255 - pixels,
    "inverted and upside down": lambda pixels: 255 - np.rot90(pixels, 2),
    "within a border": lambda pixels: np.pad(np.rot90(pixels), 60),
    "large": lambda pixels: np.kron(np.rot90(pixels), np.ones((3, 3), np.uint8)),
    "blank": lambda pixels: np.full_like(pixels, 100),
    "checks": lambda pixels: (np.indices(pixels.shape) // 32).sum(axis=0).astype(np.uint8) % 2 * 200 + 20,
    "small": lambda pixels: pixels[::3, ::3],
    "within a large border": lambda pixels: np.pad(pixels, 120),
    "saturated": lambda pixels: (2 * np.maximum(pixels, 64) - 128.0).clip(0, 255).astype(np.uint8),
    "noisy": lambda pixels: (
        (pixels + np.random.default_rng(0).normal(0, 20, pixels.shape)).clip(0, 255).astype(np.uint8)
    ),
    "cut": lambda pixels: np.pad(pixels[: len(pixels) * 6 // 10], ((0, len(pixels) * 4 // 10), (0, 0))),
    "small and turned": lambda pixels: np.rot90(pixels[::3, ::3]),
    "small and blank": lambda pixels: np.full_like(pixels[::3, ::3], 100),
}


@pytest.mark.parametrize("look", LOOKS)
def test_the_page_has_the_same_images_reviewed_as_the_command(
    look: str, page: Page, phantom: Phantom, tmp_path: Path
) -> None:
    pixels = LOOKS[look]((phantom.image * 255).round().astype(np.uint8))
    Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / "image.png")
    page.open(tmp_path / "image.png")
    expected = page.predictor.predict(tmp_path / "image.png")
    is_upright = look in {"upright", "mirrored", "leaning"}
    assert (expected.review == ()) == is_upright
    shown = page.browser.value("document.querySelector('#review').textContent")
    looks = ", ".join(words for reason, words in REVIEW_WORDS.items() if reason in expected.review)
    assert shown == f"To be reviewed by a person, since the image {looks}."
    assert page.browser.value("document.querySelector('#review').hidden") == is_upright
    decision = page.browser.value("document.querySelector('#decision').textContent")
    assert (
        decision.partition(":")[0]
        == {
            "positive": "pneumothorax outlined",
            "negative": "no pneumothorax found",
            "indeterminate": "indeterminate",
        }[expected.decision]
    )


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"Modality": "CT"}, "Modality is CT, not CR or DX"),
        ({"ViewPosition": "LL"}, "the view is LL, not AP or PA"),
        ({"PatientOrientation": ["A", "F"]}, "PatientOrientation is that of a lateral view"),
        ({"NumberOfFrames": 2}, "it holds several frames; a radiograph is one"),
        ({"RescaleSlope": "0"}, "RescaleSlope 0 and RescaleIntercept 0 cannot be applied"),
        ({"PixelData": bytes(100)}, "100 of 1536 bytes of pixels are there; copy the file again"),
        ({"VOILUTSequence": [pydicom.Dataset()]}, "it has a VOI LUT, which this page does not apply"),
    ],
)  # fmt: skip
def test_what_the_page_cannot_read_is_refused_in_one_line(
    elements: dict[str, Any], message: str, page: Page, tmp_path: Path
) -> None:
    path = write_radiograph(tmp_path / "refused.dcm", np.zeros((48, 32), np.uint8), **elements)
    assert page.open(path).startswith(f"refused.dcm: {message}")
    assert page.browser.value("document.querySelector('#result').hidden")


def test_another_encoding_is_refused_with_what_to_do(page: Page, phantom: Phantom, tmp_path: Path) -> None:
    path = write_dicom(phantom, tmp_path, name="ls")
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLSLossless
    data.save_as(path)
    assert "1.2.840.10008.1.2.4.80, which browsers do not read; use `pneumoseg predict`" in page.open(path)
    path.write_text("no image")
    assert "is read neither as PNG nor as DICOM" in page.open(path)


def test_nothing_leaves_the_page(page: Page, phantom: Phantom, tmp_path: Path) -> None:
    page.open(png(tmp_path / "radiograph.png", phantom, bits=8))
    sent = [each for each in page.browser.requests if not each.startswith(("blob:", "data:"))]
    assert all(each.startswith(page.address) for each in sent)
    assert sent[-1].endswith("model.onnx") or sent[-1].endswith(".wasm")  # the last before it was ready
    attempts = [
        f"fetch({page.address!r}, {{ method: 'POST', body: 'x' }})",
        "new Promise((yes, no) => Object.assign(new Image(), { onload: yes, onerror: no, src: '/x.png' }))",
        "Promise.resolve(new WebSocket('ws://127.0.0.1:1'))",
        f"Promise.resolve(navigator.sendBeacon({page.address!r}, 'x')).then((sent) => sent || Promise.reject())",
    ]
    for attempt in attempts:
        before = len(page.browser.requests)
        assert page.browser.value(f"{attempt}.then(() => 'sent', () => 'refused')") == "refused" or (
            len(page.browser.requests) == before
        )


def test_libraries_are_those_that_were_tested(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"onnxruntime-web-1\.30\.0\.tgz is missing; `npm pack"):
        read_libraries(tmp_path)
    (tmp_path / PACKAGES[0].archive).write_bytes(b"another")
    with pytest.raises(JobError, match="not the archive that this version was tested with"):
        read_libraries(tmp_path)


def test_without_npm_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(
        UsageError, match=r"install Node\.js, or run `npm pack onnxruntime-web@.* dicom-parser@"
    ):
        read_libraries()


def test_make_fetches_the_same_packages() -> None:
    assert (
        f"PAGE_LIBRARIES := {' '.join(package.name for package in PACKAGES)}\n"
        in (ROOT / "Makefile").read_text()
    )
