import pytest
import torch
from torch import nn

from pneumoseg.models.blocks import (
    DoubleConvolution,
    Normalization,
    initialise_as_keras_does,
    make_normalization,
)


def test_a_double_convolution_keeps_the_size_and_sets_the_channels() -> None:
    assert DoubleConvolution(3, 8, dropout=0.2)(torch.zeros(2, 3, 10, 14)).shape == (2, 8, 10, 14)


def test_a_double_convolution_sees_a_neighbourhood_of_5x5() -> None:
    block = DoubleConvolution(1, 1, dropout=0.0)
    for convolution in (block.conv1, block.conv2):
        convolution.load_state_dict({"weight": torch.ones(1, 1, 3, 3), "bias": torch.zeros(1)})
    image = torch.zeros(1, 1, 9, 9)
    image[0, 0, 4, 4] = 1
    # ones(3x3) * ones(3x3) = [1 2 3 2 1] outer [1 2 3 2 1]
    profile = torch.tensor([0.0, 0, 1, 2, 3, 2, 1, 0, 0])
    torch.testing.assert_close(block(image)[0, 0], torch.outer(profile, profile))


def test_a_double_convolution_ends_in_a_relu() -> None:
    block = DoubleConvolution(1, 1, dropout=0.0)
    block.conv2.load_state_dict({"weight": torch.ones(1, 1, 3, 3), "bias": torch.tensor([-100.0])})
    assert not block(torch.rand(1, 1, 8, 8)).any()


def test_initialisation_leaves_other_modules_alone() -> None:
    linear = nn.Linear(2, 2)
    before = linear.weight.clone()
    linear.apply(initialise_as_keras_does)
    assert torch.equal(linear.weight, before)


def test_a_convolution_without_a_bias_can_be_initialised() -> None:
    nn.Conv2d(1, 1, 1, bias=False).apply(initialise_as_keras_does)


# --- normalization


@pytest.mark.parametrize(
    ("kind", "dims"),
    [
        ("batch", (0, 2, 3)),  # Ioffe and Szegedy 2015: of a channel over all images
        ("instance", (2, 3)),  # Ulyanov et al. 2016: of a channel of an image
    ],
)
def test_a_normalization_takes_mean_and_spread_from_its_pixels(
    kind: Normalization, dims: tuple[int, ...]
) -> None:
    features = 3 * torch.rand(4, 6, 8, 8) + torch.arange(6.0)[:, None, None]
    mean, variance = features.mean(dims, keepdim=True), features.var(dims, unbiased=False, keepdim=True)
    expected = (features - mean) / torch.sqrt(variance + 1e-5)
    torch.testing.assert_close(make_normalization(kind, 6)(features), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("channels", "groups"), [(4, 4), (6, 2), (8, 8), (12, 4), (15, 1), (32, 8)])
def test_there_are_as_many_groups_as_divide_8_and_the_channels(channels: int, groups: int) -> None:
    # Wu and He 2018: mean and spread of a group of channels of an image
    features = torch.rand(2, channels, 8, 8) * torch.arange(1.0, channels + 1)[:, None, None]
    grouped = features.view(2, groups, -1)
    mean, variance = grouped.mean(2, keepdim=True), grouped.var(2, unbiased=False, keepdim=True)
    expected = ((grouped - mean) / torch.sqrt(variance + 1e-5)).view_as(features)
    result = make_normalization("group", channels)(features)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)


def test_no_normalization_leaves_all_as_it_is_and_has_no_weights() -> None:
    layer, features = make_normalization("none", 3), torch.rand(1, 3, 4, 4)
    assert torch.equal(layer(features), features)
    assert layer.state_dict() == {}


@pytest.mark.parametrize("kind", ["batch", "instance", "group"])
def test_every_normalization_can_learn_scale_and_shift(kind: Normalization) -> None:
    parameters = dict(make_normalization(kind, 6).named_parameters())
    assert {name: tuple(value.shape) for name, value in parameters.items()} == {"weight": (6,), "bias": (6,)}


def test_a_normalization_comes_before_the_relu() -> None:
    block = DoubleConvolution(1, 4, dropout=0.0, normalization="instance")
    for convolution in (block.conv1, block.conv2):
        convolution.load_state_dict(  # without it, nothing would pass the ReLU
            {"weight": convolution.weight, "bias": torch.full((4,), -100.0)}
        )
    assert block(torch.rand(1, 1, 8, 8)).any()
    assert block(torch.rand(1, 1, 8, 8)).min() == 0
