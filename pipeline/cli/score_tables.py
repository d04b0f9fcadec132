"""Tables that `pneumoseg score` prints."""

from collections.abc import Sequence

import numpy as np
from rich.table import Table

from pneumoseg.pipeline.cli.summaries import number_table, scores_table
from pneumoseg.pipeline.dataset.groups import PatientCount
from pneumoseg.pipeline.jobs.score import SubmissionScore
from pneumoseg.pipeline.scoring.cells import difference_cell, interval_cell, number_cell
from pneumoseg.pipeline.scoring.challenge import summarise
from pneumoseg.pipeline.scoring.headline import compare
from pneumoseg.pipeline.scoring.submission import InvalidSubmissionError


def score_table(result: SubmissionScore, *, title: str = "Challenge score") -> Table:
    """Lay out the score of a submission, beside that of an empty mask for every image.

    Args:
        result: Score of a valid submission.
        title: Title above the table.
    """
    score, images = result.score, result.images
    empty = np.zeros_like(images.true_px)
    nothing = summarise(empty, images.true_px, empty)
    table = scores_table(images, title=title, column="submission")
    table.add_section()
    table.add_row("images", str(score.images), "", str(nothing.images))
    table.add_row("with a pneumothorax", str(score.positives), "", str(nothing.positives))
    table.add_row("predicted positive", str(score.predicted_positive), "", str(nothing.predicted_positive))
    table.add_row("true positives", str(score.found), "", str(nothing.found))
    if result.unscored:
        unscored = str(len({issue.image_id for issue in result.unscored}))
        table.add_row("not scored (truth refused)", unscored, "", unscored)
    return table


def comparison_table(
    names: Sequence[str], results: Sequence[SubmissionScore | InvalidSubmissionError]
) -> Table:
    """Lay out the Dice of several submissions, and its difference to that of the first valid one, paired by image.

    Args:
        names: Names of the submissions.
        results: Score of each submission, or the error that lists its faults.
    """
    table = number_table("submission", "Dice, 95 % interval", "above the first", "p")
    table.columns[0].overflow = "fold"
    for column in table.columns[1:]:
        column.no_wrap = True
    first = next((each for each in results if isinstance(each, SubmissionScore)), None)
    if first is not None:
        table.add_row("predict nothing", number_cell(first.images.predicting_nothing()["dice"]), "", "")
        count = PatientCount.of(first.images.groups)
        table.caption = f"{count}, {first.score.positives} with a pneumothorax; {count.resampled_by}"
    for name, result in zip(names, results, strict=True):
        if isinstance(result, InvalidSubmissionError):
            table.add_row(name, f"invalid, faults: {len(result.faults)}", "", "")
            continue
        dice = result.images.measure()["dice"]
        beside = ("", "")
        if first is not None and result is not first:
            value, interval, p_value = difference_cell(compare(result.images, first.images)["dice"])
            beside = f"{value}, {interval}", p_value
        table.add_row(name, f"{number_cell(dice.value)}, {interval_cell(dice)}", *beside)
    return table
