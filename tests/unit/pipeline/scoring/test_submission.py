from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from pneumoseg.pipeline.scoring.submission import check_submission

SHAPE = (3, 4)
Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write the rows of a label file, by its name."""

    def write_rows(name: str, rows: str) -> Path:
        path = tmp_path / f"{name}.csv"
        path.write_text(f"ImageId,EncodedPixels\n{rows}", encoding="utf-8")
        return path

    return write_rows


def kinds_of(write: Write, submission: str, *expected_ids: str) -> dict[str, int]:
    faults = check_submission(write("submission", submission), expected_ids, shape=SHAPE)
    return dict(Counter(fault.kind for fault in faults))


def test_a_valid_submission_has_no_fault(write: Write) -> None:
    assert kinds_of(write, "b,-1\na,2 3\n", "a", "b") == {}


@pytest.mark.parametrize(
    ("rows", "kinds"),
    [
        ("a,-1\n", {"MISSING": 1}),
        ("a,-1\nb,-1\nc,-1\n", {"EXTRA": 1}),
        ("a,-1\na,-1\nb,-1\n", {"TWICE": 1}),
        ("a,0 2\na,5 2\nb,-1\n", {"TWICE": 1}),
        ("a,0 2\na,1 2\nb,-1\n", {"OVERLAP": 1, "TWICE": 1}),
        ("a,0 2\na,-1\nb,-1\n", {"CONFLICT": 1}),
        ("a,11 2\nb,-1\n", {"PAST_END": 1}),
        ("a,\nb,-1\n", {"EMPTY": 1}),
        ("a,1 2 3\nb,-1\n", {"ODD_TOKENS": 1}),
        ("a,0 0\nb,-1\n", {"BAD_LENGTH": 1}),
        ("=a,-1\na,-1\nb,-1\n", {"BAD_ID": 1}),
        ("", {"MISSING": 2}),
    ],
)
def test_each_fault_is_named(write: Write, rows: str, kinds: dict[str, int]) -> None:
    assert kinds_of(write, rows, "a", "b") == kinds


def test_a_fault_says_where_it_is(write: Write) -> None:
    [fault] = check_submission(write("submission", "a,-1\nb,11 2\n"), ["a", "b"], shape=SHAPE)
    assert (fault.line, fault.image_id) == (3, "b")
    assert str(fault).startswith("line 3: PAST_END: run [11, 13) leaves")


def test_a_file_that_cannot_be_read_is_one_fault(tmp_path: Path) -> None:
    [fault] = check_submission(tmp_path / "nowhere.csv", ["a"])
    assert fault.kind == "UNREADABLE"
