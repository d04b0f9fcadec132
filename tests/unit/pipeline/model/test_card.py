from pathlib import Path
from typing import Any

import yaml
from tests.conftest import write_model
from tests.unit.pipeline.model.folders import WHOLE

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.model.card import CardScores, model_card, save_card
from pneumoseg.pipeline.model.description import (
    read_description,
)


def test_the_card_says_what_it_is_not_for_and_how_it_decides(folder: Path) -> None:
    card = (folder / "MODEL_CARD.md").read_text()
    assert "Not a medical device" in card
    assert "| dice | 0.8 |" in card
    assert "| auc | unknown |" in card
    assert "exceed 0.500" in card


def test_the_name_of_a_manifest_is_no_markdown_in_the_card(folder: Path) -> None:
    description = read_description(folder)
    training = description.trained_on.model_copy(update={"manifest": "<script>[x](y)\n# z"})
    card = model_card(description.model_copy(update={"trained_on": training}))
    assert r"- **Trained on**: \<script\>\[x\](y)\\n# z: 8 images" in card


def test_the_card_says_how_many_held_out_images_the_initial_weights_had_seen(folder: Path) -> None:
    description = read_description(folder)
    assert "initial weights" not in model_card(description)
    training = description.trained_on.model_copy(update={"held_out_seen": 3})
    validation = {**description.validation, "images": 7}
    card = model_card(description.model_copy(update={"trained_on": training, "validation": validation}))
    assert "3 of the 7 held-out images were used to train the initial weights" in card


def test_the_card_says_how_a_mask_is_drawn(tmp_path: Path, network: AttentionUNet) -> None:
    card = model_card(read_description(write_model(tmp_path, network, point=WHOLE)))
    assert "more than 0.1000% of its pixels exceed 0.750 and its image probability exceeds 0.125; " in card
    assert "the pixels above 0.375 are its mask." in card


def test_the_card_says_for_how_many_images_leakage_cannot_be_checked(folder: Path) -> None:
    description = read_description(folder)
    training = description.trained_on.model_copy(update={"unknown_patients": 3, "grouped_by": "nothing"})
    card = model_card(description.model_copy(update={"trained_on": training}))
    assert "Leakage cannot be checked for 3 images, whose patients are unknown" in card


EVALUATED = CardScores(
    operating_point="cross-fitted",
    numbers={
        "dice": {"value": 0.81234, "low": 0.75, "high": 0.86},
        "auc": {"value": None, "low": None, "high": None},
    },
    predict_nothing={"dice": 0.7744, "auc": 0.5},
    subgroups=[
        {"subgroup": "mask_area", "value": "largest", "images": "9", "positives": "9", "dice": "0.4567"}
        | dict.fromkeys(("dice_positive", "sensitivity", "specificity", "auc"), "")
    ],
)


def front_matter(card: str) -> dict[str, Any]:
    start, metadata, _ = card.split("---\n", 2)
    assert start == ""
    found: dict[str, Any] = yaml.safe_load(metadata)
    return found


def test_the_metadata_are_those_that_hugging_face_reads(folder: Path) -> None:
    description = read_description(folder)
    found = front_matter(model_card(description))
    assert (found["license"], found["pipeline_tag"]) == ("apache-2.0", "image-segmentation")
    assert "model-index" not in found  # it must hold results
    ((index,),) = (front_matter(model_card(description, EVALUATED))["model-index"],)
    (result,) = index["results"]
    assert result["dataset"]["type"] == description.trained_on.manifest
    assert result["metrics"] == [{"type": "dice", "name": "dice (cross-fitted)", "value": 0.8123}]


def test_an_evaluation_adds_intervals_and_subgroups(folder: Path) -> None:
    save_card(folder, read_description(folder), EVALUATED)
    card = (folder / "MODEL_CARD.md").read_text()
    assert "| dice | 0.8123 | 0.75 to 0.86 | 0.7744 |" in card
    assert "| auc | - | - to - | 0.5 |" in card
    assert "| mask area: largest | 9 | 9 | 0.4567 | - | - | - | - |" in card
