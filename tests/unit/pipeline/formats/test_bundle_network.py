from dataclasses import replace
from pathlib import Path

import torch
from tests.conftest import TINY, write_model
from tests.unit.pipeline.inference.networks import CPU, member

from pneumoseg.pipeline.core.devices import Precision
from pneumoseg.pipeline.formats.bundle.network import BundleNetwork
from pneumoseg.pipeline.inference.model import load_model


def test_the_network_of_a_bundle_computes_in_bf16_what_the_model_does(tmp_path: Path) -> None:
    model = replace(
        load_model(write_model(tmp_path, member()), CPU),
        precision=Precision(CPU, torch.bfloat16),
        tta=("flip",),
    )
    network = BundleNetwork(TINY.model_dump(mode="json"), tta=("flip",), precision="bf16").eval()
    network.networks[0].load_state_dict(member().state_dict())
    image = torch.rand(2, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    found = network(torch.cat([image, torch.ones_like(image)], dim=1))
    expected = model.predictor.predict_batch(image)
    assert torch.equal(found[:, :1], expected.probabilities)
    assert torch.equal(found[:, 1, 0, 0], expected.image_probability)
