import re

from matplotlib.figure import Figure

from pneumoseg.pipeline.reporting.svg import chart_style, to_svg


def draw(name: str) -> str:
    with chart_style():
        figure = Figure(figsize=(3, 2))
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], label="line")
        axes.legend()
    return to_svg(figure, name=name)


def test_the_same_figure_gives_the_same_text() -> None:
    assert draw("a") == draw("a")


def test_a_chart_loads_nothing_from_elsewhere() -> None:
    addresses = re.findall(r'(?:href|src)="([^"]*)"', draw("a"))
    assert all(address.startswith("#") for address in addresses)


def test_the_parts_of_two_charts_have_no_name_in_common() -> None:
    names = [set(re.findall(r'\bid="([^"]*)"', draw(name))) for name in ("a", "b")]
    assert names[0]
    assert not names[0] & names[1]


def test_what_a_chart_refers_to_is_in_it() -> None:
    svg = draw("a")
    wanted = set(re.findall(r'(?:url\(#|href="#)([^")]*)', svg))
    assert wanted <= set(re.findall(r'\bid="([^"]*)"', svg))


def test_lines_and_texts_take_the_ink_of_the_page() -> None:
    svg = draw("a")
    assert "currentColor" in svg
    assert "#123456" not in svg


def test_texts_stay_texts_that_can_be_searched() -> None:
    assert ">line</text>" in draw("a")


def test_a_chart_is_as_wide_as_there_is_room() -> None:
    start = re.match(r"<svg[^>]*>", draw("a"))
    assert start is not None
    assert "viewBox" in start.group()
    assert "width=" not in start.group()
