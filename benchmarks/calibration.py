"""Calibration of the image probability, compared out of sample; it prints aggregate numbers only.

    python benchmarks/calibration.py EVALUATION...

Each evaluation is a folder that ``pneumoseg evaluate`` wrote on images that its model had not seen; the images of all
are taken together. Every method is fitted without the inner fold of the patient whose image it calibrates, as
operating points are. Log loss and Brier score are proper scoring rules; the calibration error has bins of equal width.
"""

import argparse
import csv
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression

from pneumoseg.pipeline.scoring.cells import interval_cell
from pneumoseg.pipeline.scoring.cross_fitting import inner_fold_of
from pneumoseg.pipeline.scoring.intervals import PatientBootstrap
from pneumoseg.pipeline.scoring.statistics import calibration_error_of, mean_of

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Calibrator = Callable[[Floats], Floats]
SMALLEST: Final = 1e-6
"""Distance of the probabilities from 0 and 1, which have no finite logit and no finite log loss."""


def main() -> None:
    """Read the evaluations and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("evaluations", nargs="+", type=Path)
    rows = [row for folder in parser.parse_args().evaluations for row in _rows(folder)]
    groups = [row["group"] for row in rows]
    positive = np.array([row["positive"] == "1" for row in rows])
    probabilities = np.clip([float(row["probability"]) for row in rows], SMALLEST, 1 - SMALLEST)
    print(f"{len(rows)} images of {len(set(groups))} patients, {positive.sum()} positive\n")
    print("| calibration | log loss | Brier score | calibration error |\n| --- | --- | --- | --- |")
    bootstrap = PatientBootstrap(groups)
    for name, fit in METHODS.items():
        fitted = np.clip(cross_fitted(fit, probabilities, positive, groups), SMALLEST, 1 - SMALLEST)
        measured = bootstrap.measure(
            {
                "loss": mean_of(-np.log(np.where(positive, fitted, 1 - fitted)), limits=None),
                "brier": mean_of((fitted - positive) ** 2),
                "error": calibration_error_of(fitted, positive),
            },
            too_high=frozenset({"error"}),
        )
        cells = [f"{each.value:.4f} ({interval_cell(each)})" for each in measured.values()]
        print(f"| {name} | {' | '.join(cells)} |")


def cross_fitted(
    fit: Callable[[Floats, Bools], Calibrator], probabilities: Floats, positive: Bools, groups: list[str]
) -> Floats:
    """Calibrate each image with what was fitted without the inner fold of its patient.

    Args:
        fit: Function that fits a calibration to probabilities and labels.
        probabilities: Image probabilities, shape ``(images,)``.
        positive: Whether each image is positive, shape ``(images,)``.
        groups: Patient of each image.
    """
    folds = np.array([inner_fold_of(group) for group in groups])
    found = np.empty_like(probabilities)
    for fold in np.unique(folds):
        inside = folds == fold
        found[inside] = fit(probabilities[~inside], positive[~inside])(probabilities[inside])
    return found


def _logistic(probabilities: Floats, positive: Bools, *, intercept: bool) -> Calibrator:
    logits, sign = logit(probabilities), np.where(positive, 1.0, -1.0)

    def loss(free: Floats) -> float:
        scaled = np.exp(free[0]) * logits + (free[1] if intercept else 0)
        return float(np.logaddexp(0, -sign * scaled).sum())

    slope, shift = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-4}).x
    return lambda new: expit(np.exp(slope) * logit(new) + (shift if intercept else 0))


METHODS: Final[dict[str, Callable[[Floats, Bools], Calibrator]]] = {
    "none": lambda *_: lambda new: new,
    "temperature": partial(_logistic, intercept=False),
    "slope and intercept (Platt)": partial(_logistic, intercept=True),
    "isotonic": lambda probabilities, positive: (
        IsotonicRegression(out_of_bounds="clip", y_min=0, y_max=1).fit(probabilities, positive).predict
    ),
}


def _rows(folder: Path) -> Iterator[dict[str, str]]:
    with (folder / "cases.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["trained_on"] == "1":
                raise SystemExit(
                    f"{folder}: the model was trained on {row['id']}; evaluate it on its held-out fold"
                )
            yield row


if __name__ == "__main__":
    main()
