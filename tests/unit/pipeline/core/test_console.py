import io
import re

import pytest
from rich.console import Console
from rich.table import Table

from pneumoseg.pipeline.core.console import complain, console, say, tracked, warn, warn_some


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("plain", "plain\n"),
        ("[bold]no markup[/]", "[bold]no markup[/]\n"),
        ("[/]", "[/]\n"),
        ("a:warning:b.dcm", "a:warning:b.dcm\n"),  # no emoji
        ("one\ntwo", "one\ntwo\n"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07\n"),
        ("ends in \\", "ends in \\\n"),
        ("x" * 300, "x" * 300 + "\n"),  # no line is broken
    ],
)
def test_what_is_said_is_printed_as_it_is(
    capsys: pytest.CaptureFixture[str], text: str, printed: str
) -> None:
    say(text)
    assert capsys.readouterr().out == printed


def test_a_warning_goes_to_standard_error_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    warn("a\n[red]b[/] :x:")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "warning: a\\n[red]b[/] :x:\n"


def test_complaints_are_lines_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    complain("error: a\nb", "  [red]c[/]\x1b[2J")
    assert capsys.readouterr().err == "error: a\\nb\n  [red]c[/]\\x1b[2J\n"


def test_a_name_in_a_table_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("[red]head")
    table.add_row("[/] [bold]cell[/]")
    console.print(table)
    printed = capsys.readouterr().out
    assert "[red]head" in printed
    assert "[/] [bold]cell[/]" in printed


def test_a_short_loop_says_nothing_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with tracked("read", total=2) as advance:
        advance()
    assert capsys.readouterr().out == ""


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock."""
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    return clock


def test_a_long_one_tells_rate_and_time_left_in_lines(
    capsys: pytest.CaptureFixture[str], now: list[float]
) -> None:
    with tracked("read", total=100) as advance:
        for _ in range(20):
            now[0] += 2
            advance()
    # 15 files in 30 s are 0.5 a second; 85 are left
    assert capsys.readouterr().out == "read: 15 of 100, 0.5/s, 170 s left\n"


def test_a_quiet_one_tells_nothing(
    capsys: pytest.CaptureFixture[str], now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "quiet", True)
    with tracked("read", total=100) as advance:
        now[0] += 100
        advance()
    assert capsys.readouterr().out == ""


def test_on_a_terminal_there_is_a_bar_with_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=100)
    monkeypatch.setattr("pneumoseg.pipeline.core.console.console", terminal)
    with tracked("read", total=4) as advance:
        for _ in range(3):
            advance()
            terminal.print("")  # the bar is drawn again below
    assert "3/4" in screen.getvalue()
    assert re.search(r"\d/s", screen.getvalue())
    assert re.search(r"\d:\d\d:\d\d", screen.getvalue())


@pytest.mark.parametrize(("count", "shown", "head"), [(5, 5, "rows: 5"), (7, 5, "rows: 7; the first 5")])
def test_the_first_five_lines_follow_their_number(
    capsys: pytest.CaptureFixture[str], count: int, shown: int, head: str
) -> None:
    warn_some([f"row {index}" for index in range(count)], "rows")
    lines = [f"  row {index}" for index in range(shown)]
    assert capsys.readouterr().err.splitlines() == [f"warning: {head}", *lines]


def test_nothing_is_printed_without_findings(capsys: pytest.CaptureFixture[str]) -> None:
    warn_some([], "rows")
    assert capsys.readouterr().err == ""
