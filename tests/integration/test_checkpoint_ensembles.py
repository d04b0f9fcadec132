"""A model of the best epochs of a run: trained, tuned, written and evaluated as one."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import TINY, Collection, measured_curves

from pneumoseg.pipeline.core.config import DataConfig, OptimizationConfig, TrainConfig
from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.dataset.cache import cache_folder, open_cache
from pneumoseg.pipeline.dataset.cases import CachedCases
from pneumoseg.pipeline.inference.model import load_model
from pneumoseg.pipeline.jobs.cross_validate import cross_validate
from pneumoseg.pipeline.jobs.evaluate import evaluate_model
from pneumoseg.pipeline.jobs.train import train_model
from pneumoseg.pipeline.model.description import read_description
from pneumoseg.pipeline.model.weights import load_member
from pneumoseg.pipeline.scoring.out_of_fold import OUT_OF_FOLD, load_out_of_fold
from pneumoseg.transforms.labels.rle import decode_rle
from pneumoseg.transforms.network_input import to_original_size

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
CONFIG = TrainConfig(
    network=TINY,
    data=DataConfig(image_size=32, batch_size=4),
    optimization=OptimizationConfig(
        epochs=3, learning_rate=0.01, patience=None, average="ensemble", average_top=2
    ),
    precision="float32",
)


@pytest.fixture(scope="module")
def crossed(collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a cross-validation with two members for each fold."""
    folder = tmp_path_factory.mktemp("crossed") / "run"
    cross_validate(collection.manifest_path, folder, config=CONFIG, device="cpu", report=False)
    return folder


def probabilities(folder: Path) -> dict[str, str]:
    with (folder / "cases.csv").open(newline="") as file:
        return {row["id"]: row["probability"] for row in csv.DictReader(file)}


def test_the_members_of_a_fold_are_its_best_epochs(crossed: Path) -> None:
    for fold in range(3):
        with (crossed / f"fold{fold}" / "metrics.csv").open(newline="") as file:
            names = ("dice", "auc", "dice_positive_fixed", "epoch")
            rows = [[float(row[name]) for name in names] for row in csv.DictReader(file)]
        epochs = [int(row[-1]) for row in sorted(rows, reverse=True)[:2]]
        members = read_description(crossed / f"fold{fold}" / "model").members
        expected = [f"weights/fold{fold}-epoch{epoch:04d}.safetensors" for epoch in epochs]
        assert [member.weights for member in members] == expected
        assert json.loads((crossed / f"fold{fold}" / "summary.json").read_text())["member_epochs"] == epochs


def test_what_is_tuned_on_are_the_mean_probabilities_of_the_members(
    collection: Collection, crossed: Path
) -> None:
    folder = crossed / "fold1" / "model"
    description = read_description(folder)
    members = [load_member(folder, description, member).eval() for member in description.members]
    path = collection.manifest_path
    cache = open_cache(collection.manifest, path, image_size=32, folder=cache_folder(path))
    for found in load_out_of_fold(crossed / "fold1" / OUT_OF_FOLD):
        image = CachedCases(cache, collection.manifest.training, [found.index])[0]["image"][None]
        with torch.no_grad():
            one, other = (torch.sigmoid(member(image))[0] for member in members)
        assert (one - other).abs().max() > 0.01
        case = collection.manifest.training[found.index]
        expected = measured_curves(
            to_original_size((one + other) / 2, case.shape)[0],
            torch.from_numpy(decode_rle(case.label, case.shape)),
            index=found.index,
            image_probability=found.image_probability,
        )
        # a pixel at a threshold may lie on either side of it
        assert np.abs(found.area - expected.area).max() <= 3
        assert np.abs(found.overlap - expected.overlap).max() <= 3


def test_a_model_of_one_fold_is_evaluated_as_it_was_tuned(
    collection: Collection, crossed: Path, tmp_path: Path
) -> None:
    report = evaluate_model(
        crossed / "fold2" / "model", collection.manifest_path, tmp_path / "out", runtime=Runtime(device="cpu")
    )
    expected = read_description(crossed / "fold2" / "model").validation
    assert (report.fold, report.trained_on) == (2, 0)
    # in bf16, where there is such
    assert report.scores.score.dice == pytest.approx(expected["dice"], abs=0.01)


def test_the_members_that_never_saw_a_fold_score_it_together(
    collection: Collection, crossed: Path, tmp_path: Path
) -> None:
    assert len(load_model(crossed / "model", CPU).networks) == 6
    whole = evaluate_model(
        crossed / "model", collection.manifest_path, tmp_path / "whole", runtime=Runtime(device="cpu")
    )
    assert (whole.scores.score.images, whole.trained_on) == (12, 0)
    # the operating point was tuned on all folds: it is given to each part, too
    point = read_description(crossed / "model").operating_point
    for fold in range(3):
        part = crossed / f"fold{fold}" / "model"
        described = json.loads((part / "model.json").read_text())
        described["operating_point"] = point.model_dump(mode="json")
        (part / "model.json").write_text(json.dumps(described))
        evaluate_model(
            part, collection.manifest_path, tmp_path / f"fold{fold}", runtime=Runtime(device="cpu")
        )
        expected = probabilities(tmp_path / f"fold{fold}")
        assert len(expected) == 4
        assert probabilities(tmp_path / "whole").items() >= expected.items()


def test_the_card_says_how_many_networks_there_are(crossed: Path) -> None:
    assert "the mean of the probabilities of 6 networks" in (crossed / "model" / "MODEL_CARD.md").read_text()


def test_a_run_with_too_few_epochs_has_one_member_of_the_plain_name(
    collection: Collection, tmp_path: Path
) -> None:
    short = CONFIG.model_copy(update={"optimization": CONFIG.optimization.model_copy(update={"epochs": 1})})
    report = train_model(collection.manifest_path, tmp_path / "run", config=short, device="cpu", report=False)
    assert report.members == 1
    (member,) = read_description(report.model).members
    assert member.weights == "weights/fold0.safetensors"
