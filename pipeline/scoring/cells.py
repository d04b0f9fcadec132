"""Formats of scores, shared by printed tables and reports."""

from pneumoseg.pipeline.scoring.intervals import Difference, Measured


def number_cell(value: float | None) -> str:
    """Format a number with four decimals, or with one from 10 on.

    Args:
        value: Number; None is written as "-".
    """
    if value is None:
        return "-"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.1f}"


def interval_cell(measured: Measured) -> str:
    """Format a confidence interval as two numbers.

    Args:
        measured: Number with its interval; a missing interval is written as "-".
    """
    if measured.low is None or measured.high is None:
        return "-"
    return f"{number_cell(measured.low)} to {number_cell(measured.high)}"


def difference_cell(difference: Difference) -> tuple[str, str, str]:
    """Format a difference.

    Args:
        difference: Difference of two models.

    Returns: Cells with the signed value, the interval and the p-value; "-" stands for a missing one.
    """
    value = "-" if difference.value is None else f"{difference.value:+.4f}"
    p_value = "-" if difference.p_value is None else f"{difference.p_value:.4f}"
    return value, interval_cell(difference), p_value
