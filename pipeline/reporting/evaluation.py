"""Report of an evaluation, made from the files of its folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from pneumoseg.pipeline.dataset.groups import PatientCount
from pneumoseg.pipeline.reporting import charts
from pneumoseg.pipeline.reporting.content import (
    Cell,
    CellValue,
    Chart,
    Charts,
    Folded,
    Page,
    Section,
    Table,
    Text,
    Tile,
    Tiles,
)
from pneumoseg.pipeline.reporting.evaluation_tables import (
    HEADLINES,
    OPERATING_POINTS,
    at_quoted_point,
    case_table,
    score_cell,
    subgroup_table,
)
from pneumoseg.pipeline.reporting.gallery import load_gallery
from pneumoseg.pipeline.reporting.result_files import Row, number, read_json, read_rows, results_of
from pneumoseg.pipeline.scoring.cells import interval_cell, number_cell, why_no_interval
from pneumoseg.pipeline.scoring.headline import MEANINGS, TITLES
from pneumoseg.pipeline.scoring.intervals import Measured

FILES: Final = ("scores.json", "cases.csv", "subgroups.csv")
SURFACE: Final = "score_surface.json"
_MEANINGS: Final = (
    "Dice is the challenge's: of each image at its own size, 1 where truth and prediction are both empty, 0 where "
    "exactly one is; the mean over all images. Compare it with the score of predicting nothing.",
    "Intervals contain 95 % of 2,000 bootstrap resamples, {resampled_by}. {why_no_interval} Where all values are "
    "equal, such as those of a specificity of 1, the interval is the exact one (Clopper and Pearson).",
    "Distances and surface Dice are of images where both masks contain pixels and the spacing is known. The "
    "calibration error is the mean gap between the probability and the share of positives, over ten bins.",
    "AUC and average precision are of the image probability as the model outputs it; they do not depend on the "
    "operating point, and no calibration changes them.",
)


def evaluation_page(folder: Path) -> Page:
    """Make the report of an evaluation.

    Args:
        folder: Folder written by `evaluate`.

    Raises: JobError: If the folder does not contain an evaluation.
    """
    scores = read_json(folder / "scores.json")
    with results_of(folder):
        return Page(
            title="Evaluation",
            subtitle=subtitle(scores),
            sections=[*result_sections(folder), how_it_was_made(scores)],
            warnings=warnings(scores),
        )


def subtitle(scores: Mapping[str, Any]) -> str:
    """Describe the scored images.

    Args:
        scores: Content of ``scores.json``.
    """
    fold = scores.get("fold")
    which = "all folds" if fold is None else f"fold {fold}, held out"
    return f"{scores['manifest']}: {which}; {_count(scores)}, {scores['positives']} with a pneumothorax"


def warnings(scores: Mapping[str, Any]) -> list[str]:
    """List the limitations of the scores.

    Args:
        scores: Content of ``scores.json``.
    """
    found = []
    if scores.get("trained_on"):
        found.append(
            f"The model was trained on {scores['trained_on']} of these {scores['images']} images: the scores "
            "are not valid for new ones."
        )
    if scores["leakage_unchecked"]:
        found.append(
            f"Leakage cannot be checked for {scores['leakage_unchecked']} images of the manifest: images of one person "
            "may be in training and validation at once, and intervals may be too narrow. Give `prepare` a file with "
            "--groups."
        )
    return found


def _count(scores: Mapping[str, Any]) -> PatientCount:
    return PatientCount(scores["images"], scores["patients"] or 0, scores["unknown_patients"])


def result_sections(folder: Path) -> list[Section]:
    """Make the sections with results; call it within `results_of`.

    All scores, charts of cases, subgroups, pictures and cases use one kind of operating point, which each of them
    names: the cross-fitted one where there is one.

    Args:
        folder: Folder written by `evaluate`.
    """
    scores, cases = read_json(folder / "scores.json"), read_rows(folder / "cases.csv")
    subgroups = read_rows(folder / "subgroups.csv")
    gallery = load_gallery(folder)
    at = OPERATING_POINTS[scores["operating_point"]]
    cases = [at_quoted_point(row, scores["operating_point"]) for row in cases]
    sections = [
        _summary(scores),
        _operating_point(folder, scores),
        _probabilities(scores, cases),
        Section(
            "Subgroups",
            [
                Text(
                    f"Dice, sensitivity and specificity are {at}. Small print: 95 % interval. "
                    f"{why_no_interval(_count(scores).unit)}"
                ),
                subgroup_table(subgroups),
            ],
        ),
        Section("Gallery", [Text(f"Masks and Dice are {at}."), gallery]) if gallery.cases else None,
        Section("Cases", [Text(f"Outcome, Dice, mask and distance are {at}."), case_table(cases)]),
    ]
    return [section for section in sections if section is not None]


def how_it_was_made(scores: Mapping[str, Any]) -> Section:
    """Make the section with definitions and settings.

    Args:
        scores: Content of ``scores.json``.
    """
    count = _count(scores)
    facts = {
        name: scores.get(name)
        for name in (
            "threshold", "segmentation_threshold", "min_area_fraction", "image_threshold", "operating_point",
            "objective", "tta", "calibration", "dropout_passes", "grouped_by", "manifest_sha256",
            "model_weights_sha256",
        )
    }  # fmt: skip
    return Section(
        "How it was made",
        [
            *(
                Text(
                    each.format(resampled_by=count.resampled_by, why_no_interval=why_no_interval(count.unit))
                )
                for each in _MEANINGS
            ),
            Folded("settings", "\n".join(f"{name}: {_plain(value)}" for name, value in facts.items())),
        ],
    )


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _summary(scores: Mapping[str, Any]) -> Section:
    quoted, in_sample, nothing = scores["scores"], scores["in_sample"], scores["predict_nothing"]
    kind = scores["operating_point"]
    tiles = [
        Tile(
            title,
            number_cell(quoted[name]["value"]),
            interval_cell(Measured(**quoted[name])),
            f"predict nothing {number_cell(nothing[name])}",
        )
        for name, title in HEADLINES.items()
        if name in quoted
    ]
    value = "value" if kind == "fixed" else kind
    columns = ["measure", value, *(["in-sample"] if in_sample else []), "predict nothing"]
    rows: list[list[CellValue]] = []
    for name, title in TITLES.items():
        if name in quoted:
            beside = [in_sample[name]["value"]] if in_sample else []
            others = (Cell(number_cell(each, of=name), order=each) for each in (*beside, nothing.get(name)))
            rows.append([title, score_cell(Measured(**quoted[name]), of=name), *others])
    unit = _count(scores).unit
    meaning = f"{MEANINGS[kind].format(unit=unit)} Small print: 95 % interval. {why_no_interval(unit)}"
    return Section("Summary", [Text(meaning), Tiles(tiles), Table(columns, rows)])


def _operating_point(folder: Path, scores: Mapping[str, Any]) -> Section | None:
    if not (folder / SURFACE).is_file():
        return None
    found = read_json(folder / SURFACE)
    thresholds, areas = found["thresholds"], found["min_area_fractions"]
    named = {name: np.array(found[name], dtype=np.float64) for name in ("dice", "sensitivity", "specificity")}
    nearest = int(np.argmin(np.abs(np.array(areas) - scores["min_area_fraction"])))
    point = (scores["threshold"], scores["min_area_fraction"])
    return Section(
        "Operating point",
        [
            Text(_operating_point_words(scores)),
            Charts(
                [
                    charts.surface_chart(
                        thresholds,
                        areas,
                        named["dice"],
                        chosen=point,
                        nothing=scores["predict_nothing"]["dice"],
                    ),
                    charts.threshold_chart(
                        thresholds,
                        {HEADLINES[name]: values[nearest] for name, values in named.items()},
                        chosen=point[0],
                        min_area=areas[nearest],
                    ),
                ]
            ),
        ],
    )


def _operating_point_words(scores: Mapping[str, Any]) -> str:
    area, segmentation = scores["min_area_fraction"], scores.get("segmentation_threshold")
    image = scores.get("image_threshold")
    many = f"more than {area:.3%} of its pixels exceed" if area else "any of its pixels exceeds"
    criterion = f" and its image probability exceeds {image:.3f}" if image else ""
    mask = "" if segmentation is None else f" Its mask then holds the pixels above {segmentation:.3f}."
    beside = f", beside the image threshold of {image:.3f}" if image else ""
    return (
        f"The operating point of the model: an image is predicted positive when {many} {scores['threshold']:.3f}"
        f"{criterion}.{mask} Both charts score all points on these same images (in-sample){beside}, with masks "
        "thresholded at the threshold itself."
    )


def _probabilities(scores: Mapping[str, Any], cases: Sequence[Row]) -> Section:
    probabilities = np.array([float(row["probability"]) for row in cases])
    positive = np.array([row["positive"] == "1" for row in cases])
    predicted = np.array([row["predicted_positive"] == "1" for row in cases])
    at = OPERATING_POINTS[scores["operating_point"]]
    made: list[Chart] = []
    if positive.any() and not positive.all():
        quoted = scores["scores"]
        ranked = charts.Ranked(probabilities, positive, predicted)
        made.append(charts.roc_chart({"": ranked}, note=f"AUC {number_cell(quoted['auc']['value'])}.", at=at))
        average = number_cell(quoted["average_precision"]["value"])
        made.append(charts.precision_recall_chart({"": ranked}, note=f"Average precision {average}.", at=at))
    made.append(charts.reliability_chart(scores["reliability"], note=_calibration_words(scores)))
    made.append(
        charts.histogram_chart(
            {"with a pneumothorax": probabilities[positive], "without": probabilities[~positive]},
            title="Image probability",
            label="image probability",
            limits=(0.0, 1.0),
        )
    )
    if positive.any():
        areas = np.array([float(row["label_area_px"]) for row in cases])
        dices = np.array([float(row["dice"]) for row in cases])
        made.append(charts.size_chart(areas[positive], dices[positive], predicted[positive], at=at))
    uncertainty = np.array([value for row in cases if (value := number(row["uncertainty"])) is not None])
    if len(uncertainty):
        made.append(
            charts.histogram_chart(
                {"all": uncertainty},
                title="Uncertainty of the images",
                label="standard deviation of the image probability",
                limits=None,
            )
        )
    return Section("Probabilities", [Charts(made)])


def _calibration_words(scores: Mapping[str, Any]) -> str:
    if not scores.get("calibration"):
        return "The probabilities are those that the model outputs."
    where = {"cross-fitted": "with cross-fitted numbers", "in-sample": "in-sample"}
    return f"The image probabilities are calibrated {where.get(scores['operating_point'], 'as in training')}."
