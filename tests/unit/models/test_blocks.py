import pytest
import torch
from torch import nn

from pneumoseg.models.blocks import (
    AttentionGate,
    DoubleConvolution,
    Dropout,
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


# --- dropout


def dropped(p: float, features: torch.Tensor, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    result: torch.Tensor = Dropout(p)(features)
    return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_dropout_keeps_elements_scaled_up_or_sets_them_to_zero(
    dtype: torch.dtype, layout: torch.memory_format
) -> None:
    features = torch.rand(2, 3, 41, 37, dtype=dtype).add(0.5).to(memory_format=layout)
    result = dropped(0.25, features)
    kept = result != 0
    assert torch.equal(result[kept], (features * (1 / 0.75))[kept])
    # 9,102 elements: the standard deviation of the share is 0.0045
    assert float((~kept).float().mean()) == pytest.approx(0.25, abs=0.02)
    assert result.is_contiguous(memory_format=layout)


def test_dropout_has_no_pattern_along_its_16_bit_lanes() -> None:
    kept = dropped(0.5, torch.ones(400_000)) != 0
    by_lane = kept.view(-1, 4).float()
    assert by_lane.mean(0).tolist() == pytest.approx([0.5] * 4, abs=0.01)
    assert float(torch.corrcoef(by_lane.T).fill_diagonal_(0).abs().max()) < 0.02


def test_the_rate_of_dropout_is_a_multiple_of_1_65536() -> None:
    assert Dropout(0.2).p == 13107 / 65536
    assert dropped(1 / 65536, torch.ones(500_000)).eq(0).sum() < 40  # 7.6 are expected


def test_the_gradient_of_dropout_has_the_mask_of_its_output() -> None:
    features = torch.rand(2, 3, 8, 8).add(0.5).requires_grad_()
    result = dropped(0.4, features)
    result.sum().backward()  # type: ignore[no-untyped-call]
    assert features.grad is not None
    torch.testing.assert_close(features.grad, (result != 0) / (1 - Dropout(0.4).p))


def test_dropout_is_a_function_of_the_seed() -> None:
    one, same, other = (dropped(0.5, torch.ones(1000), seed) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_dropout_takes_features_of_any_layout() -> None:
    features = torch.rand(6, 5, 4).add(0.5).permute(2, 0, 1).expand(3, 4, 6, 5)
    result = dropped(0.5, features)
    assert torch.equal(result[result != 0], (2 * features)[result != 0])


def test_dropout_does_nothing_in_inference() -> None:
    features = torch.rand(3, 5)
    assert Dropout(0.5).eval()(features) is features


def test_an_element_that_is_dropped_is_zero_even_where_it_is_not_finite() -> None:
    result = dropped(0.5, torch.full((100,), float("nan")))
    assert 20 < int(result.eq(0).sum()) < 80


@pytest.fixture
def gate() -> AttentionGate:
    """One channel everywhere: coefficient = sigmoid(3 relu(2 skip + gate - 1) - 6)."""
    gate = AttentionGate(skip_channels=1, gate_channels=1, hidden_channels=1)
    for convolution, weight, bias in (
        (gate.from_skip, 2.0, -1.0),
        (gate.from_gate, 1.0, 0.0),
        (gate.to_weight, 3.0, -6.0),
    ):
        convolution.load_state_dict(
            {"weight": torch.full((1, 1, 1, 1), weight), "bias": torch.tensor([bias])}
        )
    return gate


@pytest.mark.parametrize(
    ("skip", "signal", "coefficient"),
    [
        (1.0, 1.0, 0.5),  # relu(2) = 2, 6 - 6 = 0
        (0.0, 0.0, 0.0024726),  # relu(-1) = 0, sigmoid(-6)
        (1.0, 3.0, 0.9975274),  # relu(4) = 4, sigmoid(6)
    ],
)
def test_a_coefficient_follows_the_formula(
    gate: AttentionGate, skip: float, signal: float, coefficient: float
) -> None:
    gated, coefficients = gate(torch.full((1, 1, 1, 1), skip), torch.full((1, 1, 1, 1), signal))
    assert coefficients.item() == pytest.approx(coefficient, abs=1e-6)
    assert gated.item() == pytest.approx(skip * coefficient, abs=1e-6)


def test_one_coefficient_scales_all_channels_of_a_pixel() -> None:
    gate = AttentionGate(skip_channels=6, gate_channels=12, hidden_channels=3)
    skip = torch.rand(2, 6, 4, 5) + 1
    gated, coefficients = gate(skip, torch.rand(2, 12, 4, 5))
    assert coefficients.shape == (2, 1, 4, 5)
    torch.testing.assert_close(gated / skip, coefficients.expand(2, 6, 4, 5))


def test_pixels_are_weighed_one_by_one(gate: AttentionGate) -> None:
    skip, signal = torch.rand(1, 1, 4, 4), torch.rand(1, 1, 4, 4)
    changed = signal.clone()
    changed[0, 0, 1, 2] += 5
    difference = gate(skip, changed)[1] != gate(skip, signal)[1]
    assert difference.nonzero().tolist() == [[0, 0, 1, 2]]
