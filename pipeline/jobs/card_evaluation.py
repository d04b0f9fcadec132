"""Scores of an evaluation for the card of its model."""

from pathlib import Path

from pneumoseg.pipeline.dataset.groups import PatientCount
from pneumoseg.pipeline.model.card_metadata import CardEvaluation, CardScore, CardSubgroup
from pneumoseg.pipeline.reporting.result_files import Row, number, read_json, read_rows, results_of
from pneumoseg.pipeline.scoring.cells import why_no_interval
from pneumoseg.pipeline.scoring.headline import TITLES
from pneumoseg.pipeline.scoring.subgroups import SHOWN


def read_card_evaluation(folder: Path) -> CardEvaluation:
    """Read the scores that a model card shows.

    Args:
        folder: Folder written by `evaluate`.

    Raises: JobError: If ``scores.json`` or ``subgroups.csv`` is missing or damaged.
    """
    with results_of(folder):
        scores = read_json(folder / "scores.json")
        quoted, nothing = scores["scores"], scores["predict_nothing"]
        count = PatientCount(scores["images"], scores["patients"] or 0, scores["unknown_patients"])
        return CardEvaluation(
            collection=scores["manifest"],
            manifest_sha256=scores["manifest_sha256"],
            fold=scores["fold"],
            weights_sha256=scores["model_weights_sha256"],
            images=f"{count}, {scores['positives']} with a pneumothorax",
            operating_point=scores["operating_point"],
            resampled_by=count.resampled_by.partition(":")[0],
            why_no_interval=why_no_interval(count.unit),
            scores={
                name: CardScore(title, **quoted[name], nothing=nothing.get(name))
                for name, title in TITLES.items()
                if name in quoted
            },
            subgroups=[_subgroup(row) for row in read_rows(folder / "subgroups.csv")],
        )


def _subgroup(row: Row) -> CardSubgroup:
    return CardSubgroup(
        name=row["subgroup"].replace("_", " "),
        value=row["value"],
        images=int(row["images"]),
        positives=int(row["positives"]),
        scores={
            name: CardScore(TITLES[name], *(number(row[f"{name}{bound}"]) for bound in ("", "_low", "_high")))
            for name in SHOWN
        },
    )
