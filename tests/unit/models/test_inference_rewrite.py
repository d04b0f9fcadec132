from typing import Any

import pytest
import torch

from pneumoseg.models import AttentionUNet, EfficientNetLite
from pneumoseg.models.inference_rewrite import rewrite_for_inference


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalization": "batch", "image_head": True},
        {"normalization": "instance", "deep_supervision": True},
        {"encoder": True, "normalization": "group", "image_head": True},
    ],
)
def test_the_rewritten_network_has_the_same_outputs(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    if "encoder" in options:
        options = {**options, "encoder": EfficientNetLite(width=1.0, depth=1.0)}
    network = AttentionUNet(features=(4, 8, 12, 16, 20), **options)
    network.double()  # so that only a fault makes a difference, and no rounding
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:  # biases are zero at first, and normalizations do nothing
                parameter.add_(torch.rand_like(parameter) - 0.5)
    image = torch.randn(2, 1, 64, 96, dtype=torch.float64)
    network.train()(image)  # the statistics of batch normalization become those of features
    network.eval()
    with torch.no_grad():
        expected, found = network.outputs(image), rewrite_for_inference(network).outputs(image)
    assert expected.logits.std() > 0.01
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)


def test_the_network_that_is_trained_stays_as_it_is() -> None:
    network = AttentionUNet(features=(4, 4, 4, 4, 4))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    rewrite_for_inference(network)
    assert network.training
    assert type(network.up4) is torch.nn.Upsample
    torch.testing.assert_close(network.state_dict(), before, atol=0, rtol=0)


@torch.no_grad()
def test_dropout_drops_the_same_elements_in_the_rewritten_network() -> None:
    network = AttentionUNet(features=(4, 8, 12, 16, 20), dropout=0.5).double()
    image = torch.randn(1, 1, 64, 64, dtype=torch.float64)
    torch.manual_seed(0)
    expected = network.outputs(image)
    torch.manual_seed(0)
    found = rewrite_for_inference(network).outputs(image)  # which must not draw initial weights meanwhile
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)
