"""Model card: intended use, training data, scores and limits of a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from pneumoseg.pipeline.core.files import write_json, write_text
from pneumoseg.pipeline.core.names import markdown
from pneumoseg.pipeline.model.description import DESCRIPTION, ModelDescription, TunedPoint

_SHOWN: Final = ("dice", "dice_positive", "sensitivity", "specificity", "auc")
_METRICS: Final = {"dice": "dice", "auc": "roc_auc", "sensitivity": "recall", "specificity": "specificity"}
"""Scores of the front matter, with the metric type of each on Hugging Face."""


@dataclass(frozen=True)
class CardScores:
    """Scores of the held-out images at the original size, for the card.

    Attributes:
        operating_point: Kind of the operating point: ``cross-fitted``, ``in-sample`` or ``fixed``.
        numbers: Value and interval (``value``, ``low``, ``high``) of each score by its name.
        predict_nothing: The same for empty masks.
        subgroups: Rows of ``subgroups.csv``.
    """

    operating_point: str
    numbers: Mapping[str, Mapping[str, float | None]]
    predict_nothing: Mapping[str, float | None]
    subgroups: Sequence[Mapping[str, Any]]


def save_description(folder: Path, description: ModelDescription) -> None:
    """Write ``model.json`` and the model card; ``model.json`` comes last, and completes the model folder.

    Args:
        folder: Model folder.
        description: Description to write.
    """
    write_text(folder / "MODEL_CARD.md", model_card(description))
    write_json(folder / DESCRIPTION, description.model_dump(mode="json"))


def save_card(folder: Path, description: ModelDescription, scores: CardScores) -> None:
    """Write the model card anew, with the scores of an evaluation.

    Args:
        folder: Model folder.
        description: Description of the model.
        scores: Scores of the images that the model held out.
    """
    write_text(folder / "MODEL_CARD.md", model_card(description, scores))


def model_card(description: ModelDescription, evaluated: CardScores | None = None) -> str:
    """Write the model card as Markdown, with metadata as Hugging Face reads them.

    The card describes intended use, training data and its terms, scores and limits.

    Args:
        description: Description of the model.
        evaluated: Scores of an evaluation; None before there is one.
    """
    training, point = description.trained_on, description.operating_point
    scores = "\n".join(
        f"| {name.replace('_', ' ')} | {'unknown' if value is None else f'{value:.4g}'} |"
        for name, value in description.validation.items()
    )
    leak = (
        f"Leakage cannot be checked for {training.unknown_patients} images, whose patients are unknown: the scores may "
        "be too high."
        if training.unknown_patients
        else f"No patient of the held-out fold was trained on (grouped by {training.grouped_by})."
    )
    members = len(description.members)
    together = "" if members == 1 else f"; the mean of the probabilities of {members} networks"
    crossed = description.operating_point_search.cross_fitted if description.operating_point_search else None
    seen = (
        f"\n\n**{training.held_out_seen} of the {description.validation.get('images')} held-out images were used to "
        "train the initial weights**: these scores are not valid for new images."
        if training.held_out_seen
        else ""
    )
    others = "images" if training.grouped_by == "nothing" else "patients"
    honest = (
        f": at cross-fitted operating points, each tuned on other {others}, Dice is {crossed.dice:.4f}"
        if crossed
        else ""
    )
    return f"""{_front_matter(description, evaluated)}
# Pneumothorax segmentation model

Research software. **Not a medical device; not for diagnosis.**

- **Task**: outline pneumothorax on frontal chest radiographs (PA or AP).
- **Network**: Attention U-Net, features {list(description.network.features)}, input of \
{description.preprocessing.image_size} x {description.preprocessing.image_size} pixels{together}.{_encoder(description)}
- **Trained on**: {markdown(training.manifest)}: {training.cases} images, {training.positive} with a \
pneumothorax. {leak}
- **Operating point**: an image is positive when more than {point.min_area_fraction:.4%} of its pixels exceed \
{point.threshold:.3f}{_image_criterion(point)}; {_mask_criterion(point)}

