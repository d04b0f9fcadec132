"""Model card: metadata, intended use, training data, terms, scores and known failures of a model."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from pneumoseg.pipeline.core.files import write_json, write_text
from pneumoseg.pipeline.core.names import markdown
from pneumoseg.pipeline.model.card_metadata import (
    LICENCE_FILE,
    CardEvaluation,
    CardScore,
    front_matter,
)
from pneumoseg.pipeline.model.description import DESCRIPTION, ModelDescription, TunedPoint

CARD: Final = "MODEL_CARD.md"
_SUBGROUP_SCORES = {
    "dice": "Dice",
    "dice_positive": "Dice on positives",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "auc": "AUC",
}


def save_description(folder: Path, description: ModelDescription) -> None:
    """Write ``model.json`` and the model card; ``model.json`` comes last, and completes the model folder.

    Args:
        folder: Model folder.
        description: Description to write.
    """
    write_card(folder, description)
    write_json(folder / DESCRIPTION, description.model_dump(mode="json"))


def write_card(folder: Path, description: ModelDescription, evaluation: CardEvaluation | None = None) -> None:
    """Write the model card and the terms of the weights.

    Args:
        folder: Folder for ``MODEL_CARD.md`` and ``LICENSE.md``.
        description: Description of the model.
        evaluation: Evaluation of the model, whose scores have intervals and subgroups; None where there is none.
    """
    write_text(folder / LICENCE_FILE, f"# Terms of the weights\n\n{_terms(description)}\n")
    write_text(folder / CARD, model_card(description, evaluation))


def model_card(description: ModelDescription, evaluation: CardEvaluation | None = None) -> str:
    """Write the model card as Markdown with front matter, which a hub reads as ``README.md``.

    Args:
        description: Description of the model.
        evaluation: Evaluation of the model; None gives the in-sample scores of the validation.
    """
    training = description.trained_on
    leak = (
        f"Leakage cannot be checked for {training.unknown_patients} images, whose patients are unknown: the scores may "
        "be too high."
        if training.unknown_patients
        else f"Folds are of whole patients (grouped by {training.grouped_by}): none that was held out was trained on."
    )
    members = len(description.members)
    together = "" if members == 1 else f"; the mean of the probabilities of {members} networks"
    folds = description.held_out_folds
    held_out = (
        f"fold {folds[0]} was held out"
        if len(folds) == 1
        else f"each of the folds {', '.join(map(str, folds))} was held out by one network or more"
    )
    of_others = evaluation is not None and evaluation.is_of_others(training)
    scores_of = "" if of_others else "; the scores below are of held-out images"
    scored = (
        f"{held_out}{scores_of}."
        if folds
        else f"no image was held out. The operating points{'' if of_others else ' and the scores below'} are those of "
        "a cross-validation of the same configuration: each image was predicted by a network that was trained without "
        "its fold."
    )
    seen = (
        f"\n**{training.held_out_seen} of the {description.validation.get('images')} held-out images were used to "
        "train the initial weights**: these scores are not valid for new images.\n"
        if training.held_out_seen and not of_others
        else ""
    )
    features = ", ".join(map(str, description.network.features))
    scores = _of_validation(description) if evaluation is None else _of_evaluation(description, evaluation)
    return f"""{front_matter(description, evaluation)}
# Pneumothorax segmentation model

Research software. **Not a medical device; not for diagnosis.**

- **Task**: outline pneumothorax on frontal chest radiographs (PA or AP).
- **Network**: Attention U-Net with {features} features, input of \
{description.preprocessing.image_size} x {description.preprocessing.image_size} pixels{together}.{_encoder(description)}
- **Operating point**: {_rule(description.operating_point)}
- **Use**: `pneumoseg predict MODEL_FOLDER IMAGES -o RESULTS`.

## Training data

- **Trained on**: {markdown(training.manifest)}: {training.cases} images, {training.positive} with a \
pneumothorax. {leak}
- **Folds**: {scored}

## Terms

{_terms(description)}

## Scores

Dice is the challenge's: 1 where label and mask are both empty, 0 where exactly one is. Compare it with the
score of empty masks for all images, which is the share of negatives.
{seen}
{scores}

## Known failures

