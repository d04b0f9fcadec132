import shutil
from pathlib import Path

import pytest

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.jobs.describe import describe_model


@pytest.fixture(scope="module")
def table() -> list[str]:
    return describe_model(AttentionUNet()).splitlines()


def test_the_table_ends_in_the_articles_total(table: list[str]) -> None:
    assert table[-1].split() == ["Total", "7,977,941"]


def test_a_row_tells_name_kind_shape_parameters_and_input(table: list[str]) -> None:
    row = next(line for line in table if line.startswith("decoder4.conv1"))
    assert row.split() == [
        "decoder4.conv1",
        "Conv2d",
        "3×3,",
        "ReLU",
        "256×20×20",
        "1,769,728",
        "concatenate",
    ]


def test_a_second_input_stands_on_a_line_of_its_own(table: list[str]) -> None:
    line = next(number for number, line in enumerate(table) if line.startswith("gate4.multiply"))
    first, second = table[line], table[line + 1]
    assert second.split() == ["gate4.sigmoid"]
    assert second.index("gate4.sigmoid") == first.index("encoder4.conv2")


@pytest.mark.parametrize("size", [(160, 160), (1024, 1024)])
def test_the_table_fits_80_columns_without_folding(size: tuple[int, int]) -> None:
    lines = describe_model(AttentionUNet(), image_size=size).splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)


def test_the_table_is_plain_text_also_where_a_terminal_has_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "20")
    assert "\x1b" not in (text := describe_model(AttentionUNet()))
    assert "decoder4.conv1     Conv2d 3×3, ReLU" in text


def test_no_picture_is_drawn_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    describe_model(AttentionUNet())
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(shutil.which("dot") is None, reason="the program dot of Graphviz is missing")
def test_the_picture_is_written_where_asked(tmp_path: Path) -> None:
    describe_model(AttentionUNet(), output=tmp_path / "network.png")
    assert [path.name for path in tmp_path.iterdir()] == ["network.png"]
