"""Table of training runs with aggregate scores; it contains no single image.

    python benchmarks/experiments.py RUN... [--against RUN] [--note TEXT]
    python benchmarks/experiments.py RUN... --together NAME

Each run folder, of a fold or a cross-validation, adds or replaces a row of ``docs/experiments.json``, and the tables of
``docs/experiments.md``, below its marker, are rewritten from all rows. The scores are those of ``evaluate`` on the
held-out images, at the cross-fitted operating point, with intervals by patient. ``--against`` also compares each run
with another one on the same images, paired by patient. ``--together`` makes one row of runs that held out different
images; each image is scored at the operating points of its own run.
"""

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from pneumoseg.pipeline.scoring.cells import interval_cell
from pneumoseg.pipeline.scoring.headline import ScoredImages, as_numbers, compare
from pneumoseg.pipeline.scoring.intervals import Measured, PatientBootstrap

DOCS: Final = Path(__file__).parents[1] / "docs"
ROWS, PAGE = DOCS / "experiments.json", DOCS / "experiments.md"
MARKER: Final = "<!-- What follows is written by benchmarks/experiments.py. -->"
Row = dict[str, Any]
SHOWN: Final = {
    "dice": "score",
    "dice_positive": "Dice on positives",
    "auc": "AUC",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
}


