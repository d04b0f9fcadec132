from pathlib import Path

import pytest
import torch
from tests.conftest import TINY, write_model

from pneumoseg.pipeline.core.config import NetworkConfig, RuntimeName
from pneumoseg.pipeline.inference.model import Model, ModelOptions, load_model
from pneumoseg.pipeline.model.weights import make_network

CPU = torch.device("cpu")
CONFIGS = {
    "plain": TINY.model_copy(update={"normalization": "batch"}),
    "image head": TINY.model_copy(update={"image_head": True, "normalization": "instance"}),
    "encoder": NetworkConfig(encoder="efficientnet-lite0", features=(8, 8, 8, 8, 8), image_head=True),
}


@pytest.fixture(scope="module", params=CONFIGS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = CONFIGS[request.param]
    network = make_network(config)
    with torch.no_grad():
        network.head.weight.mul_(5)
    folder = tmp_path_factory.mktemp("members") / "model"
    return write_model(folder, network, config=config)


def model(folder: Path, runtime: RuntimeName, **options: str) -> Model:
    return load_model(folder, CPU, ModelOptions(runtime=runtime, tta=("flip", "scale"), **options))


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnx", "openvino", "torch.compile"])
def test_all_outputs_with_augmentation_are_those_of_torch(runtime: RuntimeName, folder: Path) -> None:
    torch.manual_seed(1)
    for shape in ((2, 1, 64, 64), (1, 1, 40, 70)):  # the second one is padded
        images = torch.randn(shape)
        found, expected = (
            model(folder, name).predictor.predict_batch(images, attention=True) for name in (runtime, "torch")
        )
        torch.testing.assert_close(found.probabilities, expected.probabilities, atol=1e-5, rtol=0)
        torch.testing.assert_close(found.image_probability, expected.image_probability, atol=1e-5, rtol=0)
        torch.testing.assert_close(found.attention, expected.attention, atol=1e-5, rtol=0)
