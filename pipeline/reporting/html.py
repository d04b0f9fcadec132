"""HTML form of a report in one file: it loads nothing from elsewhere, and escapes all names of files."""

from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Final

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from pneumoseg.pipeline.core.names import shown
from pneumoseg.pipeline.reporting.content import Page

SEARCHABLE_FROM: Final = 25  # rows


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
    environment.filters["number"] = _number
    folder = files("pneumoseg.pipeline.reporting") / "page"
    environment.globals["style"] = Markup((folder / "style.css").read_text(encoding="utf-8"))  # noqa: S704  (ours)
    environment.globals["script"] = Markup((folder / "table.js").read_text(encoding="utf-8"))  # noqa: S704
    return environment


def _harmless(value: object) -> object:
    """Escape the unprintable characters of texts from files; markup of this package is kept."""
    return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _number(value: str | float | int | None) -> str:
    """Format a cell: four digits of a fraction, or more where it would be rounded to 1; integers in full."""
    if value is None:
        return ""
    if isinstance(value, float):
        text = f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
        return repr(value) if text == "1" and value != 1 else text
    return str(value)
