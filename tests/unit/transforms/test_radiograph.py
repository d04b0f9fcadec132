import os
import random
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from pydicom import uid

from pneumoseg.transforms.radiograph import FileKind, Gates, RadiographError, read_radiograph, sniff
from pneumoseg.transforms.reasons import Reason

WriteDicom = Callable[..., Path]
PIXELS = (np.arange(16 * 24, dtype=np.uint16) * 7).reshape(16, 24)


def refusal(path: Path, gates: Gates | None = None) -> Reason:
    with pytest.raises(RadiographError) as caught:
        read_radiograph(path, gates=gates or Gates())
    assert "\n" not in str(caught.value)
    return caught.value.reason


def write_png(path: Path) -> Path:
    Image.fromarray(np.arange(16 * 24, dtype=np.uint8).reshape(16, 24)).save(path, "PNG")
    return path


def test_content_and_not_the_name_tells_what_a_file_is(write_dicom: WriteDicom, tmp_path: Path) -> None:
    for name in ("no_suffix", "IM0001", "image.png", "notes.txt"):
        path = write_dicom(PIXELS, name=name)
        assert sniff(path) is FileKind.DICOM
        np.testing.assert_array_equal(read_radiograph(path).stored, PIXELS)
    for name in ("image.png", "image", "image.jpg"):
        path = write_png(tmp_path / name)
        assert sniff(path) is FileKind.PNG
        assert read_radiograph(path).shape == (16, 24)


def test_a_png_that_calls_itself_dicom_is_refused(tmp_path: Path) -> None:
    path = write_png(tmp_path / "image.dcm")
    assert sniff(path) is FileKind.DICOM
    assert refusal(path) is Reason.NOT_DICOM


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("notes.dcm", FileKind.DICOM, Reason.NOT_DICOM),
        ("notes.DICOM", FileKind.DICOM, Reason.NOT_DICOM),
        ("notes.png", FileKind.PNG, Reason.NOT_PNG),
        ("notes.txt", FileKind.OTHER, Reason.NOT_DICOM),
    ],
)
def test_what_is_neither_is_judged_by_its_name(
    tmp_path: Path, name: str, kind: FileKind, reason: Reason
) -> None:
    path = tmp_path / name
    path.write_text("This is text, and quite a lot of it. " * 10)
    assert sniff(path) is kind
    assert refusal(path) is reason


def test_an_empty_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "empty.dcm"
    path.touch()
    assert refusal(path) is Reason.EMPTY_FILE
    assert sniff(path) is FileKind.DICOM


def test_what_is_no_file_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, pipe, server, dead, loop = (tmp_path / f"{name}.dcm" for name in "abcde")
    folder.mkdir()
    os.mkfifo(pipe)
    dead.symlink_to(tmp_path / "nowhere")
    loop.symlink_to(loop)
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(tmp_path)  # a socket's name has to be short
        listener.bind(server.name)
        for path in (
            folder,
            pipe,
            server,
            dead,
            loop,
            tmp_path / "absent.dcm",
            pipe / "below.dcm",
            tmp_path / "\0.dcm",
        ):
            assert sniff(path) is FileKind.DICOM
            assert refusal(path) is Reason.NOT_A_FILE


def test_a_link_is_followed(write_dicom: WriteDicom, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(write_dicom(PIXELS))
    assert read_radiograph(link).shape == (16, 24)


def test_a_huge_sparse_file_is_refused_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "sparse.dcm"
    with path.open("wb") as file:
        file.truncate(5 * 2**30)
    assert refusal(path) is Reason.TOO_LARGE


def test_the_limits_of_the_gates_are_kept(write_dicom: WriteDicom) -> None:
    path = write_dicom(PIXELS)
    assert refusal(path, Gates(max_bytes=500)) is Reason.TOO_LARGE
    assert refusal(path, Gates(max_pixels=383)) is Reason.TOO_LARGE
    assert read_radiograph(path, gates=Gates(max_pixels=384)).shape == (16, 24)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_says_so(write_dicom: WriteDicom) -> None:
    path = write_dicom(PIXELS)
    path.chmod(0)
    assert refusal(path) is Reason.UNREADABLE
    assert sniff(path) is FileKind.DICOM


def test_reading_from_many_threads_gives_what_one_gives(write_dicom: WriteDicom) -> None:
    path = write_dicom(PIXELS, SpecificCharacterSet="ISO_IR 100")
    path.write_bytes(path.read_bytes().replace(b"ISO_IR 100", b"FOO_BAR_10"))  # pydicom warns of it
    with ThreadPoolExecutor(8) as pool:
        for radiograph in pool.map(read_radiograph, [path] * 200):
            np.testing.assert_array_equal(radiograph.values, PIXELS)


def mutate(data: bytes, source: random.Random) -> bytes:
    """Flip, set, cut, copy in, or take out a few bytes, mostly of the header."""
    bytes_ = bytearray(data)
    for _ in range(source.choice((1, 1, 2, 4))):
        at = source.randrange(len(bytes_) if source.random() < 0.5 else min(len(bytes_), 1200))
        match source.randrange(5):
            case 0:
                bytes_[at] ^= 1 << source.randrange(8)
            case 1:
                bytes_[at : at + 4] = source.choice((b"\xff" * 4, b"\xfe\xff\xff\xff", bytes(4)))
            case 2:
                del bytes_[max(at, 1) :]
            case 3:
                bytes_[at:at] = bytes_[:at][-source.randrange(1, 64) :]
            case 4:
                del bytes_[at : at + source.randrange(1, 32)]
        bytes_ = bytes_ or bytearray(1)
    return bytes(bytes_)


def test_no_damage_lets_anything_but_the_one_error_out(write_dicom: WriteDicom, tmp_path: Path) -> None:
    deep: dict[str, Any] = {"shape": (16, 24), "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15}
    grey = (PIXELS % 256).astype(np.uint8)
    streams: dict[uid.UID, tuple[bytes | bytearray, dict[str, Any]]] = {
        uid.JPEGBaseline8Bit: (imagecodecs.jpeg8_encode(grey), {"shape": (16, 24)}),
        uid.JPEGLosslessSV1: (imagecodecs.jpeg8_encode(grey, lossless=True), {"shape": (16, 24)}),
        uid.JPEG2000Lossless: (imagecodecs.jpeg2k_encode(PIXELS, codecformat="j2k", level=0), deep),
        uid.HTJ2KLossless: (imagecodecs.htj2k_encode(PIXELS, reversible=True), deep),
    }
    seeds = [
        write_dicom(bytes(stream), syntax=syntax, **layout) for syntax, (stream, layout) in streams.items()
    ]
    natives = [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian]
    contents = [seed.read_bytes() for seed in seeds]
    contents += [write_dicom(PIXELS, syntax=syntax).read_bytes() for syntax in natives]
    contents.append(write_png(tmp_path / "image.png").read_bytes())
    source, path, refused = random.Random(2019), tmp_path / "damaged", 0
    surprises: list[bool] = []
    for _ in range(600):
        path.write_bytes(mutate(source.choice(contents), source))
        try:
            radiograph = read_radiograph(path)
        except RadiographError as error:
            refused += 1
            surprises += ["unexpected" in error.detail]
        else:
            assert np.isfinite(radiograph.values).all()
            assert ((radiograph.image >= 0) & (radiograph.image <= 1)).all()
    assert 100 < refused < 600
    assert not any(surprises)
