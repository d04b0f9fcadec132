"""Metadata of a model card, in the YAML front matter that model hubs read, and the measured scores in it.

Source: Hugging Face, model card metadata, https://github.com/huggingface/hub-docs/blob/main/modelcard.md.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from pneumoseg.pipeline.core.names import shown
from pneumoseg.pipeline.model.description import ModelDescription, Training

LICENCE_FILE: Final = "LICENSE.md"
"""Name of the file with the terms of the weights, as the metadata have it."""
_TAGS: Final = (
    "medical-imaging", "chest-x-ray", "radiography", "pneumothorax", "semantic-segmentation", "attention-unet", "monai",
    "pytorch", "research-only",
)  # fmt: skip
_METRICS: Final[Mapping[str, tuple[str, str]]] = {
    "dice": ("dice", "Dice, 1 where truth and prediction are both empty"),
    "dice_positive": ("dice", "Dice on positives"),
    "sensitivity": ("recall", "Sensitivity"),
    "specificity": ("specificity", "Specificity"),
    "auc": ("roc_auc", "AUC of the image probability"),
    "average_precision": ("average_precision", "Average precision of the image probability"),
}
"""Type and name of each metric by the name of the score."""


@dataclass(frozen=True)
class CardScore:
    """Score with its 95 % interval.

    Attributes:
        title: Name for a reader.
        value: Score; None where it is undefined.
        low: Lower bound; None without an interval.
        high: Upper bound; None without an interval.
        nothing: The same score of empty masks; None where it is undefined.
    """

    title: str
    value: float | None
    low: float | None = None
    high: float | None = None
    nothing: float | None = None


@dataclass(frozen=True)
class CardSubgroup:
    """Scores of a subgroup.

    Attributes:
        name: Name of the subgroup, such as age.
        value: Its value, such as 18 to 40.
        images: Number of images.
        positives: Number of images with a pneumothorax.
        scores: Scores by name.
    """

    name: str
    value: str
    images: int
    positives: int
    scores: Mapping[str, CardScore]


@dataclass(frozen=True)
class CardEvaluation:
    """Evaluation of a model on images that it was not trained on.

    Attributes:
        collection: Name of the manifest.
        manifest_sha256: SHA-256 of the manifest's content.
        fold: Evaluated fold; None stands for all folds.
        weights_sha256: SHA-256 of the weights of each network.
        images: Number of images, and of their patients, in words.
        operating_point: Kind of the operating point: cross-fitted, in-sample or fixed.
        resampled_by: What the resamples of an interval consist of.
        why_no_interval: Why a score has no interval, in words.
        scores: Scores by name.
        subgroups: Scores of subgroups.
    """

    collection: str
    manifest_sha256: str
    fold: int | None
    weights_sha256: Sequence[str]
    images: str
    operating_point: str
    resampled_by: str
    why_no_interval: str
    scores: Mapping[str, CardScore]
    subgroups: Sequence[CardSubgroup]

    def is_of_others(self, training: Training) -> bool:
        """Tell whether the images are of another collection than those of the training and its held-out folds.

        Args:
            training: What the model was trained on.
        """
        return self.manifest_sha256 != training.manifest_sha256


def front_matter(description: ModelDescription, evaluation: CardEvaluation | None) -> str:
    """Make the front matter of a model card.

    Args:
        description: Description of the model.
        evaluation: Evaluation of the model; None takes the in-sample scores of the validation.
    """
    training = description.trained_on
    dataset = _identifier(training.manifest)
    name = f"pneumoseg-{dataset}"
    point = evaluation.operating_point if evaluation else "in-sample"
    metrics = []
    for score, (kind, title) in _METRICS.items():
        measured = evaluation.scores.get(score) if evaluation else _of_validation(description, score)
        if measured is None or measured.value is None:
            continue
        metric: dict[str, Any] = {"type": kind, "name": title, "value": round(measured.value, 4)}
        arguments: dict[str, Any] = {"operating_point": point}
        if measured.low is not None and measured.high is not None:
            arguments["interval_95"] = [round(measured.low, 4), round(measured.high, 4)]
        metrics.append({**metric, "args": arguments})
    folds = description.held_out_folds
    fold = folds[0] if len(folds) == 1 else evaluation and evaluation.fold
    split = "out-of-fold, all folds" if fold is None else f"held-out fold {fold}"
    scored = training.manifest
    if evaluation and evaluation.is_of_others(training):
        split = "all images" if evaluation.fold is None else f"fold {evaluation.fold}"
        scored = evaluation.collection
    content: dict[str, Any] = {
        "license": "other",
        "license_name": "terms-of-the-training-data",
        "license_link": LICENCE_FILE,
        "library_name": "monai",
        "pipeline_tag": "image-segmentation",
        "tags": list(_TAGS),
        "datasets": [dataset],
        "metrics": sorted({metric["type"] for metric in metrics}),
    }
    if metrics:  # a result without a metric is not valid
        result = {
            "task": {"type": "image-segmentation", "name": "Pneumothorax segmentation"},
            "dataset": {"type": _identifier(scored), "name": shown(scored), "split": split},
            "metrics": metrics,
        }
        content["model-index"] = [{"name": name, "results": [result]}]
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{text}---\n"


def _identifier(collection: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", collection.lower()).strip("-.") or "unnamed"


def _of_validation(description: ModelDescription, name: str) -> CardScore | None:
    value = description.validation.get(name)
    return None if value is None else CardScore(name, float(value))
