from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.conftest import write_model
from tests.unit.pipeline.model.folders import WHOLE

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.model.card import model_card, write_card
from pneumoseg.pipeline.model.card_metadata import CardEvaluation, CardScore, CardSubgroup
from pneumoseg.pipeline.model.description import ModelDescription, read_description

SCORES = {"dice": CardScore("Dice", 0.75, 0.5, 0.875, nothing=0.5), "auc": CardScore("AUC", None)}
SENSITIVITY = {"sensitivity": CardScore("sensitivity", 0.25, 0.125, 0.5), "dice": CardScore("Dice", 0.5)}
EVALUATION = CardEvaluation(
    collection="made up",
    manifest_sha256="0" * 64,
    fold=None,
    weights_sha256=("0" * 64,),
    images="4 images of 3 patients, 2 with a pneumothorax",
    operating_point="cross-fitted",
    resampled_by="resampled by patient",
    why_no_interval="No interval: too few patients.",
    scores=SCORES,
    subgroups=[CardSubgroup("mask area", "quartile 1", 2, 2, SENSITIVITY)],
)


def metadata(card: str) -> dict[str, Any]:
    """What a hub reads between the two lines of dashes at the start."""
    start, text, _ = card.split("---\n", 2)
    assert start == ""
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def test_the_card_says_what_it_is_not_for_and_how_it_decides(folder: Path) -> None:
    card = (folder / "MODEL_CARD.md").read_text()
    assert "Not a medical device" in card
    assert "| dice | 0.8 |" in card
    assert "| auc | unknown |" in card
    assert "any of its pixels exceeds 0.500" in card


def test_the_name_of_a_manifest_is_no_markdown_in_the_card(folder: Path) -> None:
    description = read_description(folder)
    training = description.trained_on.model_copy(update={"manifest": "<script>[x](y)\n# z"})
    card = model_card(description.model_copy(update={"trained_on": training}))
    assert r"- **Trained on**: \<script\>\[x\](y)\\n# z: 8 images" in card
    found = metadata(card)
    assert found["datasets"] == ["script-x-y-z"]
    assert found["model-index"][0]["results"][0]["dataset"]["name"] == "<script>[x](y)\\n# z"


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


# the keys and their types are those of https://github.com/huggingface/hub-docs/blob/main/modelcard.md


def test_the_metadata_are_those_that_a_hub_expects(folder: Path) -> None:
    found = metadata((folder / "MODEL_CARD.md").read_text())
    assert (found["license"], found["license_link"]) == ("other", "LICENSE.md")
    assert (folder / found["license_link"]).is_file()
    assert found["license_name"].replace("-", "").islower()
    assert (found["library_name"], found["pipeline_tag"]) == ("monai", "image-segmentation")
    assert all(isinstance(each, str) for key in ("tags", "datasets", "metrics") for each in found[key])
    (model,) = found["model-index"]
    (result,) = model["results"]
    assert (result["task"]["type"], result["dataset"]["type"]) == ("image-segmentation", found["datasets"][0])
    assert result["metrics"] == [
        {
            "type": "dice",
            "name": "Dice, 1 where truth and prediction are both empty",
            "value": 0.8,
            "args": {"operating_point": "in-sample"},
        }
    ]


def test_metadata_without_any_score_have_no_results(folder: Path) -> None:
    description = read_description(folder).model_copy(update={"validation": {"auc": None}})
    assert "model-index" not in metadata(model_card(description))


def test_an_evaluation_gives_scores_with_intervals_and_subgroups(folder: Path) -> None:
    card = model_card(read_description(folder), EVALUATION)
    assert "| Dice | 0.7500 | 0.5000 to 0.8750 | 0.5000 |\n| AUC | - | - | - |" in card
    assert (
        "| mask area quartile 1 | 2 | 2 | 0.5000 (no interval) | - | 0.2500 (0.1250 to 0.5000) | - | - |"
        in card
    )
    assert "resampled by patient. No interval: too few patients." in card
    assert "from the smallest one: 0.2500 (quartile 1)" in card
    assert (
        "4 images of 3 patients, 2 with a pneumothorax, each scored at an operating point that was tuned"
        in card
    )
    (metric,) = metadata(card)["model-index"][0]["results"][0]["metrics"]
    assert metric["args"] == {"operating_point": "cross-fitted", "interval_95": [0.5, 0.875]}


@pytest.mark.parametrize(("fold", "split"), [(None, "all images"), (2, "fold 2")])
def test_scores_of_another_collection_are_not_taken_for_those_of_held_out_images(
    folder: Path, fold: int | None, split: str
) -> None:
    description = read_description(folder)
    seen = description.trained_on.model_copy(update={"held_out_seen": 3})
    description = description.model_copy(update={"trained_on": seen})
    own, other = (
        model_card(
            description, replace(EVALUATION, collection="Elsewhere", manifest_sha256=sha256, fold=fold)
        )
        for sha256 in ("0" * 64, "1" * 64)
    )
    for text in (
        "; the scores below are of held-out images.",
        "The epoch was chosen",
        "held-out images were used",
    ):
        assert text in own
        assert text not in other
    assert "with a pneumothorax of Elsewhere, another collection than that of the training, each" in other
    found = metadata(other)
    assert found["model-index"][0]["results"][0]["dataset"] == {
        "type": "elsewhere", "name": "Elsewhere", "split": split
    }  # fmt: skip
    assert found["datasets"] == metadata(own)["datasets"] != ["elsewhere"]


def test_a_single_fold_of_a_cross_validation_is_not_taken_for_all(folder: Path) -> None:
    description = read_description(folder)
    members = [description.members[0].model_copy(update={"held_out_fold": fold}) for fold in (0, 1)]
    ensemble = description.model_copy(update={"members": tuple(members)})
    for fold, split in ((None, "out-of-fold, all folds"), (1, "held-out fold 1")):
        card = metadata(model_card(ensemble, replace(EVALUATION, fold=fold)))
        assert card["model-index"][0]["results"][0]["dataset"]["split"] == split


def test_the_terms_name_the_data_and_the_encoder(folder: Path, tmp_path: Path) -> None:
    given = read_description(folder).model_dump(mode="json")
    given["encoder_origin"] = {"weights": "ImageNet", "sha256": "0" * 64, "licence": "Apache-2.0"}
    write_card(tmp_path, ModelDescription.model_validate(given))
    terms = (tmp_path / "LICENSE.md").read_text()
    assert "(made up): assume research only" in terms
    assert "initialised with ImageNet (licence Apache-2.0)" in terms
    assert terms.partition("\n\n")[2].strip() in (tmp_path / "MODEL_CARD.md").read_text()


def test_features_are_listed_in_words(folder: Path) -> None:
    assert "Attention U-Net with 4, 8, 8, 8, 8 features" in (folder / "MODEL_CARD.md").read_text()
