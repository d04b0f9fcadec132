import csv
import errno
import json
import os
from pathlib import Path

import pytest

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.files import (
    sha256_of,
    sync_folder,
    write_csv,
    write_json,
    write_text,
    written_atomically,
)


def test_what_was_written_takes_the_place_of_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with written_atomically(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), written_atomically(path) as temporary:  # noqa: PT012
        temporary.write_text("half of it")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_folders_on_the_way_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "c.txt", "x")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "x"


@pytest.mark.parametrize(("name", "ending"), [("a.png", ".png"), ("1.2.3.nii.gz", ".nii.gz"), ("a", "")])
def test_the_temporary_name_keeps_the_ending_that_writers_look_at(
    tmp_path: Path, name: str, ending: str
) -> None:
    with written_atomically(tmp_path / name) as temporary:
        assert temporary.name.endswith(ending)
        assert temporary.parent == tmp_path


def test_text_is_utf_8_with_plain_line_ends(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "ä\nb\n")
    assert (tmp_path / "a").read_bytes() == b"\xc3\xa4\nb\n"


def test_json_that_is_not_json_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_printed_is_spelled_out_in_json_and_comes_back(tmp_path: Path) -> None:
    content = {"\u202ea": ["\x9b31m", "\U000e0041", "a\nb", "\udce9"]}
    write_json(tmp_path / "a.json", content)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert all(line.isprintable() for line in text.split("\n"))
    assert json.loads(text) == content


def test_json_comes_back_as_it_was(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": [1, None, "ä"]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"x": [1, None, "ä"]}


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-2+3", "'-2+3"),
        ("-1", "-1"),  # the label of an image without pneumothorax
        (-5, "-5"),
        (None, ""),
        (0.123456789, "0.123457"),
        ("a\tb", "a\\tb"),
        ("\t=1", "\\t=1"),
        ("a,b", "a,b"),
        ("two\nlines", "two\\nlines"),
    ],
)
def test_no_cell_acts_as_a_formula_or_breaks_its_row(tmp_path: Path, value: object, cell: str) -> None:
    write_csv(tmp_path / "a.csv", [{"x": value, "y": 1}], ["x", "y"])
    with (tmp_path / "a.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["x", "y"], [cell, "1"]]


def test_columns_that_are_not_asked_for_are_left_out(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [{"x": 1, "z": 2}], ["x", "y"])
    assert (tmp_path / "a.csv").read_text() == "x,y\n1,\n"


def test_the_hash_is_that_of_the_standard(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")  # FIPS 180-2, B.1
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of(tmp_path / "a") == expected


def test_a_full_disk_is_told_with_the_file_that_was_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"table\.csv") as caught, written_atomically(tmp_path / "table.csv"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.filename == str(tmp_path / "table.csv")
    assert list(tmp_path.iterdir()) == []


# --- what a file system does not offer, and what hides a full disk


def fail_to_sync(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fsync(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize(
    "number",
    [errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF],
    ids=errno.errorcode.get,
)
def test_a_file_system_that_cannot_sync_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fail_to_sync(monkeypatch, number)
    write_text(tmp_path / "a", "whole")
    sync_folder(tmp_path)
    assert (tmp_path / "a").read_text() == "whole"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.get)
def test_data_that_may_be_lost_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fail_to_sync(monkeypatch, number)
    with pytest.raises(OSError, match=os.strerror(number)):
        write_text(tmp_path / "a", "whole")
    with pytest.raises(OSError, match=os.strerror(number)):
        sync_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_be_read_is_not_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    sync_folder(tmp_path)


def test_the_cause_of_an_error_is_told_where_a_library_hides_it(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left") as caught, written_atomically(tmp_path / "a.dcm"):  # noqa: PT012
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:  # as pydicom does it
            raise OSError("With tag (7fe0,0010) got exception: no space") from error
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "a.dcm"))


def test_an_error_without_a_number_keeps_its_text(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="encoder error -2") as caught, written_atomically(tmp_path / "a.png"):
        raise OSError("encoder error -2")
    assert caught.value.filename == str(tmp_path / "a.png")


# --- links and folders in the way


def test_a_link_is_replaced_by_the_file_and_its_target_stays(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("mine")
    (tmp_path / "folder").mkdir()
    for target in ("target", "folder"):
        (tmp_path / "a").symlink_to(target)
        write_text(tmp_path / "a", "new")
        assert not (tmp_path / "a").is_symlink()
        (tmp_path / "a").unlink()
    assert (tmp_path / "target").read_text() == "mine"


def test_a_folder_where_a_file_belongs_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").mkdir()
    (tmp_path / "b").touch()
    for path, what in (
        (tmp_path / "a.csv", "a folder where a file belongs"),
        (tmp_path / "b" / "c.csv", "is not a folder"),
        (tmp_path / "b" / "c" / "d.csv", "is not a folder"),
    ):
        with pytest.raises(JobError, match=what) as caught:
            write_text(path, "x")
        assert len(str(caught.value).splitlines()) == 1
