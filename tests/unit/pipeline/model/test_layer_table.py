import pytest
import torch

from pneumoseg.models import ENCODERS, AttentionUNet
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.model.layer_table import Layer, describe_network

# The article's table, in its order: parameters of every layer that has some.
ARTICLE_PARAMETERS = [
    *[896, 9248, 18496, 36928, 73856, 147584, 295168, 590080],
    *[1180160, 2359808],
    *[32896, 65664, 129, 1769728, 590080],
    *[8256, 16448, 65, 442496, 147584],
    *[2080, 4128, 33, 110656, 36928],
    *[528, 1040, 17, 27680, 9248],
    33,
]


@pytest.fixture(scope="module")
def layers() -> dict[str, Layer]:
    return {layer.name: layer for layer in describe_network(AttentionUNet())}


def test_the_layers_with_parameters_are_those_of_the_articles_table(layers: dict[str, Layer]) -> None:
    assert [layer.parameters for layer in layers.values() if layer.parameters] == ARTICLE_PARAMETERS


def test_there_are_as_many_layers_as_in_the_article_but_for_the_last_sigmoid(
    layers: dict[str, Layer],
) -> None:
    # image; 4 x (convolution, dropout, convolution, pooling); 3 in the bottleneck;
    # 4 x (upsampling, 7 in the gate, concatenation, 3 in the decoder); head
    assert len(layers) == 1 + 4 * 4 + 3 + 4 * 12 + 1


def test_output_shapes_are_those_of_the_article(layers: dict[str, Layer]) -> None:
    table: list[tuple[str, tuple[int, ...]]] = [
        ("image", (3, 160, 160)),
        ("encoder1.conv2", (32, 160, 160)),
        ("encoder2.conv2", (64, 80, 80)),
        ("encoder3.conv2", (128, 40, 40)),
        ("encoder4.conv2", (256, 20, 20)),
        ("bottleneck.conv2", (512, 10, 10)),
        ("gate4.from_skip", (128, 20, 20)),
        ("gate3.from_gate", (64, 40, 40)),
        ("gate2.add", (32, 80, 80)),
        ("gate1.relu", (16, 160, 160)),
        ("gate1.sigmoid", (1, 160, 160)),
        ("concatenate", (768, 20, 20)),
        ("concatenate_1", (384, 40, 40)),
        ("concatenate_2", (192, 80, 80)),
        ("concatenate_3", (96, 160, 160)),
        ("head", (1, 160, 160)),
    ]
    for name, shape in table:
        assert layers[name].output_shape == shape


def test_inputs_are_wired_as_in_the_article(layers: dict[str, Layer]) -> None:
    table: list[tuple[str, tuple[str, ...]]] = [
        ("image", ()),
        ("encoder1.conv1", ("image",)),
        ("encoder1.dropout", ("encoder1.conv1",)),
        ("pool1", ("encoder1.conv2",)),
        ("encoder2.conv1", ("pool1",)),
        ("up4", ("bottleneck.conv2",)),
        ("gate4.from_skip", ("encoder4.conv2",)),
        ("gate4.from_gate", ("up4",)),
        ("gate4.add", ("gate4.from_skip", "gate4.from_gate")),
        ("gate4.multiply", ("encoder4.conv2", "gate4.sigmoid")),
        ("concatenate", ("up4", "gate4.multiply")),
        ("decoder4.conv1", ("concatenate",)),
        ("up3", ("decoder4.conv2",)),
        ("concatenate_3", ("up1", "gate1.multiply")),
        ("head", ("decoder1.conv2",)),
    ]
    for name, inputs in table:
        assert layers[name].inputs == inputs


def test_a_relu_after_a_convolution_is_a_part_of_it(layers: dict[str, Layer]) -> None:
    assert layers["encoder1.conv1"].kind == "Conv2d 3×3, ReLU"
    assert layers["gate1.from_skip"].kind == "Conv2d 1×1"
    assert layers["gate1.relu"].kind == "ReLU"


def test_every_input_is_a_layer_that_came_before(layers: dict[str, Layer]) -> None:
    seen: set[str] = set()
    for layer in layers.values():
        assert seen.issuperset(layer.inputs)
        seen.add(layer.name)


def test_the_image_may_have_another_size(layers: dict[str, Layer]) -> None:
    described = describe_network(AttentionUNet(), image_size=(96, 224))
    assert [layer.name for layer in described] == list(layers)
    assert described[-1].output_shape == (1, 96, 224)


def test_another_network_is_described_as_it_is() -> None:
    network = AttentionUNet(in_channels=1, classes=2, features=(4, 8, 16, 32, 64))
    described = describe_network(network, image_size=(32, 32))
    assert described[0].output_shape == (1, 32, 32)
    assert described[-1].output_shape == (2, 32, 32)
    assert sum(layer.parameters for layer in described) == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("with_encoder", "training"), [(False, True), pytest.param(True, False, marks=pytest.mark.slow)]
)
def test_no_parameter_of_any_head_or_normalization_is_left_out(with_encoder: bool, training: bool) -> None:
    network = AttentionUNet(
        encoder=ENCODERS["efficientnet-lite0"]() if with_encoder else None,
        features=(4, 8, 16, 32, 64),
        normalization="batch",
        deep_supervision=True,
        image_head=True,
    ).train(training)
    described = describe_network(network, image_size=(64, 64))
    assert sum(layer.parameters for layer in described) == sum(p.numel() for p in network.parameters())
    assert [layer.name for layer in described if layer.kind == "Input"] == ["image"]


@pytest.mark.slow
def test_each_block_of_an_encoder_is_a_row_and_feeds_its_gate() -> None:
    network = AttentionUNet(encoder=ENCODERS["efficientnet-lite0"](), features=(4, 8, 16, 32, 64))
    layers = {layer.name: layer for layer in describe_network(network)}
    blocks = [layer for name, layer in layers.items() if name.startswith("encoder.")]
    assert len(blocks) == 1 + (1 + 2 + 2 + 3 + 3 + 4 + 1)  # the stem, and the stages of the paper's table
    assert {layer.block for layer in blocks} == {f"encoder{level}" for level in range(1, 6)}
    assert layers["encoder.level5.3"].kind == "InvertedBottleneck 5×5"
    assert layers["encoder.level4.5"].output_shape == (112, 10, 10)
    assert layers["gate5.from_skip"].inputs == ("encoder.level4.5",)
    assert layers["up5"].inputs == ("encoder.level5.4",)
    assert layers["decoder1.conv1"].inputs == ("up1",)


@pytest.mark.parametrize("training", [True, False])
def test_describing_changes_neither_the_network_nor_the_random_numbers(training: bool) -> None:
    network = AttentionUNet(features=(4, 8, 16, 32, 64)).train(training)
    before = {name: values.clone() for name, values in network.state_dict().items()}
    random_state = torch.get_rng_state()
    describe_network(network, image_size=(16, 16))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert network.training is network.encoder1.dropout.training is training
    torch.testing.assert_close(dict(network.state_dict()), before, rtol=0, atol=0)


def test_a_size_that_the_network_refuses_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"100x160 pixels does not fit.*multiples of 16"):
        describe_network(AttentionUNet(), image_size=(100, 160))
