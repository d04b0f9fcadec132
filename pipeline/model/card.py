"""Model card: intended use, training data, scores and limits of a model."""

from pathlib import Path

from pneumoseg.pipeline.core.files import write_json, write_text
from pneumoseg.pipeline.core.names import markdown
from pneumoseg.pipeline.model.description import DESCRIPTION, ModelDescription, TunedPoint


def save_description(folder: Path, description: ModelDescription) -> None:
    """Write ``model.json`` and the model card; ``model.json`` comes last, and completes the model folder.

    Args:
        folder: Model folder.
        description: Description to write.
    """
    write_text(folder / "MODEL_CARD.md", model_card(description))
    write_json(folder / DESCRIPTION, description.model_dump(mode="json"))


def model_card(description: ModelDescription) -> str:
    """Write the model card as Markdown: intended use, training data, scores and limits.

    Args:
        description: Description of the model.
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
    return f"""# Pneumothorax segmentation model

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

## Limits

Lateral views, children, other devices and other hospitals than those trained on were not measured. A small
pneumothorax is often missed. Chest tubes, skin folds and bullae may be mistaken for one.
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


def _image_criterion(point: TunedPoint) -> str:
    return f" and its image probability exceeds {point.image_threshold:.3f}" if point.image_threshold else ""


def _mask_criterion(point: TunedPoint) -> str:
    if point.segmentation_threshold is None:
        return "these pixels are its mask."
    return f"the pixels above {point.segmentation_threshold:.3f} are its mask."