{_failures(evaluation)}
"""


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


def _rule(point: TunedPoint) -> str:
    pixels = "any of its pixels exceeds"
    if point.min_area_fraction:
        pixels = f"more than {point.min_area_fraction:.4%} of its pixels exceed"
    image = f" and its image probability exceeds {point.image_threshold:.3f}" if point.image_threshold else ""
    mask = "these pixels are its mask."
    if point.segmentation_threshold is not None:
        mask = f"the pixels above {point.segmentation_threshold:.3f} are its mask."
    return f"an image is positive when {pixels} {point.threshold:.3f}{image}; {mask}"


def _terms(description: ModelDescription) -> str:
    origin = description.encoder_origin
    encoder = (
        ""
        if origin is None
        else f" The encoder was initialised with {markdown(origin.weights)} (licence {origin.licence or 'unknown'})."
    )
    return (
        "The weights come from the images and labels that they were trained on, and may be used only as the terms of "
        f"these allow ({markdown(description.trained_on.manifest)}): assume research only, as for the labels of the "
        f"SIIM-ACR challenge, unless you know better.{encoder} The software is under Apache-2.0."
    )


def _of_validation(description: ModelDescription) -> str:
    """Lay out the scores of the validation, which have no intervals."""
    search = description.operating_point_search
    crossed = search.cross_fitted if search else None
    others = "images" if description.trained_on.grouped_by == "nothing" else "patients"
    honest = (
        f": at cross-fitted operating points, each tuned on other {others}, Dice is {crossed.dice:.4f}"
        if crossed
        else ""
    )
    rows = (
        (name.replace("_", " "), "unknown" if value is None else f"{value:.4g}")
        for name, value in description.validation.items()
    )
    chosen = (
        "Epoch and operating point were" if description.trained_on.epoch_chosen else "The operating point was"
    )
    return (
        f"{chosen} chosen on these same held-out images: these are in-sample scores, which are "
        f"somewhat too high{honest}.\n\n{_table(('score', 'value'), rows)}"
    )


def _of_evaluation(description: ModelDescription, evaluation: CardEvaluation) -> str:
    """Lay out scores and subgroups with their intervals."""
    how = {
        "cross-fitted": "each scored at an operating point that was tuned without the image and its patient",
        "in-sample": "at the operating point that was tuned on these same images, so that scores are somewhat too high",
    }.get(evaluation.operating_point, "at the operating point of the model")
    training = description.trained_on
    of_others = evaluation.is_of_others(training)
    where = (
        f" of {markdown(evaluation.collection)}, another collection than that of the training"
        if of_others
        else ""
    )
    epoch = " The epoch was chosen on them, too." if training.epoch_chosen and not of_others else ""
    rows = (
        (score.title, _number(score.value), _interval(score), _number(score.nothing))
        for score in evaluation.scores.values()
    )
    subgroups = (
        (
            f"{each.name} {each.value}",
            str(each.images),
            str(each.positives),
            *(
                f"{_number(score.value)} ({_interval(score)})" if score.value is not None else "-"
                for name in _SUBGROUP_SCORES
                for score in [each.scores.get(name, CardScore(name, None))]
            ),
        )
        for each in evaluation.subgroups
    )
    columns = ("score", "value", "95 % interval", "predict nothing")
    return (
        f"{evaluation.images}{where}, {how}.{epoch} Intervals: 95 % of 2,000 bootstrap resamples, "
        f"{evaluation.resampled_by}. {evaluation.why_no_interval}\n\n{_table(columns, rows)}\n\n### Subgroups\n\n"
        + _table(("subgroup", "images", "positive", *_SUBGROUP_SCORES.values()), subgroups)
    )


def _failures(evaluation: CardEvaluation | None) -> str:
    measured = ""
    if evaluation is not None:
        found = [
            f"{_number(each.scores['sensitivity'].value)} ({each.value})"
            for each in evaluation.subgroups
            if each.name == "mask area" and each.positives and "sensitivity" in each.scores
        ]
        if found:
            measured = (
                "- Sensitivity by the size of the pneumothorax, in quartiles of its share of the image, from the "
                f"smallest one: {', '.join(found)}.\n"
            )
    return (
        f"{measured}- A small pneumothorax is often missed: a negative result does not exclude one.\n"
        "- Chest tubes, skin folds and bullae may be mistaken for a pneumothorax.\n"
        "- Lateral views, and devices and hospitals other than those of the training data, were not measured."
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if abs(value) < 10 else f"{value:.1f}"


def _interval(score: CardScore) -> str:
    if score.low is None:
        return "-" if score.value is None else "no interval"
    return f"{_number(score.low)} to {_number(score.high)}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = (columns, ["---"] * len(columns), *rows)
    return "\n".join(f"| {' | '.join(map(markdown, line))} |" for line in lines)
