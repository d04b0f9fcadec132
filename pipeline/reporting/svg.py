"""SVG figures in the text colour of the page, for light and dark pages."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler

COLOURS: Final = ("#2f81d6", "#e08a00", "#1c9a6c", "#b8579b", "#8a6d3b")
"""Colours of curves, distinguishable for most colour-blind readers."""
BLUE, ORANGE, GREEN, *_ = COLOURS
_INK: Final = "#123456"  # placeholder of the text colour of the page
_STYLE: Final[dict[Any, Any]] = {
    "axes.edgecolor": _INK,
    "axes.facecolor": "none",
    "axes.labelcolor": _INK,
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": _INK,
    "figure.facecolor": "none",
    "font.family": ["sans-serif"],
    "font.size": 10,
    "grid.color": _INK,
    "legend.facecolor": "none",
    "legend.frameon": False,
    "legend.labelcolor": _INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "pneumoseg",
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}
_ID: Final = re.compile(r'(\bid="|url\(#|href="#)')
_SIZE: Final = re.compile(
    r'(<svg[^>]*?) width="[^"]*" height="[^"]*"|(<svg[^>]*?) height="[^"]*" width="[^"]*"'
)
QUIET: Final = _INK
"""Colour of reference lines: that of the text, for dashed or faint lines."""


@contextmanager
def chart_style() -> Iterator[None]:
    """Apply the style of charts; make figures for `to_svg` within this context."""
    with mpl.rc_context(_STYLE):
        yield


def to_svg(figure: Figure, *, name: str) -> str:
    """Convert a figure to an SVG element; the same figure gives the same text.

    Args:
        figure: Figure made within `chart_style`.
        name: Name of the chart, unique on its page, which distinguishes the ids of several charts.
    """
    text = io.StringIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = _SIZE.sub(lambda found: found.group(1) or found.group(2), svg, count=1)  # as wide as there is room
    svg = _ID.sub(rf"\g<1>{name}-", svg)
    return svg.replace(_INK, "currentColor")