def main() -> None:
    """Read the run folders and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--against", type=Path, help="Run that the others are compared with.")
    parser.add_argument("--note", default="", help="What the runs are for.")
    parser.add_argument("--together", metavar="NAME", help="Name of one row for all runs together.")
    words = parser.parse_args()
    rows: dict[str, Row] = json.loads(ROWS.read_text(encoding="utf-8")) if ROWS.is_file() else {}
    named = {words.together: words.runs} if words.together else {run.name: [run] for run in words.runs}
    for name, runs in named.items():
        row = read_runs(runs)
        if words.against and [words.against] != runs:
            row["against"] = words.against.name
            row["differences"] = differences(runs, words.against)
        rows[name] = {**row, "note": words.note or rows.get(name, {}).get("note", "")}
    ROWS.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    text, marker, _ = PAGE.read_text(encoding="utf-8").partition(MARKER)
    PAGE.write_text(f"{text}{marker}\n\n{tables(rows)}", encoding="utf-8")


def read_runs(runs: Sequence[Path]) -> Row:
    """Read configuration, cost and scores of runs together.

    Args:
        runs: Run folders of one configuration that held out different images.
    """
    config = yaml.safe_load((runs[0] / "config.yaml").read_text(encoding="utf-8"))
    scores = [_read_json(run / "evaluation" / "scores.json") for run in runs]
    folders = [
        path for run in runs for path in sorted(run.glob("fold*/metrics.csv")) or [run / "metrics.csv"]
    ]
    summary = _read_json(folders[0].parent / "summary.json")
    epochs = [list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) for path in folders]
    images = scored_images(*runs)
    in_sample = [(each["in_sample"] or each["scores"])["dice"]["value"] for each in scores]
    return {
        "configuration": describe(config),
        "folds": len(folders),
        "epochs": len(epochs[0]),
        "images_seen": round(sum(images_of(row) for rows in epochs for row in rows)),
        "training_hours": sum(map(training_hours, epochs)),
        "device": summary.get("device"),
        "precision": summary.get("precision"),
        "threads": summary.get("threads"),
        "predict_nothing": float(np.mean(images.true_px == 0)),
        "images": len(images),
        "patients": len(set(images.groups)),
        "in_sample": float(np.average(in_sample, weights=[each["images"] for each in scores])),
        "scores": as_numbers(images.measure()),
        "gain": as_numbers({"gain": gain(images)})["gain"],
    }


def _read_json(path: Path) -> Row:
    content: Row = json.loads(path.read_text(encoding="utf-8"))
    return content


def gain(images: ScoredImages) -> Measured:
    """Compute how much Dice masks gain over predicting nothing on the same images, with an interval by patient.

    The difference of each image varies less than its Dice, so that this interval is narrower than that of the score.

    Args:
        images: Predicted and true masks.
    """
    ours, theirs = ({"dice": each.statistics["dice"]} for each in (images, images.emptied()))
    return PatientBootstrap(images.groups).compare(ours, theirs)["dice"]


def training_hours(epochs: list[Row]) -> float:
    """Compute the duration of all epochs at the rate of the fastest one of each stage.

    Other programs slow single epochs down.

    Args:
        epochs: Rows of ``metrics.csv``.
    """
    hours = 0.0
    for size in {row["image_size"] for row in epochs}:
        stage = [row for row in epochs if row["image_size"] == size]
        hours += sum(map(images_of, stage)) / max(float(row["images_per_s"]) for row in stage) / 3600
    return hours


def images_of(epoch: Row) -> float:
    """Compute the images of an epoch from its duration and its rate."""
    return float(epoch["seconds"]) * float(epoch["images_per_s"])


def describe(config: Row) -> str:
    """Describe a configuration in one line.

    Args:
        config: Content of ``config.yaml``.
    """
    network, data, steps = config["network"], config["data"], config["optimization"]
    sizes = [*data["stages"], {**data, "epochs": steps["epochs"]}]
    parts = [
        network["encoder"] or "article's encoder",
        f"features {network['features']}",
        f"normalization {network['normalization']}",
        f"head prior {network['head_prior']}",
        " then ".join(
            f"{each['image_size']} px" + (f" (crops of {each['crop']})" if each.get("crop") else "")
            for each in sizes
        ),
        f"batch {data['batch_size']}",
        " + ".join(f"{term['weight']:g} {term['name']}" for term in steps["loss"]),
        f"positives {data['positive_rate']}"
        + (f" to {data['final_positive_rate']}" if data["final_positive_rate"] else ""),
        f"{steps['schedule']} {steps['learning_rate']:g}",
    ]
    if network["encoder"]:
        parts.append(f"encoder rate {steps['encoder_rate']:g}")
    if network["image_head"]:
        parts.append(f"image head {steps['image_weight']:g}")
    if steps["ema"]:
        parts.append(f"EMA {steps['ema']}")
    last = "the last " if steps.get("keep") == "last" else ""
    if steps["average"] == "swa":
        parts.append(f"swa of the last {steps['average_share']:.0%} of the epochs")
    elif steps["average"] != "none":
        parts.append(f"{steps['average']} of {last}{steps['average_top']} epochs")
    if config["tta"]:
        parts.append(f"TTA {' and '.join(config['tta'])}")
    return ", ".join(parts)


def differences(runs: Sequence[Path], other: Path) -> Row:
    """Compare runs with another one on the same images, paired by patient, at their cross-fitted operating points.

    Args:
        runs: Run folders.
        other: Run folder that they are compared with.
    """
    found = compare(scored_images(*runs), scored_images(other))
    return {
        name: {"value": each.value, "low": each.low, "high": each.high, "p_value": each.p_value}
        for name, each in found.items()
        if name in SHOWN
    }


def scored_images(*runs: Path) -> ScoredImages:
    """Read the cases of runs at the cross-fitted operating point of each, sorted by name.

    Args:
        runs: Run folders.
    """
    texts = [(run / "evaluation" / "cases.csv").read_text(encoding="utf-8").splitlines() for run in runs]
    rows = sorted((row for text in texts for row in csv.DictReader(text)), key=lambda row: row["id"])
    areas = np.array([int(row["cross_fitted_area_px"]) for row in rows])
    labels = np.array([int(row["label_area_px"]) for row in rows])
    dices = np.array([float(row["cross_fitted_dice"]) for row in rows])
    return ScoredImages(
        groups=[row["group"] for row in rows],
        pred_px=areas,
        true_px=labels,
        shared_px=np.rint(dices * (areas + labels) / 2).astype(np.int64),
        probabilities=np.array([float(row["probability"]) for row in rows]),
    )


def tables(rows: dict[str, Row]) -> str:
    """Write scores, configurations and paired differences of all runs as Markdown.

    Args:
        rows: Rows of the runs by name.
    """
    lines = ["## Runs", ""]
    lines += [
        "| run | "
        + " | ".join(SHOWN.values())
        + " | in-sample score | predict nothing | gain over it | images seen | core-hours |"
    ]
    lines += ["| --- " * (len(SHOWN) + 6) + "|"]
    for name, row in sorted(rows.items(), key=lambda item: -item[1]["scores"]["dice"]["value"]):
        numbers = [_interval(row["scores"][key]) for key in SHOWN]
        hours = row["training_hours"] * (row["threads"] or 1)
        lines.append(
            f"| {name} | {' | '.join(numbers)} | {row['in_sample']:.4f} | "
            f"{row['predict_nothing']:.4f} | {_interval(row['gain'])} | "
            f"{row['images_seen']:,} | {hours:.2f} |"
        )
    lines += ["", "## Configurations", ""]
    for name, row in rows.items():
        note = f" {row['note']}" if row["note"] else ""
        lines.append(
            f"- **{name}**: {row['configuration']}; {row['epochs']} epochs of {row['folds']} fold(s) on "
            f"{row['device']} in {row['precision']}; {row['images']} images of {row['patients']} patients held out."
            f"{note}"
        )
    compared = {name: row for name, row in rows.items() if row.get("differences")}
    if compared:
        lines += [
            "",
            "## Paired differences",
            "",
            "Resampled by patient; p by exchanging the two models, of the AUC their ranks. Where the predictions of a "
            "run are no longer there, that p is left out: it was of exchanged probabilities.",
            "",
        ]
        lines += ["| run | against | " + " | ".join(SHOWN.values()) + " |", "| --- " * (len(SHOWN) + 2) + "|"]
    for name, row in compared.items():
        numbers = [
            f"{_interval(each)}, p {each['p_value']:.4f}"
            if each.get("p_value") is not None
            else _interval(each)
            for each in (row["differences"][key] for key in SHOWN)
        ]
        lines.append(f"| {name} | {row['against']} | {' | '.join(numbers)} |")
    return "\n".join(lines) + "\n"


def _interval(number: Row | None) -> str:
    if number is None or number["value"] is None:
        return ""
    return (
        f"{number['value']:.4f} ({interval_cell(Measured(number['value'], number['low'], number['high']))})"
    )


if __name__ == "__main__":
    main()
