from pathlib import Path

from tests.conftest import write_model
from tests.unit.pipeline.model.folders import WHOLE

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.model.card import model_card
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
