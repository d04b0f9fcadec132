"""Formats of scores, shared by printed tables and reports."""

from typing import Final

from pneumoseg.pipeline.scoring.intervals import FEWEST_PATIENTS, Difference, Measured

NO_INTERVAL: Final = "no interval"
"""Cell of a score that has a value and no interval."""


def why_no_interval(unit: str) -> str:
    """Explain `NO_INTERVAL`.

    Args:
        unit: What is resampled: patient or image.
    """
    return f"No interval: fewer than {FEWEST_PATIENTS} {unit}s count for the score, or resampling cannot vary it."


def number_cell(value: float | None, *, of: str = "", digits: int = 4) -> str:
    """Format a score with four decimals, or a length or an area with one.

    Args:
        value: Number; None is written as "-".
        of: Name of the score; one that ends in ``_mm`` or ``_px`` is a length or an area.
        digits: Number of decimals of other scores.
    """
    return "-" if value is None else f"{value:.{_decimals(of, digits)}f}"


def interval_cell(measured: Measured, *, of: str = "", digits: int = 4) -> str:
    """Format a confidence interval as two numbers.

    Args:
        measured: Number with its interval. A missing interval is written as `NO_INTERVAL`, or as "-" without a number.
        of: Name of the score, as for `number_cell`.
        digits: Number of decimals, as for `number_cell`.
    """
    if measured.low is None or measured.high is None:
        return "-" if measured.value is None else NO_INTERVAL
    return " to ".join(number_cell(each, of=of, digits=digits) for each in (measured.low, measured.high))


def difference_cell(difference: Difference, *, of: str = "") -> tuple[str, str, str]:
    """Format a difference.

    Args:
        difference: Difference of two models.
        of: Name of the score, as for `number_cell`.

    Returns: Cells with the signed value, the interval and the p-value; "-" stands for a missing one.
    """
    value = "-" if difference.value is None else f"{difference.value:+.{_decimals(of)}f}"
    p_value = "-" if difference.p_value is None else f"{difference.p_value:.4f}"
    return value, interval_cell(difference, of=of), p_value


def _decimals(name: str, digits: int = 4) -> int:
    return 1 if name.endswith(("_mm", "_px")) else digits
