from pathlib import Path

import pytest
from tests.unit.pipeline.reporting.folders import write_evaluation

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.jobs.card_evaluation import read_card_evaluation
from pneumoseg.pipeline.model.card_metadata import CardScore
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
