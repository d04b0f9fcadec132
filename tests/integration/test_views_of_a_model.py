"""A model that sees each image in several views: tuned, written, evaluated and used so."""

import json
from pathlib import Path

import pytest
import torch
from tests.conftest import TINY, Collection

from pneumoseg.pipeline.config import DataConfig, OptimizationConfig, TrainConfig
from pneumoseg.pipeline.evaluate import evaluate_model
from pneumoseg.pipeline.inference.model_folder import load_model
from pneumoseg.pipeline.train import train_model

CONFIG = TrainConfig(
    network=TINY,
    data=DataConfig(image_size=32, batch_size=4),
    optimization=OptimizationConfig(epochs=3, learning_rate=0.01, patience=None),
    views=("flip",),
    precision="float32",
)


@pytest.fixture(scope="module")
def model(collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("views") / "run"
    return train_model(collection.manifest_path, folder, config=CONFIG, device="cpu", report=False).model


def test_evaluation_gives_the_scores_that_the_decision_was_searched_with(
    collection: Collection, model: Path, tmp_path: Path
) -> None:
    evaluate_model(model, collection.manifest_path, tmp_path / "out", device="cpu", workers=0, examples=0)
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    trained = json.loads((model / "model.json").read_text())["validation"]
    assert {key: scores[key] for key in trained} == pytest.approx(trained)


def test_an_image_and_its_mirror_image_are_seen_alike(model: Path) -> None:
    network = load_model(model, torch.device("cpu")).network
    image = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network(image.flip(-1)).flip(-1), network(image))


def test_the_views_of_a_model_can_be_left_out(model: Path) -> None:
    assert load_model(model, torch.device("cpu")).views == ("flip",)
    assert load_model(model, torch.device("cpu"), views=()).views == ()
