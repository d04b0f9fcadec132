from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Collection, bright_pixel_network, write_model
from tests.unit.pipeline.jobs.evaluations import evaluate
from tests.unit.pipeline.reporting.folders import write_evaluation

from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.jobs.card_evaluation import read_card_evaluation
from pneumoseg.pipeline.model.card_metadata import CardScore
from pneumoseg.pipeline.model.catalogue import available_models
from pneumoseg.pipeline.scoring.headline import TITLES


def test_a_card_has_the_scores_that_are_to_be_quoted(tmp_path: Path) -> None:
    quoted = {"dice": {"value": 0.5, "low": None, "high": None}}
    folder = write_evaluation(tmp_path, operating_point="cross-fitted", scores=quoted)
    found = read_card_evaluation(folder)
    assert found.scores == {"dice": CardScore(TITLES["dice"], 0.5, nothing=0.25)}
    assert found.images == "4 images of 3 patients, 2 with a pneumothorax"
    assert found.resampled_by == "resampled by patient"
    assert (found.collection, found.manifest_sha256, found.fold) == ("made up", "0" * 64, 0)
    assert found.weights_sha256 == ["1" * 64]


def test_a_card_has_every_subgroup(tmp_path: Path) -> None:
    (found,) = read_card_evaluation(write_evaluation(tmp_path)).subgroups
    assert (found.name, found.value, found.images, found.positives) == ("mask area", "quartile 1", 2, 2)
    assert found.scores["dice"] == CardScore(TITLES["dice"], 0.123456, 0.1, 0.2)
    assert found.scores["auc"] == CardScore(TITLES["auc"], None)


def test_damage_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "evaluation")
    (folder / "scores.json").write_text("{}")
    with pytest.raises(JobError, match="evaluation: holds results that this release cannot show"):
        read_card_evaluation(folder)


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ({"tta": ["flip"]}, "--tta"),
        ({"dropout_passes": 2}, "--dropout-passes"),
    ],
)
def test_scores_with_other_settings_are_not_written_into_the_model_card(
    collection: Collection,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    option: dict[str, Any],
    named: str,
) -> None:
    model = write_model(tmp_path / "model", bright_pixel_network(), fold=1)
    before = (model / "MODEL_CARD.md").read_text()
    evaluate(model, collection, tmp_path, card=True, **option)
    assert (model / "MODEL_CARD.md").read_text() == before
    assert (
        f"the model card stays as it is: it is for the model as others use it, and these are scores with {named}"
        in (capsys.readouterr().err)
    )


def test_the_card_of_a_model_of_the_package_is_not_changed(collection: Collection, tmp_path: Path) -> None:
    folder = available_models()["reference"]
    before = (folder / "MODEL_CARD.md").read_bytes()
    with pytest.raises(
        UsageError, match="--card: would change the model 'reference' of the installed package"
    ):
        evaluate(folder, collection, tmp_path, card=True)
    assert (folder / "MODEL_CARD.md").read_bytes() == before
    assert not (tmp_path / "out").exists()
