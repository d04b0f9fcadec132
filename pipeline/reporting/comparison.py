"""Report that compares several models on the same cases."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from pneumoseg.pipeline.reporting import charts, comparison_charts
from pneumoseg.pipeline.reporting.content import Cell, CellValue, Chart, Charts, Page, Section, Table, Text
from pneumoseg.pipeline.reporting.evaluation_tables import (
    HEADLINES,
    OPERATING_POINTS,
    SHOWN_CASES,
    outcome,
    score_cell,
)
from pneumoseg.pipeline.reporting.paired import Evaluated, PairedEvaluations, read_paired
from pneumoseg.pipeline.reporting.result_files import number, read_rows, results_of
from pneumoseg.pipeline.scoring.cells import difference_cell, number_cell, why_no_interval
from pneumoseg.pipeline.scoring.headline import TITLES, compare
from pneumoseg.pipeline.scoring.intervals import Difference

_CURVES: Final = {"validation_loss": "validation loss", "dice": "validation Dice", "auc": "validation AUC"}


def comparison_page(folders: Sequence[Path]) -> Page:
    """Make the report that compares models with the first one, case by case.

    Args:
        folders: Folders written by `evaluate` or `train`, or model folders of runs; at least two.

    Raises:
        UsageError: If a folder holds no evaluation.
        JobError: If an evaluation is damaged, or the models were not evaluated on the same labels.
    """
    paired = read_paired(folders)
    first, *others = paired.models
    with results_of(first.folder):
        differences = {
            other.letter: compare(images, paired.images[0])
            for other, images in zip(others, paired.images[1:], strict=True)
        }
        sections = [
            Section("Models", [_models_table(paired.models)]),
            Section(
                "Scores",
                [
                    Text(f"{_WHAT_SCORES_ARE} {why_no_interval(paired.count.unit)}"),
                    _scores_table(paired),
                ],
            ),
            Section("Differences", _differences(paired, differences)),
            _probabilities(paired),
            Section("Cases", _cases(paired)),
            _learning(paired.models),
        ]
        return Page(
            title="Comparison",
            subtitle=f"{', '.join(model.letter for model in paired.models)} on the same {paired.count}, "
            f"{int(paired.positive.sum())} with a pneumothorax",
            sections=[section for section in sections if section is not None],
            warnings=list(_warnings(paired)),
        )


_WHAT_SCORES_ARE: Final = (
    "Each model is scored at its own operating point. Small print: 95 % interval. Dice is the challenge's: 1 where "
    "truth and prediction are both empty, 0 where exactly one is."
)


def _models_table(models: Sequence[Evaluated]) -> Table:
    rows: list[list[CellValue]] = []
    for model in models:
        scores = model.scores
        rows.append(
            [
                model.letter,
                Cell("/".join(model.folder.parts[-2:]), is_number=False),  # whole paths do not fit
                scores["manifest"],
                scores["operating_point"],
                f"threshold {scores['threshold']:.3f}, minimum area {scores['min_area_fraction']:.3%}",
                ", ".join(scores.get("tta") or ()) or "none",
                len(scores.get("model_weights_sha256") or ()) or None,
            ]
        )
    return Table(("model", "evaluation", "manifest", "scored", "operating point", "TTA", "networks"), rows)


def _warnings(paired: PairedEvaluations) -> list[str]:
    found = []
    for model in paired.models:
        seen = sum(model.rows[case]["trained_on"] == "1" for case in paired.ids)
        if seen:
            found.append(
                f"{model.letter} was trained on {seen} of these {len(paired.ids)} images: its scores are not valid for "
                "new ones, and neither are differences from it."
            )
        if left_out := len(model.rows) - len(paired.ids):
            found.append(
                f"{left_out} images of {model.letter} are left out, which not all models have scored."
            )
    kinds = {model.scores["operating_point"] for model in paired.models}
    if len(kinds) > 1:
        how = ", ".join(f"{model.letter} {model.scores['operating_point']}" for model in paired.models)
        found.append(
            f"The operating points are not of one kind ({how}): one tuned on these images scores too high."
        )
    return found


def _scores_table(paired: PairedEvaluations) -> Table:
    measured = [images.measure() for images in paired.images]
    nothing = paired.images[0].predicting_nothing()
    rows: list[list[CellValue]] = []
    for name, title in TITLES.items():
        if all(name in each for each in measured):
            cells = (score_cell(each[name], of=name) for each in measured)
            rows.append([title, *cells, Cell(number_cell(nothing[name], of=name), order=nothing[name])])
    return Table(("measure", *(model.letter for model in paired.models), "predict nothing"), rows)


def _differences(
    paired: PairedEvaluations, differences: Mapping[str, Mapping[str, Difference]]
) -> list[Text | Charts | Table]:
    first = paired.models[0].letter
    rows: list[list[CellValue]] = []
    for name, title in TITLES.items():
        row: list[CellValue] = [title]
        for found in differences.values():
            if name in found:
                value, _, p_value = difference_cell(found[name], of=name)
                row += [
                    score_cell(found[name], of=name, text=value),
                    Cell(p_value, order=found[name].p_value),
                ]
        if len(row) > 1:
            rows.append(row)
    columns = [part for letter in differences for part in (f"{letter} - {first}", f"p, {letter} - {first}")]
    shown = {
        letter: {TITLES[name]: found[name] for name in HEADLINES if name in found}
        for letter, found in differences.items()
    }
    return [
        Text(
            f"Paired by case: both models are scored on the same resamples, {paired.count.resampled_by}. "
            "Small print: 95 % interval of 2,000 bootstrap resamples. p: permutation test that swaps the two models "
            f"{paired.count.unit} by {paired.count.unit}, two-sided, not corrected for the number of comparisons."
        ),
        Charts([comparison_charts.difference_chart(shown, first=first)]),
        Table(("measure", *columns), rows),
    ]


def _probabilities(paired: PairedEvaluations) -> Section | None:
    if paired.positive.all() or not paired.positive.any():
        return None
    ranked = {
        model.letter: charts.Ranked(
            paired.column(model, "probability"), paired.positive, paired.predicted_positive(model)
        )
        for model in paired.models
    }
    kinds = {OPERATING_POINTS[model.scores["operating_point"]] for model in paired.models}
    at = kinds.pop() if len(kinds) == 1 else "at the operating point of each model"
    made = [
        charts.roc_chart(ranked, note="", at=at),
        charts.precision_recall_chart(ranked, note="", at=at),
    ]
    return Section("Probabilities", [Charts(made)])


def _cases(paired: PairedEvaluations) -> list[Text | Charts | Table]:
    first, *others = paired.models
    dices = {model.letter: paired.column(model, "dice") for model in paired.models}
    blocks: list[Text | Charts | Table] = []
    if paired.positive.any():
        positives = {letter: values[paired.positive] for letter, values in dices.items()}
        pairs = [comparison_charts.paired_chart(positives, first.letter, other.letter) for other in others]
        blocks.append(Charts(pairs))
    blocks.append(_outcome_table(paired))
    blocks.append(Text("The cases on which the models differ most come first."))
    spread = np.ptp(np.array(list(dices.values())), axis=0)
    order = np.argsort(-spread, kind="stable")
    letters = list(dices)
    columns = [
        "case", "truth px", *(f"Dice {each}" for each in letters), *(f"outcome {each}" for each in letters),
        *(f"probability {each}" for each in letters),
    ]  # fmt: skip
    rows: list[list[CellValue]] = []
    for place in order[:SHOWN_CASES]:
        case = paired.ids[place]
        each_row = [model.rows[case] for model in paired.models]
        rows.append(
            [
                case,
                int(each_row[0]["label_area_px"]),
                *(float(dices[letter][place]) for letter in letters),
                *(outcome(row) for row in each_row),
                *(float(row["probability"]) for row in each_row),
            ]
        )
    blocks.append(
        Table(
            columns,
            rows,
            filters=[f"outcome {each}" for each in letters],
            left_out=max(0, len(order) - SHOWN_CASES),
            file="cases.csv",
        )
    )
    return blocks


def _outcome_table(paired: PairedEvaluations) -> Table:
    """Count the cases that both models, one of them, or neither predicts to be positive."""
    first, *others = paired.models
    predicted = paired.predicted_positive(first)
    rows: list[list[CellValue]] = []
    for other in others:
        theirs = paired.predicted_positive(other)
        for what, where in (
            ("positives found", paired.positive),
            ("negatives with a false alarm", ~paired.positive),
        ):
            counts = (predicted & theirs, predicted & ~theirs, ~predicted & theirs, ~predicted & ~theirs)
            numbers = (int((each & where).sum()) for each in counts)
            rows.append([f"{first.letter} and {other.letter}", what, *numbers])
    return Table(
        ("models", "images", "by both", "by the first only", "by the second only", "by neither"), rows
    )


def _learning(models: Sequence[Evaluated]) -> Section | None:
    """Show the learning curves of those evaluations that are part of a run, in one chart each."""
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {name: {} for name in _CURVES}
    for model in models:
        if model.run is None:
            continue
        for row in read_rows(model.run / "metrics.csv"):
            for name, lines in curves.items():
                epoch, value = number(row.get("epoch")), number(row.get(name))
                if epoch is not None and value is not None:
                    lines.setdefault(model.letter, []).append((epoch, value))
    made: list[Chart] = [
        comparison_charts.epoch_chart(lines, title=_CURVES[name])
        for name, lines in curves.items()
        if len(lines) > 1
    ]
    return Section("Learning", [Charts(made)]) if made else None
