import pytest
from rich.table import Table

from pneumoseg.pipeline.console import complain, console, say, tracked, warn


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


def test_a_bar_is_not_printed_where_nobody_can_see_it(capsys: pytest.CaptureFixture[str]) -> None:
    with tracked("read", total=2) as advance:
        advance()
    assert capsys.readouterr().out == ""
