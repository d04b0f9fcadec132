import re
from itertools import pairwise
from math import log, sqrt
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pneumoseg.models import ENCODERS, AttentionUNet, load_keras_weights

SMALL = (4, 8, 16, 32, 64)

# The article's table, in its order: weights and biases of every convolution.
ARTICLE_PARAMETERS = [
    *[896, 9248, 18496, 36928, 73856, 147584, 295168, 590080],  # encoder
    *[1180160, 2359808],  # bottleneck
    *[32896, 65664, 129, 1769728, 590080],  # from here on: gate (theta, phi, psi), then decoder
    *[8256, 16448, 65, 442496, 147584],
    *[2080, 4128, 33, 110656, 36928],
    *[528, 1040, 17, 27680, 9248],
    33,
]


@pytest.fixture(scope="module")
def copied(article: Any) -> AttentionUNet:
    """Our network with the weights of the oracle."""
    network = AttentionUNet()
    load_keras_weights(network, article.model)
    return network.eval()


@pytest.fixture
def small() -> AttentionUNet:
    torch.manual_seed(0)
    return AttentionUNet(features=SMALL).eval()


def convolutions(network: nn.Module) -> list[nn.Conv2d]:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d)]


def random_image(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(4))


# --- the same network as the article's


def test_it_has_the_parameters_of_the_article() -> None:
    assert sum(parameter.numel() for parameter in AttentionUNet().parameters()) == 7_977_941


def test_every_layer_has_the_parameters_of_the_articles_table() -> None:
    counts = [
        sum(parameter.numel() for parameter in layer.parameters()) for layer in convolutions(AttentionUNet())
    ]
    assert counts == ARTICLE_PARAMETERS


def test_the_oracle_has_the_parameters_of_the_articles_table(article: Any) -> None:
    counts = [layer.count_params() for layer in article.model.layers if layer.weights]
    assert counts == ARTICLE_PARAMETERS


