import pytest

from pneumoseg.pipeline.core.config import TrainConfig
from pneumoseg.pipeline.core.config_files import load_config
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.model.weights import make_network


def test_the_default_network_is_the_articles() -> None:
    network = make_network(TrainConfig().network)
    assert sum(parameter.numel() for parameter in network.parameters()) == 7_977_941


ENCODER = "network.encoder=efficientnet-lite0"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([ENCODER, "data.image_size=48"], "data.image_size = 48: .* multiple of 32; 32 or 64 would fit"),
        ([ENCODER, "data.image_size=16"], "data.image_size = 16: .* multiple of 32; 32 would fit"),
        (["data.crop=40"], "data.crop = 40: .* multiple of 16; 32 or 48"),
        ([ENCODER, "data.stages=[{image_size: 80, epochs: 1}]"], r"data.stages.0.image_size = 80: .* of 32"),
        (["data.stages=[{image_size: 64, epochs: 1, crop: 40}]"], r"data.stages.0.crop = 40: .* of 16"),
        (["network.encoder_weights=imagenet"], "network: encoder_weights = imagenet: there is no encoder"),
        ([ENCODER, "network.in_channels=1"], "network: in_channels = 1: efficientnet-lite0 takes 3"),
    ],
)
def test_what_an_encoder_and_its_stride_need_is_told_in_one_line(settings: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}") as caught:
        load_config(settings=settings)
    assert len(str(caught.value).splitlines()) == 1


def test_the_stride_of_a_configuration_is_that_of_its_network() -> None:
    for settings in ([], [ENCODER]):
        config = load_config(settings=settings).network
        assert config.stride == make_network(config).stride


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        TrainConfig().seed = 1


def test_every_value_is_documented() -> None:
    schema = TrainConfig.model_json_schema()
    sections = [schema, *schema["$defs"].values()]
    named = {name: field for section in sections for name, field in section["properties"].items()}
    told = {"const", "description", "$ref"}
    undocumented = [name for name, field in named.items() if not told & field.keys()]
    assert undocumented == []


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        (["network.normalization=batch"], "group or instance normalization"),
        (["network.encoder=efficientnet-lite0"], "optimization.freeze_norm=true"),
    ],
)
@pytest.mark.parametrize(
    "accumulate", ["data.accumulate=2", "data.stages=[{image_size: 64, epochs: 1, accumulate: 2}]"]
)
def test_batch_statistics_of_micro_batches_are_refused(
    settings: list[str], hint: str, accumulate: str
) -> None:
    load_config(settings=settings)
    with pytest.raises(UsageError, match=hint) as caught:
        load_config(settings=[*settings, accumulate])
    assert len(str(caught.value).splitlines()) == 1


def test_frozen_batch_statistics_do_not_depend_on_the_micro_batch() -> None:
    settings = ["network.encoder=efficientnet-lite0", "data.accumulate=2", "optimization.freeze_norm=true"]
    assert load_config(settings=settings).data.accumulate == 2


@pytest.mark.parametrize(
    ("settings", "section"),
    [
        (["data.image_size=128", "data.crop=256"], "data"),
        (["data.stages=[{image_size: 128, epochs: 1, crop: 256}]"], "data.stages.0"),
    ],
    ids=["final", "stage"],
)
def test_a_crop_larger_than_its_image_is_refused_in_one_line(settings: list[str], section: str) -> None:
    with pytest.raises(UsageError, match=rf"{section}.crop = 256: .* {section}.image_size = 128; ") as caught:
        load_config(settings=settings)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        (["network.normalization=instance"], "images and crops of 32 px would fit"),
        (["network.normalization=batch", "data.batch_size=1"], "32 px, or a larger batch, would fit"),
    ],
)
@pytest.mark.parametrize(
    "small", ["data.image_size=16", "data.crop=16", "data.stages=[{image_size: 16, epochs: 1}]"]
)
def test_statistics_of_one_number_are_refused(settings: list[str], hint: str, small: str) -> None:
    """torch refuses them: "Expected more than 1 value per channel when training"."""
    load_config(settings=settings)
    load_config(settings=["network.normalization=batch", "data.batch_size=2", small])
    with pytest.raises(UsageError, match=hint) as caught:
        load_config(settings=[*settings, small])
    assert len(str(caught.value).splitlines()) == 1


def test_an_encoder_has_a_bottleneck_of_one_pixel_at_32_px() -> None:
    settings = [ENCODER, "data.batch_size=1", "network.normalization=instance", "data.image_size=32"]
    with pytest.raises(UsageError, match="64 px, or a larger batch, would fit"):
        load_config(settings=settings)
    load_config(settings=[*settings, "optimization.freeze_norm=true"])


@pytest.mark.parametrize(
    "term", ["{name: bce, positive_weight: .inf}", "{name: focal, gamma: .nan}", "{name: dice, weight: .inf}"]
)
def test_non_finite_numbers_of_a_loss_are_refused(term: str) -> None:
    with pytest.raises(UsageError, match=r"optimization\.loss"):
        load_config(settings=[f"optimization.loss=[{term}]"])


def test_a_crop_as_large_as_its_image_is_taken() -> None:
    assert load_config(settings=["data.image_size=128", "data.crop=128"]).data.crop == 128
