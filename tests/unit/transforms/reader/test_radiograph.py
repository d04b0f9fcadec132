import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumoseg.transforms.reader.radiograph import (
    AcceptanceFilters,
    FileKind,
    RadiographError,
    image_name,
    kind_of,
    read_radiograph,
    read_start,
)
from pneumoseg.transforms.reader.reasons import Reason

WriteDicom = Callable[..., Path]
PIXELS = (np.arange(16 * 24, dtype=np.uint16) * 7).reshape(16, 24)


def sniff(path: str | os.PathLike[str]) -> FileKind:
    """The kind of a file as `find_radiographs` tells it: by its first bytes, or else by its name."""
    return kind_of(path, read_start(path, 132))  # preamble and prefix


def refusal(path: Path, acceptance: AcceptanceFilters | None = None) -> Reason:
    with pytest.raises(RadiographError) as caught:
        read_radiograph(path, acceptance=acceptance or AcceptanceFilters())
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


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a/case1.dcm", "case1"),
        ("case1.DICOM", "case1"),
        ("case1.dic", "case1"),
        ("case.1.PNG", "case.1"),
        ("1.2.276.10000.1517875220.938530", "1.2.276.10000.1517875220.938530"),
        ("1.2.276.938530.dcm", "1.2.276.938530"),
        ("IM0001", "IM0001"),
    ],
)
def test_the_name_of_an_image_ends_before_a_known_suffix_only(file: str, name: str) -> None:
    assert image_name(file) == name


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


def test_the_limits_of_the_acceptance_filters_are_kept(write_dicom: WriteDicom) -> None:
    path = write_dicom(PIXELS)
    assert refusal(path, AcceptanceFilters(max_bytes=500)) is Reason.TOO_LARGE
    assert refusal(path, AcceptanceFilters(max_pixels=383)) is Reason.TOO_LARGE
    assert read_radiograph(path, acceptance=AcceptanceFilters(max_pixels=384)).shape == (16, 24)


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
