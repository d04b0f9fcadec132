import inspect
import re
from pathlib import Path

import pytest
import yaml

from pneumoseg.pipeline.cli import app as cli
from pneumoseg.pipeline.core.config import DataConfig, TrainConfig
from pneumoseg.pipeline.core.config_files import (
    OPTION_KEYS,
    dump_config,
    explain_config,
    flatten,
    load_config,
)
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.core.preset_files import presets


def test_what_is_dumped_is_read_back(tmp_path: Path) -> None:
    config = TrainConfig(seed=3, data=DataConfig(image_size=128, positive_rate=None))
    (tmp_path / "c.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "c.yaml") == config


def test_a_setting_goes_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("data: {image_size: 64, batch_size: 2}\n")
    config = load_config(tmp_path / "c.yaml", ["data.image_size=128"])
    assert (config.data.image_size, config.data.batch_size) == (128, 2)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("optimization.learning_rate=1e-3", 0.001),  # a text in YAML 1.1, a number all the same
        ("optimization.learning_rate=.5E-2", 0.005),
        ("optimization.epochs=2e1", 20),
        ("optimization.learning_rate=0.5", 0.5),
        ("optimization.patience=null", None),
    ],
)
def test_values_are_read_as_yaml(setting: str, value: object) -> None:
    config = load_config(settings=[setting])
    assert getattr(config.optimization, setting.partition("=")[0].partition(".")[2]) == value


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("# nothing\n")
    assert load_config(tmp_path / "c.yaml") == TrainConfig()


def test_an_unknown_key_names_those_that_are_known_beside_it() -> None:
    with pytest.raises(UsageError) as caught:
        load_config(settings=["data.imagesize=128"])
    message = str(caught.value)
    assert "data.imagesize" in message
    assert "image_size, stages, batch_size" in message
    assert "learning_rate" not in message


def test_a_key_of_another_section_is_named_with_it() -> None:
    with pytest.raises(UsageError, match=r"unknown key epochs; .*; did you mean optimization\.epochs\?$"):
        load_config(settings=["epochs=3"])
    with pytest.raises(UsageError) as caught:
        load_config(settings=["optimization.epoch=3"])
    assert "did you mean" not in str(caught.value)