@pytest.mark.parametrize("size", [(160, 160), (96, 160)], ids=["square", "not_square"])
def test_logits_and_every_gate_equal_those_of_keras(
    copied: AttentionUNet, article: Any, size: tuple[int, int]
) -> None:
    image = random_image(1, 3, *size)
    expected_logits, expected_maps = article.look_inside(image)
    with torch.no_grad():
        logits, maps = copied(image), copied.outputs(image).maps
    torch.testing.assert_close(logits, expected_logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(maps, expected_maps, rtol=0, atol=1e-5)


def test_probabilities_equal_the_output_of_keras(copied: AttentionUNet, article: Any) -> None:
    image = random_image(2, 3, 64, 48)
    with torch.no_grad():
        torch.testing.assert_close(
            torch.sigmoid(copied(image).float()),
            article.model(image, training=False).detach(),
            rtol=0,
            atol=1e-5,
        )


def test_the_comparison_with_keras_sees_gates_that_vary(article: Any) -> None:
    _, maps = article.look_inside(random_image(1, 3, 96, 160))
    assert all(coefficients.std() > 0.01 for coefficients in maps)


# --- shapes


def test_the_maps_of_the_gates_come_deepest_first(small: AttentionUNet) -> None:
    maps = small.outputs(random_image(2, 3, 160, 96)).maps
    assert [tuple(coefficients.shape) for coefficients in maps] == [
        (2, 1, 20, 12),
        (2, 1, 40, 24),
        (2, 1, 80, 48),
        (2, 1, 160, 96),
    ]


def test_coefficients_lie_between_0_and_1(small: AttentionUNet) -> None:
    for coefficients in small.outputs(random_image(1, 3, 32, 32)).maps:
        assert 0 < coefficients.min() <= coefficients.max() < 1


def test_logits_and_maps_of_one_pass_are_those_of_two(small: AttentionUNet) -> None:
    image = random_image(1, 3, 32, 32)
    logits, _, maps = small.outputs(image)
    torch.testing.assert_close((logits, maps), (small(image), small.outputs(image).maps), rtol=0, atol=0)


def test_a_grey_image_is_repeated_to_all_channels(small: AttentionUNet) -> None:
    grey = random_image(1, 1, 32, 32)
    torch.testing.assert_close(small(grey), small(grey.repeat(1, 3, 1, 1)), rtol=0, atol=0)


def test_each_class_has_a_logit() -> None:
    assert AttentionUNet(features=SMALL, classes=4)(random_image(2, 3, 16, 16)).shape == (2, 4, 16, 16)


def test_a_network_of_one_channel_takes_grey_images() -> None:
    assert AttentionUNet(features=SMALL, in_channels=1)(random_image(1, 1, 16, 16)).shape == (1, 1, 16, 16)


# --- what it says only while it learns


EVERYTHING: dict[str, Any] = {"normalization": "group", "deep_supervision": True, "image_head": True}


def test_the_default_network_has_the_names_of_the_articles_layers_and_no_others() -> None:
    levels = [*(f"encoder{n}" for n in range(1, 5)), "bottleneck", *(f"decoder{n}" for n in range(1, 5))]
    layers = [f"{level}.conv{n}" for level in levels for n in (1, 2)]
    layers += [f"gate{n}.{part}" for n in range(1, 5) for part in ("from_skip", "from_gate", "to_weight")]
    expected = {f"{layer}.{tensor}" for layer in [*layers, "head"] for tensor in ("weight", "bias")}
    assert set(AttentionUNet(features=SMALL).state_dict()) == expected


def test_without_further_heads_there_are_logits_alone(small: AttentionUNet) -> None:
    outputs = small.forward_for_training(random_image(1, 1, 32, 32))
    assert outputs.deep_logits == []
    assert outputs.image_logits is None


def test_deep_supervision_gives_logits_at_half_quarter_and_eighth_resolution() -> None:
    network = AttentionUNet(features=SMALL, classes=2, deep_supervision=True)
    outputs = network.forward_for_training(random_image(3, 1, 32, 48))
    assert outputs.logits.shape == (3, 2, 32, 48)
    shapes = [tuple(logits.shape) for logits in outputs.deep_logits]
    assert shapes == [(3, 2, 16, 24), (3, 2, 8, 12), (3, 2, 4, 6)]


def test_the_image_head_gives_a_logit_for_each_image_and_class() -> None:
    network = AttentionUNet(features=SMALL, classes=2, image_head=True)
    logits = network.forward_for_training(random_image(3, 1, 32, 48)).image_logits
    assert logits is not None
    assert logits.shape == (3, 2)


@torch.no_grad()
@pytest.mark.parametrize("image_head", [False, True])
def test_one_pass_gives_logits_image_logits_and_attention(image_head: bool) -> None:
    network, image = AttentionUNet(features=SMALL, image_head=image_head).eval(), random_image(2, 1, 32, 48)
    passes = []
    network.bottleneck.register_forward_hook(lambda *_: passes.append(1))
    found = network.outputs(image)
    assert len(passes) == 1
    training = network.forward_for_training(image)
    assert torch.equal(found.logits, training.logits)
    torch.testing.assert_close(found.maps, network.outputs(image).maps, rtol=0, atol=0)
    torch.testing.assert_close(found.image_logits, training.image_logits, rtol=0, atol=0)
    assert (found.image_logits is not None) == image_head


def test_further_heads_cost_what_their_formulas_say() -> None:
    def parameters(**options: Any) -> int:
        return sum(parameter.numel() for parameter in AttentionUNet(**options).parameters())

    assert parameters(image_head=True) - 7_977_941 == 512 + 1
    assert parameters(deep_supervision=True) - 7_977_941 == (64 + 1) + (128 + 1) + (256 + 1)
    # a scale and a shift for each of the channels of 18 convolutions
    channels = 2 * (2 * (32 + 64 + 128 + 256) + 512)
    assert parameters(normalization="group") - 7_977_941 == 2 * channels


@pytest.mark.parametrize("normalization", ["none", "batch", "instance", "group"])
def test_the_logits_are_those_of_training_with_all_heads(normalization: Any) -> None:
    network = AttentionUNet(features=SMALL, **{**EVERYTHING, "normalization": normalization}).eval()
    image = random_image(2, 3, 32, 48)
    torch.testing.assert_close(network(image), network.forward_for_training(image).logits, rtol=0, atol=0)


@pytest.mark.parametrize("normalization", ["batch", "instance", "group"])
def test_widths_that_8_does_not_divide_can_be_normalized(normalization: Any) -> None:
    network = AttentionUNet(features=(6, 10, 14, 18, 22), normalization=normalization)
    assert network(random_image(2, 1, 32, 32)).shape == (2, 1, 32, 32)


def test_the_image_head_looks_at_the_bottleneck_alone() -> None:
    network = AttentionUNet(features=SMALL, **EVERYTHING).eval()
    logits = network.forward_for_training(random_image(2, 3, 32, 32)).image_logits
    assert logits is not None
    torch.autograd.backward(logits.sum())
    reached = {name.split(".")[0] for name, value in network.named_parameters() if value.grad is not None}
    assert reached == {"encoder1", "encoder2", "encoder3", "encoder4", "bottleneck", "image_head"}


def test_each_parameter_of_a_network_with_all_heads_learns() -> None:
    torch.manual_seed(0)
    network = AttentionUNet(features=SMALL, **EVERYTHING).eval()
    outputs = network.forward_for_training(random_image(2, 3, 32, 32))
    assert outputs.image_logits is not None
    told = [outputs.logits, *outputs.deep_logits, outputs.image_logits]
    torch.autograd.backward([each.square().mean() for each in told])
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name


# --- how weights start


def test_kernels_are_drawn_within_the_glorot_limit() -> None:
    # Glorot and Bengio 2010: sqrt(6 / (fan in + fan out)); a fan is channels times the area of the kernel
    for layer in convolutions(AttentionUNet()):
        limit = sqrt(6 / ((layer.in_channels + layer.out_channels) * layer.kernel_size[0] ** 2))
        assert layer.weight.abs().max() <= limit * (1 + 1e-6)
        if layer.weight.numel() > 1000:
            assert layer.weight.abs().max() > 0.98 * limit


def test_the_limit_of_the_first_kernel_is_0_138() -> None:
    # 3 x 3 x 3 inputs and 3 x 3 x 32 outputs: sqrt(6 / (27 + 288)) = 0.13801
    assert AttentionUNet().encoder1.conv1.weight.abs().max().item() == pytest.approx(0.13801, rel=0.02)


def test_kernels_spread_as_keras_draws_them(keras: ModuleType) -> None:
    drawn = keras.initializers.get("glorot_uniform")((3, 3, 768, 256))
    ours = AttentionUNet().decoder4.conv1.weight
    assert ours.std().item() == pytest.approx(drawn.std().item(), rel=0.01)
    assert ours.max().item() == pytest.approx(drawn.max().item(), rel=1e-3)


def test_biases_start_at_zero() -> None:
    assert all(layer.bias is not None and not layer.bias.any() for layer in convolutions(AttentionUNet()))


def test_the_same_seed_draws_the_same_network() -> None:
    networks = []
    for _ in range(2):
        torch.manual_seed(7)
        networks.append(AttentionUNet(features=SMALL).state_dict())
    torch.testing.assert_close(networks[0], networks[1], rtol=0, atol=0)


@pytest.mark.parametrize("with_encoder", [False, True])
def test_untrained_heads_predict_the_prior(with_encoder: bool) -> None:
    prior = 0.02
    encoder = ENCODERS["efficientnet-lite0"]() if with_encoder else None
    network = AttentionUNet(encoder=encoder, features=SMALL, deep_supervision=True, head_prior=prior)
    heads = [network.head, *(head for head in network.deep_heads if isinstance(head, nn.Conv2d))]
    assert len(heads) == 4
    for head in heads:  # the log-odds, so that features of zero give the prior
        assert head.bias is not None
        assert head.bias.item() == pytest.approx(log(prior / (1 - prior)))


# --- with a pretrained encoder


@pytest.fixture
def pretrained() -> AttentionUNet:
    torch.manual_seed(0)
    return AttentionUNet(encoder=ENCODERS["efficientnet-lite0"](), features=SMALL, **EVERYTHING)


def test_an_encoder_has_its_four_gates_at_strides_16_to_2(pretrained: AttentionUNet) -> None:
    image = random_image(2, 1, 64, 96)
    logits, _, maps = pretrained.eval().outputs(image)
    assert logits.shape == (2, 1, 64, 96)
    assert [tuple(each.shape[2:]) for each in maps] == [(4, 6), (8, 12), (16, 24), (32, 48)]


def test_all_heads_of_a_network_with_an_encoder_have_their_shapes(pretrained: AttentionUNet) -> None:
    outputs = pretrained.forward_for_training(random_image(2, 1, 64, 96))
    assert [tuple(each.shape[2:]) for each in outputs.deep_logits] == [(32, 48), (16, 24), (8, 12)]
    assert outputs.image_logits is not None
    assert outputs.image_logits.shape == (2, 1)
    torch.autograd.backward(
        [each.square().mean() for each in (outputs.logits, *outputs.deep_logits, outputs.image_logits)]
    )
    assert [name for name, value in pretrained.named_parameters() if value.grad is None] == []


def test_a_gate_has_a_quarter_of_its_signals_channels_but_at_least_8_with_an_encoder(
    pretrained: AttentionUNet,
) -> None:
    # EfficientNet-Lite0 ends in 320 channels; the levels below the other gates have 64, 32 and 16
    gates = [pretrained.gate5, pretrained.gate4, pretrained.gate3, pretrained.gate2]
    assert [gate.to_weight.in_channels for gate in gates] == [80, 16, 8, 8]


def test_the_weights_of_an_encoder_stay_as_they_are_handed_over() -> None:
    encoder = ENCODERS["efficientnet-lite0"]()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    AttentionUNet(encoder=encoder, features=SMALL)
    torch.testing.assert_close(dict(encoder.state_dict()), before, rtol=0, atol=0)


def test_a_network_with_an_encoder_takes_multiples_of_32(pretrained: AttentionUNet) -> None:
    assert pretrained.stride == 32
    with pytest.raises(ValueError, match="multiples of 32; pad it to 64x32"):
        pretrained(torch.zeros(1, 1, 48, 32))


def test_an_encoder_takes_three_channels() -> None:
    with pytest.raises(ValueError, match="in_channels 1: the encoder takes 3"):
        AttentionUNet(encoder=ENCODERS["efficientnet-lite0"](), in_channels=1)


@pytest.mark.parametrize("image_head", [True, False])
def test_logits_come_with_those_of_the_image_head(image_head: bool) -> None:
    network = AttentionUNet(features=SMALL, image_head=image_head).eval()
    image = random_image(2, 1, 32, 32)
    expected = network.forward_for_training(image)
    logits, image_logits, _ = network.outputs(image)
    assert torch.equal(logits, expected.logits)
    assert (image_logits is None) is not image_head
    if image_logits is not None and expected.image_logits is not None:
        assert torch.equal(image_logits, expected.image_logits)


# --- training


def test_every_parameter_gets_a_gradient_from_one_image(small: AttentionUNet) -> None:
    small(random_image(1, 3, 32, 32)).square().mean().backward()
    for name, parameter in small.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_dropout_zeroes_single_elements_and_not_whole_maps() -> None:
    dropout = AttentionUNet(features=SMALL).train().encoder1.dropout
    torch.manual_seed(0)
    kept = dropout(torch.ones(8, 16, 32, 32)) > 0
    assert kept.float().mean().item() == pytest.approx(0.8, abs=0.01)
    assert 0.7 < kept.float().mean(dim=(2, 3)).min() < kept.float().mean(dim=(2, 3)).max() < 0.9


def test_dropout_is_asleep_in_evaluation(small: AttentionUNet) -> None:
    image = random_image(1, 3, 32, 32)
    torch.testing.assert_close(small(image), small(image), rtol=0, atol=0)


def test_dropout_is_awake_in_training(small: AttentionUNet) -> None:
    image = random_image(1, 3, 32, 32)
    small.train()
    assert not torch.equal(small(image), small(image))


# --- memory format, precision, compilers


def test_channels_last_changes_no_result(copied: AttentionUNet) -> None:
    image = random_image(1, 3, 64, 96)
    last = AttentionUNet().eval()
    last.load_state_dict(copied.state_dict())
    last.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.no_grad():
        expected = copied.outputs(image)
        result = last.outputs(image.to(memory_format=torch.channels_last))
    torch.testing.assert_close(result.logits, expected.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(result.maps, expected.maps, rtol=1e-5, atol=1e-5)


def test_channels_last_stays_so_to_the_last_block(small: AttentionUNet) -> None:
    seen: list[Tensor] = []
    small.decoder1.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    small.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    small(random_image(2, 1, 32, 48))
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_bfloat16_gives_nearly_the_same_probabilities(small: AttentionUNet) -> None:
    image = random_image(1, 3, 64, 64)
    small.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.no_grad():
        expected = torch.sigmoid(small(image).float())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert small(image).dtype == torch.bfloat16
            result = torch.sigmoid(small(image).float())
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, expected, rtol=0, atol=0.01)


@pytest.mark.slow
def test_it_can_be_exported_for_images_of_any_fitting_size(small: AttentionUNet) -> None:
    rows, columns = (16 * torch.export.Dim(name, min=1, max=64) for name in ("rows", "columns"))
    exported = torch.export.export(
        small,
        (random_image(2, 1, 64, 64),),
        dynamic_shapes={"image": {0: torch.export.Dim("batch"), 2: rows, 3: columns}},
    )
    image = random_image(3, 1, 32, 48)
    torch.testing.assert_close(exported.module()(image), small(image))


@pytest.mark.slow
def test_it_compiles_without_a_graph_break(small: AttentionUNet) -> None:
    image = random_image(1, 1, 32, 32)
    compiled = torch.compile(small, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(image), small(image))


# --- errors


@pytest.mark.parametrize(("size", "fit"), [((100, 160), "112x160"), ((160, 8), "160x16"), ((1, 17), "16x32")])
def test_a_size_that_is_no_multiple_of_16_is_refused_with_one_that_fits(
    small: AttentionUNet, size: tuple[int, int], fit: str
) -> None:
    with pytest.raises(ValueError, match=f"{size[0]}x{size[1]} pixels .* multiples of 16; pad it to {fit}"):
        small(torch.zeros(1, 3, *size))


@pytest.mark.parametrize("shape", [(1, 2, 16, 16), (1, 4, 16, 16), (3, 16, 16), (1, 1, 3, 16, 16)])
def test_an_image_of_another_shape_is_refused(small: AttentionUNet, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=f"shape {re.escape(str(shape))} does not fit.* 1 or 3 channels"):
        small(torch.zeros(shape))


def test_the_attention_of_a_wrong_size_is_refused_as_well(small: AttentionUNet) -> None:
    with pytest.raises(ValueError, match="multiples of 16"):
        small.outputs(torch.zeros(1, 3, 20, 20))


@pytest.mark.parametrize("features", [(), (8, 16, 32, 64), (2, 8, 16, 32, 64), (4, 8, 16, 32, 64, 128)])
def test_other_than_five_levels_are_refused(features: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="5 numbers of channels, each at least 4"):
        AttentionUNet(features=features)


def test_features_may_come_as_a_list() -> None:
    network = AttentionUNet(features=[4, 8, 16, 32, 64])
    widths = [network.encoder1, network.encoder2, network.encoder3, network.encoder4, network.bottleneck]
    assert all(deeper.conv1.in_channels == level.conv2.out_channels for level, deeper in pairwise(widths))


def test_gates_are_named_in_the_order_of_their_maps() -> None:
    """The names are those of the layer table; the maps of an image of 64 pixels grow from gate to gate."""
    network = AttentionUNet(features=(4, 4, 4, 4, 4)).eval()
    assert network.gate_names == ("gate4", "gate3", "gate2", "gate1")
    assert [map_.shape[-1] for map_ in network.outputs(torch.zeros(1, 1, 64, 64)).maps] == [8, 16, 32, 64]
