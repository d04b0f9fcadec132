import gzip
import os
import pickle
from pathlib import Path

import pytest

from pneumoseg.transforms.labels.challenge_csv import read_labels
from pneumoseg.transforms.labels.text_table import LabelFileError, read_rows

HEADER = "ImageId,EncodedPixels\n"


def kind_of(path: Path, content: bytes | None = None) -> str:
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LabelFileError) as caught:
        read_labels(path)
    assert "\n" not in str(caught.value)
    return caught.value.kind


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "labels.csv"


def test_rows_come_with_the_line_they_start_on(path: Path) -> None:
    path.write_text('\na,b\n\n"1\n2",3\n4,5\n', encoding="utf-8")
    assert list(read_rows(path)) == [(2, ["a", "b"]), (4, ["1\n2", "3"]), (6, ["4", "5"])]


@pytest.mark.parametrize(
    "text",
    [
        'ImageId;EncodedPixels;"Age, years"\na;2 3;"5"\n',
        "ImageId|EncodedPixels\na|2 3\n",
        "sep=;\nImageId;EncodedPixels\na;2 3\n",
        '\ufeff"sep=\t"\r\nImageId\tEncodedPixels\r\na\t2 3\r\n',
        'ImageId, "EncodedPixels"\na, "2 3"\n',
        "\ufeff\ufeffImageId,\xa0EncodedPixels\na,2 3\n",
    ],
)
def test_separators_quotes_and_marks_of_other_programs_are_understood(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="")
    labels = read_labels(path)
    assert ([*labels.images], labels.errors) == (["a"], [])


@pytest.mark.parametrize("content", [b"", b"sep=;\n", b"\n\r\n  \n", b"\xef\xbb\xbf"])
def test_a_file_without_any_row_is_empty(path: Path, content: bytes) -> None:
    assert kind_of(path, content) == "EMPTY_FILE"


@pytest.mark.parametrize(
    "content",
    [
        HEADER.encode("utf-16"),
        HEADER.encode("utf-16-le"),
        b"PK\x03\x04rest",
        bytes(range(256)),
        b"\x89PNG\r\n\x1a\n",
    ],
    ids=["UTF-16", "UTF-16 without mark", "zip", "bytes", "picture"],
)
def test_what_is_not_text_is_refused_as_encoding(path: Path, content: bytes) -> None:
    assert kind_of(path, content) == "ENCODING"


def test_a_quote_that_never_closes_is_named_with_the_line_it_opens_on(path: Path) -> None:
    path.write_text(f'{HEADER}a,2 3\nb,"-1\nc,-1\n', encoding="utf-8")
    with pytest.raises(LabelFileError, match="line 3: ") as caught:
        read_labels(path)
    assert caught.value.kind == "MALFORMED"


def test_a_cut_gzip_file_is_malformed(path: Path) -> None:
    rows = "".join(f"i{number},{number} 1\n" for number in range(1000))
    assert kind_of(path, gzip.compress(f"{HEADER}{rows}".encode())[:-600]) == "MALFORMED"


def test_a_damaged_gzip_file_is_malformed(path: Path) -> None:
    content = bytearray(gzip.compress(f"{HEADER}a,-1\n".encode()))
    content[-5] ^= 0xFF  # of the checksum
    assert kind_of(path, bytes(content)) == "MALFORMED"


def test_a_missing_column_is_named_beside_those_that_are_there(path: Path) -> None:
    path.write_text("ImageId,PatientGroup\na,1\n", encoding="utf-8")
    with pytest.raises(LabelFileError, match="no column EncodedPixels, only 'ImageId', 'PatientGroup'"):
        read_labels(path)


def test_a_missing_id_column_points_at_the_option(path: Path) -> None:
    path.write_text(f"{HEADER}a,-1\n", encoding="utf-8")
    with pytest.raises(
        LabelFileError, match=r"no column NIH_ID.*is this a label file\? `prepare --id-column`"
    ):
        read_labels(path, id_column="NIH_ID")


def test_a_column_twice_is_refused(path: Path) -> None:
    assert kind_of(path, b"ImageId,EncodedPixels,encodedpixels\na,2 3,-1\n") == "DUPLICATE_COLUMN"


def test_a_file_beyond_the_limit_is_refused_before_it_is_read(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(5 * 2**30)  # sparse
    assert kind_of(path) == "TOO_LARGE"


def test_a_gzip_bomb_is_refused_without_unpacking_it_whole(path: Path) -> None:
    with gzip.open(path, "wb") as file:
        for _ in range(20):
            file.write(b"\n" * 2**20)
    with pytest.raises(LabelFileError) as caught:
        read_labels(path, max_bytes=10 * 2**20)
    assert caught.value.kind == "TOO_LARGE"


@pytest.mark.parametrize("before", ["", HEADER, f'{HEADER}a,"'], ids=["alone", "as rows", "in quotes"])
@pytest.mark.slow
def test_a_flood_of_line_ends_is_stopped(path: Path, before: str) -> None:
    path.write_text(before + "\n" * 100_000_000, encoding="utf-8")
    assert kind_of(path) == "TOO_LARGE"


@pytest.mark.slow
def test_as_many_lines_as_a_full_spreadsheet_has_are_read(path: Path) -> None:
    path.write_text(HEADER + ",\n" * (2**20 - 2) + "a,-1\n", encoding="utf-8")
    assert [line for line, _ in read_rows(path)] == [1, 2**20]


def test_a_pipe_is_refused_instead_of_waited_for(path: Path) -> None:
    os.mkfifo(path)
    assert kind_of(path) == "UNREADABLE"


def test_a_folder_and_a_missing_file_are_unreadable(path: Path) -> None:
    assert kind_of(path) == kind_of(path.parent) == "UNREADABLE"


def test_an_error_survives_the_way_back_from_a_worker_process() -> None:
    error = pickle.loads(pickle.dumps(LabelFileError("EMPTY_FILE", "nothing")))
    assert (error.kind, str(error)) == ("EMPTY_FILE", "nothing")
