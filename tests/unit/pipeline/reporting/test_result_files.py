import csv
from pathlib import Path

import pytest

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.reporting.result_files import number, number_or_text, read_json, read_rows, results_of


def write(folder: Path, content: bytes) -> Path:
    (folder / "file").write_bytes(content)
    return folder / "file"


def test_an_object_comes_back(tmp_path: Path) -> None:
    assert read_json(write(tmp_path, b'{"a": [1, null]}')) == {"a": [1, None]}


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": "\xff"}', b"[1]", b"3", b"[" * 100_000])
def test_what_is_no_object_is_an_error_of_one_line_that_names_the_file(
    tmp_path: Path, content: bytes
) -> None:
    path = write(tmp_path, content)
    with pytest.raises(JobError) as caught:
        read_json(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [read_json, read_rows])
def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path, read: type) -> None:
    with pytest.raises(JobError, match="nothing: is missing"):
        read(tmp_path / "nothing")


def test_rows_are_texts_by_their_column(tmp_path: Path) -> None:
    rows = read_rows(write(tmp_path, b'a,b\n1,\n"x, y",2\n'))
    assert rows == [{"a": "1", "b": ""}, {"a": "x, y", "b": "2"}]


def test_a_row_that_is_cut_has_empty_cells(tmp_path: Path) -> None:
    assert read_rows(write(tmp_path, b"a,b\n1")) == [{"a": "1", "b": ""}]


def test_a_row_that_is_too_long_keeps_what_has_a_name(tmp_path: Path) -> None:
    assert read_rows(write(tmp_path, b"a\n1,2,3\n")) == [{"a": "1"}]


def test_a_table_that_is_no_text_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="file: cannot be read"):
        read_rows(write(tmp_path, b"a\n\xff\xfe\n"))


def test_a_table_without_heads_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="file: is empty"):
        read_rows(write(tmp_path, b""))


def test_the_run_lengths_of_a_large_mask_are_no_damage(tmp_path: Path) -> None:
    """The csv module refuses cells of more than 131,072 characters unless told otherwise."""
    before = csv.field_size_limit()
    (row,) = read_rows(write(tmp_path, b"rle\n" + b"1 1 " * 50_000))
    assert len(row["rle"]) == 200_000
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.25", 0.25), ("-3", -3.0), ("1e-3", 0.001), ("", None), (None, None), ("PA", None), ("nan", None)],
)
def test_a_cell_is_a_number_or_none(text: str | None, expected: float | None) -> None:
    assert number(text) == expected


@pytest.mark.parametrize("text", ["inf", "-inf", "1e999", "9" * 5000])
def test_no_number_is_infinite(text: str) -> None:
    assert number(text) is None
    assert number_or_text(text) == text


def test_whole_numbers_stay_whole() -> None:
    found = [number_or_text(text) for text in ("12", "-3", "12.0", "PA", "")]
    assert found == [12, -3, 12.0, "PA", None]
    assert [type(each) for each in found[:3]] == [int, int, float]


@pytest.mark.parametrize(
    "error",
    [KeyError("dice"), IndexError("5"), TypeError("x"), ValueError("x"), AttributeError("x"), OSError("x"),
     OverflowError("x"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x")],
)  # fmt: skip
def test_whatever_fails_in_reading_results_is_one_line_that_names_their_folder(
    tmp_path: Path, error: Exception
) -> None:
    with pytest.raises(JobError) as caught, results_of(tmp_path):
        raise error
    assert str(caught.value).startswith(f"{tmp_path}: ")
    assert "\n" not in str(caught.value)


def test_an_error_that_says_more_already_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"^that file$"), results_of(tmp_path):
        raise JobError("that file")
