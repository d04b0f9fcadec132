import pytest

from pneumoseg.pipeline.cli.notices import warn_some


@pytest.mark.parametrize(("count", "shown", "head"), [(5, 5, "5 rows"), (7, 5, "7 rows; the first 5")])
def test_the_first_five_lines_follow_their_number(
    capsys: pytest.CaptureFixture[str], count: int, shown: int, head: str
) -> None:
    warn_some([f"row {index}" for index in range(count)], "rows")
    lines = [f"  row {index}" for index in range(shown)]
    assert capsys.readouterr().err.splitlines() == [f"warning: {head}", *lines]


def test_nothing_is_printed_without_findings(capsys: pytest.CaptureFixture[str]) -> None:
    warn_some([], "rows")
    assert capsys.readouterr().err == ""
