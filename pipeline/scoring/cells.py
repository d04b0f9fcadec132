"""Scores as text, the same in printed tables and in reports."""

from pneumoseg.pipeline.scoring.intervals import Difference, Measured


def number_cell(value: float | None) -> str:
    """Write a number with four places, or with one where it is large; "-" stands for None."""
    if value is None:
        return "-"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.1f}"


def interval_cell(measured: Measured) -> str:
    """Write an interval as two numbers; "-" stands for none."""
    if measured.low is None or measured.high is None:
        return "-"
    return f"{number_cell(measured.low)} to {number_cell(measured.high)}"


def difference_cell(difference: Difference) -> tuple[str, str, str]:
    """Write a difference with its sign, its interval and its p-value."""
    value = "-" if difference.value is None else f"{difference.value:+.4f}"
    p_value = "-" if difference.p_value is None else f"{difference.p_value:.4f}"
    return value, interval_cell(difference), p_value