def test_a_file_that_is_not_there_is_named_once(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    with pytest.raises(UsageError) as caught:
        load_config(path)
    assert (
        str(caught.value) == f"{path}: cannot be read as text (No such file or directory); give a YAML file"
    )


def test_an_unknown_section_names_the_sections() -> None:
    with pytest.raises(UsageError, match="network, data, augmentation, optimization, tta, precision"):
        load_config(settings=["optimiser.learning_rate=1"])


@pytest.mark.parametrize(
    "setting",
    [
        "data.image_size=100",  # not a multiple of 16
        "data.image_size=0",
        "data.positive_rate=1.5",
        "optimization.learning_rate=0",
        "optimization.learning_rate=.nan",
        "optimization.learning_rate=.inf",
        "optimization.epochs=ten",
        "network.dropout=1",
        "network.features=[32, 64]",
        "network.features=[1, 2, 4, 8, 16]",  # a gate works with a quarter of the channels
        "network.classes=2",
        "precision=fp8",
        "seed=-1",
        "data=3",
        "data.image_size.x=3",
    ],
)
def test_a_value_that_does_not_fit_is_a_usage_error_of_one_line(setting: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_config(settings=[setting])
    assert len(str(caught.value).splitlines()) == 1


def test_a_bad_value_is_named_with_what_would_fit() -> None:
    with pytest.raises(UsageError, match=r"data\.image_size = 100: .*multiple of 16; 96 or 112 would fit"):
        load_config(settings=["data.image_size=100"])


@pytest.mark.parametrize("setting", ["data.image_size", "=3", "data.image_size={"])
def test_a_setting_without_key_or_value_is_a_usage_error(setting: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        load_config(settings=[setting])


@pytest.mark.parametrize("content", [b"a: [1,", b"- 1\n", b"\xff\xfe\x00", b"3"])
def test_a_file_that_is_no_configuration_is_a_usage_error_that_names_it(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "c.yaml").write_bytes(content)
    with pytest.raises(UsageError, match=r"c\.yaml") as caught:
        load_config(tmp_path / "c.yaml")
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_config(tmp_path / "nowhere.yaml")


def test_a_file_never_runs_code(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("seed: !!python/object/apply:os.getpid []\n")
    with pytest.raises(UsageError):
        load_config(tmp_path / "c.yaml")


def test_the_dump_is_plain_yaml() -> None:
    assert yaml.safe_load(dump_config(TrainConfig()))["network"]["features"] == [32, 64, 128, 256, 512]


def test_augmentations_are_listed_by_name(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("augmentation:\n- {name: flip, prob: 0.25}\n- {name: clahe}\n")
    names = [augmentation.name for augmentation in load_config(tmp_path / "c.yaml").augmentation]
    assert names == ["flip", "clahe"]


def test_an_unknown_augmentation_names_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"augmentation\.0 = 'mixup': .*flip, gamma, .*shift-scale-rotate"):
        load_config(settings=["augmentation=[{name: mixup}]"])


def test_an_unknown_word_of_an_augmentation_names_its_own() -> None:
    with pytest.raises(UsageError, match="known there: name, prob, std"):
        load_config(settings=["augmentation=[{name: noise, sigma: 1}]"])


@pytest.mark.parametrize(
    ("setting", "known"),
    [
        ("optimization.loss=[{name: focal, alpha: 1}]", "known there: name, weight, gamma"),
        ("data.stages=[{image_size: 64, epochs: 1, size: 1}]", "known there: image_size, epochs, accumulate"),
    ],
)
def test_an_unknown_word_in_a_list_names_those_of_its_item(setting: str, known: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_config(settings=[setting])
    assert known in str(caught.value)


def test_an_unknown_loss_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="bce, dice, focal, lovasz or tversky"):
        load_config(settings=["optimization.loss=[{name: hausdorff}]"])


def test_a_plain_name_in_a_list_stands_for_its_mapping() -> None:
    plain = load_config(
        settings=["optimization.loss=[lovasz, {name: dice, weight: 2}]", "augmentation=[flip, gamma]"]
    )
    spelled = load_config(
        settings=[
            "optimization.loss=[{name: lovasz}, {name: dice, weight: 2}]",
            "augmentation=[{name: flip}, {name: gamma}]",
        ]
    )
    assert plain == spelled


LOSSES = "bce, dice, focal, lovasz or tversky, alone or as {name: NAME, key: value}"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("optimization.loss=[lovaz]", f"optimization.loss.0 = 'lovaz': {LOSSES} would fit"),
        (
            "optimization.loss=lovasz",
            f"optimization.loss = 'lovasz': a list with at least one item, each item {LOSSES} would fit",
        ),
        (
            "optimization.loss=[{name: focal, weight: -1}]",
            "optimization.loss.0.focal.weight = -1: a number of at least 0 would fit",
        ),
        (
            "network.features=[16,32]",
            "network.features = [16, 32]: a list of 5 values, each a whole number from 4 to 1024 would fit, "
            "like [32, 64, 128, 256, 512]",
        ),
        ("network.features=[1,8,8,8,8]", "network.features.0 = 1: a whole number from 4 to 1024 would fit"),
        ("tta=[flop]", "tta.0 = 'flop': flip or scale would fit"),
        ("tta=flip", "tta = 'flip': a list, each item flip or scale would fit"),
        (
            "data.stages=[{image_size: 64}]",
            "data.stages.0 has no epochs; a whole number of at least 1 would fit",
        ),
        (
            "data.stages=[64]",
            "data.stages.0 = 64: a mapping with the keys image_size, epochs, accumulate, crop would fit",
        ),
        ("precision=fp8", "precision = 'fp8': auto, bf16, fp16 or float32 would fit"),
        (
            "network.encoder=resnet",
            "network.encoder = 'resnet': efficientnet-lite0, efficientnet-lite1, efficientnet-lite2 or null would fit",
        ),
        (
            "network.normalization=no",
            "network.normalization = False: none, batch, instance or group would fit",
        ),
        ("network.head_prior=1", "network.head_prior = 1: a number above 0 and below 1 or null would fit"),
        (
            "data.final_positive_rate=half",
            "data.final_positive_rate = 'half': a number from 0 to 1, prior or null would fit",
        ),
        ("deterministic=maybe", "deterministic = 'maybe': true or false would fit"),
        (
            "optimization.patience=long",
            "optimization.patience = 'long': a whole number of at least 1 or null would fit",
        ),
    ],
)
def test_a_value_that_does_not_fit_is_told_with_those_that_would(setting: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_config(settings=[setting])
    assert str(caught.value) == f"--set: {message}"


def test_several_values_that_do_not_fit_are_counted() -> None:
    with pytest.raises(UsageError, match=r"precision = 'fp8': .*\(and 1 more\)"):
        load_config(settings=["precision=fp8", "seed=-1"])


def test_an_error_names_where_the_value_comes_from(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("data: {batch_size: 0}\nseed: -1\n")
    with pytest.raises(UsageError, match=r"^--batch-size: data\.batch_size = -1: "):
        load_config(tmp_path / "c.yaml", ["seed=0"], options={"batch_size": -1})
    with pytest.raises(UsageError, match=r"^--set: data\.batch_size = -2: "):
        load_config(tmp_path / "c.yaml", ["seed=0", "data.batch_size=-2"])
    with pytest.raises(UsageError, match=r"^.*c\.yaml: seed = -1: "):
        load_config(tmp_path / "c.yaml", options={"batch_size": 2})


def test_an_option_stands_for_a_key_and_comes_last(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("data: {image_size: 64, batch_size: 2}\n")
    options = {"epochs": 3, "image_size": 32, "learning_rate": 0.5, "batch_size": None, "seed": 9}
    config = load_config(
        tmp_path / "c.yaml", ["optimization.epochs=5", "data.image_size=128"], options=options
    )
    assert (config.optimization.epochs, config.data.image_size, config.data.batch_size) == (3, 32, 2)
    assert (config.optimization.learning_rate, config.seed) == (0.5, 9)


def test_an_option_cannot_reach_into_a_value(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("data: 3\n")
    with pytest.raises(UsageError, match="--image-size: data holds the value 3"):
        load_config(tmp_path / "c.yaml", options={"image_size": 32})


def test_every_option_of_a_key_is_an_option_of_train() -> None:
    commands = {call.__name__: call for info in cli.app.registered_commands if (call := info.callback)}
    parameters = inspect.signature(commands["train"]).parameters
    assert OPTION_KEYS.keys() <= parameters.keys()
    assert set(OPTION_KEYS.values()) <= flatten(TrainConfig()).keys()


def test_everything_goes_over_the_base(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("seed: 1\ndata: {batch_size: 2, accumulate: 2}\n")
    (tmp_path / "c.yaml").write_text("data: {batch_size: 4}\n")
    config = load_config(tmp_path / "c.yaml", ["seed=3"], base=tmp_path / "run.yaml")
    assert (config.seed, config.data.batch_size, config.data.accumulate) == (3, 4, 2)


@pytest.mark.parametrize("preset", [None, *presets()])
def test_what_is_shown_is_read_back(preset: str | None, tmp_path: Path) -> None:
    config = load_config(preset=preset, settings=["data.batch_size=32"])
    (tmp_path / "c.yaml").write_text(explain_config(config))
    assert load_config(tmp_path / "c.yaml") == config


def test_every_key_is_shown_below_its_meaning_its_values_and_its_default() -> None:
    lines = explain_config(load_config(settings=["optimization.optimizer=sgd", "seed=3"])).splitlines()
    place = lines.index("  optimizer: sgd")
    assert lines[place - 1] == "  # Values: adamw or sgd. Default: adamw."
    assert lines[place - 2].startswith("  # Optimizer")
    for key in flatten(TrainConfig()):
        name = key.rpartition(".")[2]
        place = next(number for number, line in enumerate(lines) if line.strip().startswith(f"{name}:"))
        assert lines[place - 1].lstrip().startswith("#"), key


def test_a_list_of_names_is_shown_with_the_keys_of_each() -> None:
    shown = explain_config(TrainConfig())
    assert "  #   focal: {weight: 1.0, gamma: 2.0}" in shown
    assert "#   noise: {prob: 0.5, std: " in shown


def test_no_line_that_is_shown_is_wide() -> None:
    assert max(map(len, explain_config(TrainConfig()).splitlines())) <= 110


def test_the_file_goes_over_the_preset_and_settings_over_both(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("data: {image_size: 64, batch_size: 2}\nnetwork: {dropout: 0.3}\n")
    config = load_config(tmp_path / "c.yaml", ["data.batch_size=4"], preset="quick")
    assert (config.data.image_size, config.data.batch_size, config.network.dropout) == (64, 4, 0.3)
    # what neither names is the preset's
    assert config.network.normalization == "batch"
    assert config.optimization.schedule == "one-cycle"
    # and what the preset leaves out is the default
    assert config.optimization.clip_norm == TrainConfig().optimization.clip_norm


def test_a_list_takes_the_place_of_the_presets_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("augmentation: [{name: clahe}]\ndata: {stages: []}\n")
    config = load_config(tmp_path / "c.yaml", preset="reference")
    assert [augmentation.name for augmentation in config.augmentation] == ["clahe"]
    assert config.data.stages == ()
    assert config.data.image_size == 512


def test_a_setting_reaches_into_a_preset_and_leaves_the_next_run_alone() -> None:
    assert load_config(settings=["network.dropout=0.4"], preset="quick").network.dropout == 0.4
    assert load_config(preset="quick").network.dropout == 0.0


@pytest.mark.parametrize("name", ["fast", "", "../presets/quick", "quick.yaml", "Quick"])
def test_an_unknown_preset_names_those_there_are(name: str) -> None:
    with pytest.raises(UsageError, match=f"--preset {re.escape(name)}: article, quick, reference would fit"):
        load_config(preset=name)


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (BOMB, "an alias (*name) is not accepted"),
        ("network: &n {dropout: 0.1}\ndata: {<<: *n}\n", "an alias (*name) is not accepted"),
        ("data: {batch_size: 2}\nseed: 1\ndata: {crop: 32}\n", "data is there twice"),
        ("data: {batch_size: 2, crop: 32, batch_size: 4}\n", "batch_size is there twice"),
        ("? [data, seed]\n: 1\n", "unhashable key"),
        ("[" * 10**5, "recursion"),
        ("seed: " + "9" * 5000, "is not YAML"),
        ("seed: 2001-99-99", "is not YAML"),
    ],
    ids=["bomb", "merge", "section twice", "key twice", "list as key", "nested", "number", "date"],
)
def test_yaml_that_takes_too_much_or_cannot_be_read_is_refused_in_one_line(
    tmp_path: Path, text: str, what: str
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=re.escape(what)) as caught:
        load_config(path)
    assert len(str(caught.value).splitlines()) == 1


def test_an_alias_in_a_setting_is_refused() -> None:
    with pytest.raises(UsageError, match="is not a value in YAML"):
        load_config(settings=["data.stages=[&a {image_size: 64, epochs: 1}, *a]"])


def test_the_settings_of_the_first_hour_are_a_configuration() -> None:
    config = load_config(
        Path(__file__).parents[4] / "examples" / "first_hour.yaml", ["optimization.epochs=15"]
    )
    assert (config.optimization.schedule, list(config.tta)) == ("one-cycle", ["flip"])