## Scores on the held-out fold

Dice is the challenge's: 1 where label and mask are both empty, 0 where exactly one is. Compare it with the
score of empty masks for all images. Epoch and operating point were chosen on this same fold: these are in-sample
scores, which are somewhat too high{honest}.{seen}

| score | value |
| --- | --- |
{scores}
{_evaluation(evaluated) if evaluated else ""}
## Terms

The software and these weights are licensed under Apache-2.0; what an encoder started from has the licence named above.
The labels of the SIIM-ACR challenge may be used for research; whoever trains with other data has to know their terms.

## Limits

Lateral views, children, other devices and other hospitals than those trained on were not measured. A small
pneumothorax is often missed. Chest tubes, skin folds and bullae may be mistaken for one.
"""


def _front_matter(description: ModelDescription, evaluated: CardScores | None) -> str:
    """Metadata of a model card: https://huggingface.co/docs/hub/model-cards#model-card-metadata."""
    training = description.trained_on
    results = (
        [
            {
                "task": {"type": "image-segmentation", "name": "Pneumothorax segmentation"},
                "dataset": {"type": training.manifest, "name": f"{training.manifest}, held-out images"},
                "metrics": [
                    {
                        "type": metric,
                        "name": f"{name} ({evaluated.operating_point})",
                        "value": round(value, 4),
                    }
                    for name, metric in _METRICS.items()
                    if (value := evaluated.numbers.get(name, {}).get("value")) is not None
                ],
            }
        ]
        if evaluated
        else []
    )
    metadata: dict[str, Any] = {
        "license": "apache-2.0",
        "library_name": "pneumoseg",
        "pipeline_tag": "image-segmentation",
        "tags": ["medical", "chest-radiograph", "pneumothorax", "segmentation", "monai", "dicom"],
        "datasets": [training.manifest],
        "metrics": list(_METRICS.values()),
    }
    if results:
        metadata["model-index"] = [{"name": "pneumoseg", "results": results}]
    return f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---\n"


def _evaluation(evaluated: CardScores) -> str:
    """Tables of scores with intervals, and of subgroups."""
    lines = [
        "\n## Scores at the original size, with 95 % intervals\n",
        f"Operating point: {evaluated.operating_point}. Images are resampled by patient.\n",
        "| score | value | interval | predict nothing |\n| --- | --- | --- | --- |",
    ]
    for name, score in evaluated.numbers.items():
        interval = f"{_number(score['low'])} to {_number(score['high'])}"
        nothing = _number(evaluated.predict_nothing.get(name))
        lines.append(f"| {name.replace('_', ' ')} | {_number(score['value'])} | {interval} | {nothing} |")
    lines += [
        "\n## Subgroups\n",
        f"| subgroup | images | positives | {' | '.join(_SHOWN).replace('_', ' ')} |",
        f"| --- |{' --- |' * (len(_SHOWN) + 2)}",
    ]
    for row in evaluated.subgroups:
        cells = [f"{row['subgroup']}: {row['value']}".replace("_", " "), row["images"], row["positives"]]
        values = [row[name] for name in _SHOWN]
        shown = [_number(None if value in (None, "") else float(value)) for value in values]
        lines.append(f"| {' | '.join(map(str, [*cells, *shown]))} |")
    return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _encoder(description: ModelDescription) -> str:
    if description.network.encoder is None:
        return ""
    origin = description.encoder_origin
    started = "trained from scratch"
    if origin is not None:
        started = (
            f"pretrained ({markdown(origin.weights)}; licence {origin.licence or 'unknown'}; "
            f"sha256 {origin.sha256})"
        )
    return f"\n- **Encoder**: {description.network.encoder}, {started}."


def _image_criterion(point: TunedPoint) -> str:
    return f" and its image probability exceeds {point.image_threshold:.3f}" if point.image_threshold else ""


def _mask_criterion(point: TunedPoint) -> str:
    if point.segmentation_threshold is None:
        return "these pixels are its mask."
    return f"the pixels above {point.segmentation_threshold:.3f} are its mask."
