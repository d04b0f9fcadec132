"""HTML form of a report in one file: it loads nothing from elsewhere, and escapes all names of files."""

from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Final

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from pneumoseg.pipeline.core.names import shown
from pneumoseg.pipeline.reporting.content import Cell, CellValue, Page, Table
from pneumoseg.transforms.measurements import probability_text

SEARCHABLE_FROM: Final = 25  # rows
_LONGEST_NAME: Final = 28
_SHOWN_OF_NAME: Final = 24  # characters at the end of a longer name, such as a UID
_LONG_TEXT: Final = 40
_SHARE_DECIMALS: Final = 4


def render(page: Page) -> str:
    """Render a page as HTML; the same page gives the same text.

    Args:
        page: Content of the report.
    """
    template = _environment().get_template("page.html")
    return template.render(page=page, version=version("pneumoseg"), searchable_from=SEARCHABLE_FROM)


@cache
def _environment() -> Environment:
    from jinja2 import PackageLoader  # noqa: PLC0415

    environment = Environment(
        loader=PackageLoader("pneumoseg.pipeline.reporting", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_harmless,
    )
    environment.filters["kind"] = lambda block: type(block).__name__
    environment.filters |= {"cell": _cell, "columns": _columns, "short": _short}
    folder = files("pneumoseg.pipeline.reporting") / "page"
    environment.globals["style"] = Markup((folder / "style.css").read_text(encoding="utf-8"))  # noqa: S704  (ours)
    environment.globals["script"] = Markup((folder / "table.js").read_text(encoding="utf-8"))  # noqa: S704
    return environment


def _harmless(value: object) -> object:
    """Escape the unprintable characters of texts from files; markup of this package is kept."""
    return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _short(name: str) -> str:
    """Shorten a long name, such as a UID or a path, to its end; the rest stays in the page for the search."""
    name = shown(name)
    if len(name) <= _LONGEST_NAME:
        return name
    start, end = name[:-_SHOWN_OF_NAME], name[-_SHOWN_OF_NAME:]
    return Markup('<span class="short" title="{}"><span hidden>{}</span>{}</span>').format(name, start, end)


def _columns(table: Table) -> list[int | None]:
    """Choose the number of decimals of each column, so that its numbers are aligned; None holds texts only."""
    return [_decimals([row[place] for row in table.rows]) for place in range(len(table.columns))]


def _decimals(cells: Sequence[CellValue]) -> int | None:
    numbers = [abs(cell) for cell in cells if isinstance(cell, int | float)]
    if not any(isinstance(cell, float) for cell in cells):
        is_numeric = bool(numbers) or any(isinstance(cell, Cell) and cell.is_number for cell in cells)
        return 0 if is_numeric else None
    return _SHARE_DECIMALS if max(numbers) <= 1 else 2 if max(numbers) < 100 else 1


def _cell(value: CellValue, decimals: int | None) -> Markup:
    """Make the HTML of a cell."""
    if isinstance(value, Cell):
        note = Markup("<small>{}</small>").format(shown(value.note)) if value.note else ""
        kind = Markup(' class="n"') if value.is_number else ""
        order = "" if value.order is None else Markup(' data-value="{}"').format(value.order)
        return Markup("<td{}{}>{}{}</td>").format(kind, order, shown(value.text), note)
    if isinstance(value, int | float):
        text = _number(value, decimals) if decimals else str(value)
        return Markup('<td class="n" data-value="{}">{}</td>').format(value, text)
    text = value or ""
    is_name = not any(letter.isspace() for letter in text)
    kind = Markup(' class="long"') if len(text) > _LONG_TEXT and not is_name else ""
    return Markup("<td{}>{}</td>").format(kind, _short(text) if is_name else shown(text))


def _number(value: float, decimals: int) -> str:
    """Format a number of a column; a share that would be rounded to 0 or 1 is neither, and is given as a bound."""
    is_share = decimals == _SHARE_DECIMALS and 0 < value < 1
    return probability_text(value, digits=decimals) if is_share else f"{value:.{decimals}f}"
