"""A model with test-time augmentation: its operating point is searched, evaluated and used with it."""

import json
from pathlib import Path

import pytest
import torch
from tests.conftest import TINY, Collection

from pneumoseg.pipeline.core.config import DataConfig, OptimizationConfig, TrainConfig
from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.inference.model import ModelOptions, load_model
from pneumoseg.pipeline.jobs.evaluate import evaluate_model
from pneumoseg.pipeline.jobs.train import train_model

pytestmark = pytest.mark.slow

CONFIG = TrainConfig(
    network=TINY,
    data=DataConfig(image_size=32, batch_size=4),
    optimization=OptimizationConfig(epochs=3, learning_rate=0.01, patience=None),
    tta=("flip",),
    precision="float32",
)


@pytest.fixture(scope="module")
def model(collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tta") / "run"
    return train_model(collection.manifest_path, folder, config=CONFIG, device="cpu", report=False).model


def test_evaluation_gives_the_scores_that_the_decision_was_searched_with(
    collection: Collection, model: Path, tmp_path: Path
) -> None:
    report = evaluate_model(
        model,
        collection.manifest_path,
        tmp_path / "out",
        runtime=Runtime(device="cpu", workers=0),
        examples=0,
    )
    trained = json.loads((model / "model.json").read_text())["validation"]
    assert report.scores.as_dict() == pytest.approx(trained)


def test_an_image_and_its_mirror_image_have_mirrored_predictions(model: Path) -> None:
    predictor = load_model(model, torch.device("cpu")).predictor
    image = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    found, mirrored = (predictor.predict_batch(each).probabilities for each in (image, image.flip(-1)))
    torch.testing.assert_close(mirrored.flip(-1), found)


def test_the_augmentations_of_a_model_can_be_left_out(model: Path) -> None:
    assert load_model(model, torch.device("cpu")).tta == ("flip",)
    assert load_model(model, torch.device("cpu"), ModelOptions(tta=())).tta == ()


def test_the_model_says_in_which_precision_it_was_validated(model: Path) -> None:
    assert json.loads((model / "model.json").read_text())["precision"] == "float32"
