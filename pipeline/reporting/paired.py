"""Evaluations of several models on the same cases, paired by case."""

import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.dataset.groups import PatientCount
from pneumoseg.pipeline.model.description import DESCRIPTION
from pneumoseg.pipeline.reporting.evaluation_tables import at_quoted_point
from pneumoseg.pipeline.reporting.result_files import Row, number, read_json, read_rows, results_of
from pneumoseg.pipeline.scoring.headline import ScoredImages

_NEEDED: Final = ("label_area_px", "area_px", "overlap_px", "dice", "probability", "trained_on", "positive")
EVALUATION: Final = "evaluation"
"""Folder of the final evaluation within the run folder."""


@dataclass(frozen=True, eq=False)
class Evaluated:
    """Evaluation of one model.

    Attributes:
        letter: Short name on the page.
        folder: Folder written by `evaluate`.
        scores: Content of ``scores.json``.
        rows: Rows of ``cases.csv`` at the quoted operating point, by case.
    """

    letter: str
    folder: Path
    scores: Mapping[str, Any]
    rows: Mapping[str, Row]

    @property
    def run(self) -> Path | None:
        """Run folder that the evaluation is a part of; None where it is none."""
        parent = self.folder.parent
        return parent if self.folder.name == EVALUATION and (parent / "metrics.csv").is_file() else None


@dataclass(frozen=True, eq=False)
class PairedEvaluations:
    """Evaluations of several models, and the cases that all of them have scored.

    Attributes:
        models: Evaluations; the others are compared with the first.
        ids: Cases of all evaluations, in the order of the first.
        groups: Patient of each case.
    """

    models: Sequence[Evaluated]
    ids: Sequence[str]
    groups: Sequence[str]

    @property
    def count(self) -> PatientCount:
        """Number of cases and of their patients."""
        return PatientCount.of(self.groups)

    @cached_property
    def positive(self) -> npt.NDArray[np.bool_]:
        """Whether each case is positive, shape ``(cases,)``."""
        return self.column(self.models[0], "label_area_px") > 0

    @cached_property
    def images(self) -> Sequence[ScoredImages]:
        """Measurements of the cases, one set for each model."""
        return [self._images(model) for model in self.models]

    def column(self, model: Evaluated, name: str) -> npt.NDArray[np.float64]:
        """Read a column of ``cases.csv``, shape ``(cases,)``; NaN where it is empty.

        Args:
            model: Model whose column to read.
            name: Name of the column.
        """
        cells = (number(model.rows[case][name]) for case in self.ids)
        return np.array([np.nan if cell is None else cell for cell in cells])

    def predicted_positive(self, model: Evaluated) -> npt.NDArray[np.bool_]:
        """Tell whether a model predicts each case to be positive, shape ``(cases,)``.

        Args:
            model: Model.
        """
        return self.column(model, "area_px") > 0

    def _images(self, model: Evaluated) -> ScoredImages:
        def counts(name: str) -> npt.NDArray[np.int64]:
            return np.array([int(model.rows[case][name]) for case in self.ids])

        return ScoredImages(
            groups=self.groups,
            pred_px=counts("area_px"),
            true_px=counts("label_area_px"),
            shared_px=counts("overlap_px"),
            probabilities=self.column(model, "probability"),
            distances={name: self.column(model, name) for name in ("surface_dice", "hausdorff95_mm")},
        )


def read_paired(folders: Sequence[Path]) -> PairedEvaluations:
    """Read the evaluations of several models, and pair their cases by name.

    Args:
        folders: Folders written by `evaluate` or `train`, or model folders of runs.

    Raises:
        UsageError: If a folder holds no evaluation, or there are too many.
        JobError: If an evaluation is damaged, no case is in all of them, or a case has two labels.
    """
    if len(folders) > len(string.ascii_uppercase):
        raise UsageError(f"{len(folders)} folders: at most {len(string.ascii_uppercase)} can be compared")
    models = [
        _read(letter, _evaluation_in(folder))
        for letter, folder in zip(string.ascii_uppercase, folders, strict=False)
    ]
    first, *others = models
    ids = [case for case in first.rows if all(case in other.rows for other in others)]
    if not ids:
        raise JobError(
            f"{' and '.join(str(model.folder) for model in models)} have no case in common; evaluate both models on "
            "one manifest and fold"
        )
    for other in others:
        for case in ids:
            if other.rows[case]["label_area_px"] != first.rows[case]["label_area_px"]:
                raise JobError(
                    f"{case} has a label of {first.rows[case]['label_area_px']} px in {first.folder} and of "
                    f"{other.rows[case]['label_area_px']} px in {other.folder}; evaluate both models on one manifest"
                )
    # the groups of one evaluation, since another manifest may name the same patients otherwise
    by_model = [[model.rows[case]["group"] for case in ids] for model in models]
    groups = max(by_model, key=lambda names: len(names) - PatientCount.of(names).unknown)
    return PairedEvaluations(models, ids, groups)


def is_evaluation_of(folder: Path, model: Path) -> bool:
    """Tell whether a folder holds an evaluation, and not one from before the model was trained further.

    Args:
        folder: Folder that may hold an evaluation.
        model: Model folder; where there is none, the weights are not compared.

    Raises: JobError: If one of them is damaged.
    """
    scores, description = folder / "scores.json", model / DESCRIPTION
    if not scores.is_file() or not description.is_file():
        return scores.is_file()
    with results_of(folder):
        members = [member["sha256"] for member in read_json(description)["members"]]
        return bool(read_json(scores)["model_weights_sha256"] == members)


def _evaluation_in(folder: Path) -> Path:
    """Find the evaluation in a folder of results, of a run, or beside the model of a run."""
    if (folder / "scores.json").is_file():
        return folder
    if is_evaluation_of(folder / EVALUATION, folder / "model"):
        return folder / EVALUATION
    if (folder / DESCRIPTION).is_file() and is_evaluation_of(folder.parent / EVALUATION, folder):
        return folder.parent / EVALUATION
    raise UsageError(
        f"{folder}: holds no evaluation of this model; give a folder that evaluate made, or that of a run with a "
        "report: pneumoseg evaluate MODEL MANIFEST -o DIR"
    )


def _read(letter: str, folder: Path) -> Evaluated:
    with results_of(folder):
        scores = read_json(folder / "scores.json")
        rows = [at_quoted_point(row, scores["operating_point"]) for row in read_rows(folder / "cases.csv")]
        for row in rows:
            _ = [float(row[name]) for name in _NEEDED]  # damage is found here, where its folder is known
        if twice := [name for name, count in Counter(row["id"] for row in rows).items() if count > 1]:
            raise JobError(f"{folder / 'cases.csv'}: {twice[0]} is listed twice; evaluate anew")
        return Evaluated(letter, folder, scores, {row["id"]: row for row in rows})
