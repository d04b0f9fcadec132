"""Warnings that several commands print."""

from typing import TYPE_CHECKING

from pneumoseg.pipeline.core.console import warn

if TYPE_CHECKING:  # the job loads MONAI
    from pneumoseg.pipeline.jobs.evaluate import EvaluateReport


def warn_trained_on(report: "EvaluateReport") -> None:
    """Warn if the model is scored on images that it was trained on."""
    if report.trained_on:
        warn(
            f"the model was trained on {report.trained_on} of these {report.scores.score.images} images "
            "(column trained_on of cases.csv): this score does not predict the score on new images"
        )
