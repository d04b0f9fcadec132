import torch
from torch import nn

from pneumoseg.models.blocks import DoubleConvolution, initialise_as_keras_does


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
