import os
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import write_radiograph
from tests.opened import opened_files

from pneumoseg.pipeline.core.claims import claim_folder
from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.reading.folders import find_radiographs, look_for_uids
from pneumoseg.transforms.reader.radiograph import read_radiograph
from pneumoseg.transforms.reader.reasons import RadiographError

PIXELS = np.zeros((16, 16), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_radiograph(tmp_path / "b" / "two.dcm", PIXELS)
    write_radiograph(tmp_path / "a" / "one.dcm", PIXELS)
    write_radiograph(tmp_path / "a" / "without_ending", PIXELS)
    (tmp_path / "a" / "notes.txt").write_text("x")
    (tmp_path / "a" / "DICOMDIR.bak").write_bytes(b"")
    (tmp_path / "broken.png").write_text("not a picture")
    return tmp_path


def names(folder: Path, *leave_out: Path) -> list[str]:
    return [
        path.relative_to(folder).as_posix() for path in find_radiographs(folder, leave_out=leave_out).images
    ]


def test_files_are_found_by_content_or_by_name_sorted_by_path(folder: Path) -> None:
    assert names(folder) == ["a/one.dcm", "a/without_ending", "b/two.dcm", "broken.png"]


def test_other_files_are_counted(folder: Path) -> None:
    assert find_radiographs(folder).others == 2


def test_a_folder_that_is_left_out_is_not_looked_into(folder: Path) -> None:
    assert names(folder, folder / "a") == ["b/two.dcm", "broken.png"]


def test_a_folder_is_left_out_by_what_it_is_and_not_by_how_it_is_written(folder: Path) -> None:
    assert names(folder, folder / "b" / ".." / "a") == ["b/two.dcm", "broken.png"]


def test_results_of_earlier_commands_are_not_taken_for_radiographs(folder: Path) -> None:
    claim_folder(folder / "results", overwrite=False, command="predict")
    (folder / "results" / "masks").mkdir()
    (folder / "results" / "masks" / "one.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert names(folder) == ["a/one.dcm", "a/without_ending", "b/two.dcm", "broken.png"]
    assert len(find_radiographs(folder / "results").images) == 1  # it was asked for


def test_links_are_not_followed(folder: Path) -> None:
    (folder / "link.dcm").symlink_to(folder / "a" / "one.dcm")
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    assert len(names(folder)) == 4


def test_a_single_file_is_taken(folder: Path) -> None:
    assert find_radiographs(folder / "a" / "one.dcm").images == (folder / "a" / "one.dcm",)


def test_a_folder_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        find_radiographs(tmp_path / "nowhere")


def test_a_folder_without_a_radiograph_is_an_error_that_counts_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(JobError, match=r"no DICOM or PNG file \(unrelated files: 1\)"):
        find_radiographs(tmp_path)


def test_archives_are_not_passed_over_in_silence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("study.zip", "one.dcm.gz", "labels.csv.gz"):
        (folder / name).write_bytes(b"PK")
    find_radiographs(folder)
    assert "2 archives are not opened" in capsys.readouterr().err
    find_radiographs(folder, warn_of_archives=False)
    assert not capsys.readouterr().err


def test_links_that_are_not_followed_are_counted(folder: Path) -> None:
    (folder / "link.dcm").symlink_to(folder / "a" / "one.dcm")
    (folder / "b" / "link").symlink_to(folder / "a", target_is_directory=True)
    found = find_radiographs(folder)
    assert (found.links, found.others) == (2, 2)


def test_a_folder_of_links_says_that_they_are_not_followed(folder: Path, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    (links / "one.dcm").symlink_to(folder / "a" / "one.dcm")
    with pytest.raises(JobError, match="1 links were not followed"):
        find_radiographs(links)


def test_links_are_followed_to_what_is_not_found_without_them(tmp_path: Path) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    write_radiograph(here / "z.dcm", PIXELS)
    write_radiograph(elsewhere / "deep" / "x.dcm", PIXELS)
    write_radiograph(elsewhere / "y.dcm", PIXELS)
    (here / "a.dcm").symlink_to(here / "z.dcm")
    (here / "b").symlink_to(elsewhere, target_is_directory=True)
    (here / "c").symlink_to(elsewhere / "deep", target_is_directory=True)
    (elsewhere / "deep" / "back").symlink_to(here, target_is_directory=True)
    found = find_radiographs(here, follow_links=True)
    assert [path.relative_to(here).as_posix() for path in found.images] == [
        "b/deep/x.dcm",
        "b/y.dcm",
        "z.dcm",
    ]
    assert (found.others, found.links) == (0, 0)


def test_loops_of_links_and_dead_ones_are_no_harm(folder: Path) -> None:
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "self.dcm").symlink_to(folder / "self.dcm")
    (folder / "dead.dcm").symlink_to(folder / "nowhere")
    found = find_radiographs(folder, follow_links=True)
    assert len(found.images) == 4 + 2  # the latter two get their reason when they are read


def test_what_is_left_out_is_not_reached_over_links_either(folder: Path) -> None:
    (folder / "c").symlink_to(folder / "b", target_is_directory=True)
    found = find_radiographs(folder, leave_out=[folder / "b"], follow_links=True)
    assert [path.name for path in found.images] == ["one.dcm", "without_ending", "broken.png"]


def test_a_file_that_is_left_out_is_not_counted(folder: Path) -> None:
    found = find_radiographs(folder, leave_out=[folder / "a" / "notes.txt", folder / "broken.png"])
    assert (len(found.images), found.others) == (3, 1)


def test_pipes_and_sockets_are_not_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(folder / "pipe")
    os.mkfifo(folder / "pipe.dcm")
    monkeypatch.chdir(folder)  # a socket's name has to be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.dcm")
        found = find_radiographs(folder)
    assert {"pipe.dcm", "socket.dcm"} < {path.name for path in found.images}  # by name: they get their reason
    assert found.others == 3


def test_a_file_that_may_not_be_read_is_not_passed_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "notes.txt")
    assert folder / "a" / "notes.txt" in find_radiographs(folder).images


def test_a_folder_that_may_not_be_listed_is_not_passed_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if path == folder / "a":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert names(folder) == ["a", "b/two.dcm", "broken.png"]
    with pytest.raises(RadiographError, match="UNREADABLE: permission denied"):
        read_radiograph(folder / "a")


def test_names_of_all_kinds_are_found(folder: Path) -> None:
    odd = [b"new\nline.dcm", b"caf\xe9.dcm", b"-rf.dcm", b" .dcm", b"'\".dcm"]
    for name in odd:
        (folder / os.fsdecode(name)).touch()
    found = {os.fsencode(path.name) for path in find_radiographs(folder).images}
    assert found >= set(odd)


def test_a_directory_of_a_medium_is_found_as_dicom_and_an_archive_is_not(folder: Path) -> None:
    (folder / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + bytes(16))
    (folder / "all.zip").write_bytes(b"PK\3\4" + bytes(200))
    found = find_radiographs(folder)
    assert folder / "DICOMDIR" in found.images
    assert found.others == 3


@pytest.mark.parametrize("name", ["._one.dcm", ".DS_Store", "._scan.png", "._two"])
def test_files_of_macos_are_unrelated_whatever_is_in_them(folder: Path, name: str) -> None:
    images, others = find_radiographs(folder).images, find_radiographs(folder).others
    for content in (b"\0\5\x16\7\0\2\0\0Mac OS X", b"", b"\0" * 128 + b"DICM" + b"\0" * 200):
        (folder / "a" / name).write_bytes(content)
        found = find_radiographs(folder)
        assert (found.images, found.others) == (images, others + 1)


def test_only_a_file_whose_name_tells_nothing_is_opened(folder: Path) -> None:
    with opened_files() as opened:
        found = find_radiographs(folder)
    assert {path for path in opened if path in found.images} == {folder / "a" / "without_ending"}


@pytest.mark.parametrize("name", ["IM0002", "1.2.840.10008.77"])
@pytest.mark.parametrize("content", [b"", bytes(100), bytes(5000), b"\x49\x49\x2a\x00" + b"\xff" * 90])
def test_a_file_without_suffix_that_may_be_what_is_left_of_a_radiograph_is_found(
    folder: Path, name: str, content: bytes
) -> None:
    (folder / name).write_bytes(content)
    found = find_radiographs(folder)
    assert folder / name in found.images
    with pytest.raises(RadiographError, match="EMPTY_FILE" if not content else "NOT_DICOM"):
        read_radiograph(folder / name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("README", b""),
        ("NOTES", "Bilder für die Studie".encode()),
        ("PROGRAM", b"\x7fELF" + b"\xff" * 500),
        ("DICOMDIR", b""),
        (".keep", b""),
        ("Thumbs.db", bytes(100)),
        ("labels.csv", b""),
        ("header.xml", b""),
        ("info.json", bytes(200)),
        ("empty.txt", b""),
    ],
)
def test_a_file_that_is_something_else_is_unrelated_even_without_content(
    folder: Path, name: str, content: bytes
) -> None:
    (folder / name).write_bytes(content)
    found = find_radiographs(folder)
    assert folder / name not in found.images
    assert found.others == 3


def test_uids_are_looked_for_in_the_first_bytes_and_else_in_the_whole_file(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("early.dcm", "late.dcm", "none.dcm", "picture.png", "missing.dcm")]
    pixels = np.zeros((256, 256), dtype=np.uint8)
    write_radiograph(paths[0], pixels, SOPInstanceUID="1.2.3")
    write_radiograph(paths[1], pixels, SOPInstanceUID="1.2.4", ImageType=["DERIVED"] * 2500)
    write_radiograph(paths[2], pixels, SOPInstanceUID=None)
    Image.fromarray(pixels).save(paths[3])
    assert look_for_uids(paths) == ["1.2.3", "1.2.4", None, None, None]


def test_a_file_that_another_process_has_not_finished_is_none(tmp_path: Path) -> None:
    for name in ("a.dcm", ".writing-0123456789ab.dcm"):
        (tmp_path / name).write_bytes(b"\0" * 128 + b"DICM")
    assert find_radiographs(tmp_path).images == (tmp_path / "a.dcm",)
