"""Warnings that several commands print."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pneumoseg.pipeline.core.console import complain, warn

if TYPE_CHECKING:  # the job loads MONAI
    from pneumoseg.pipeline.jobs.evaluate import EvaluateReport

_SHOWN_LINES: Final = 5


def warn_some(lines: Sequence[str], what: str) -> None:
    """Warn of a number of findings, and print the first of them.

    Args:
        lines: One line for each finding; nothing is printed where there are none.
        what: What follows their number in the warning.
    """
    if not lines:
        return
    warn(f"{len(lines)} {what}" + ("" if len(lines) <= _SHOWN_LINES else f"; the first {_SHOWN_LINES}"))
    complain(*(f"  {line}" for line in lines[:_SHOWN_LINES]))


def warn_trained_on(report: "EvaluateReport") -> None:
    """Warn if the model is scored on images that it was trained on."""
    if report.trained_on:
        warn(
            f"the model was trained on {report.trained_on} of these {report.scores.score.images} images "
            "(column trained_on of cases.csv): this score does not predict the score on new images"
        )
