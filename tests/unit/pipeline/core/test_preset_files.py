from pathlib import Path

import pytest

from pneumoseg.pipeline.core.config import NetworkConfig
from pneumoseg.pipeline.core.config_files import dump_config, load_config
from pneumoseg.pipeline.core.preset_files import presets
from pneumoseg.pipeline.model.weights import make_network
from pneumoseg.pipeline.training.losses import TrainingLoss
from pneumoseg.pipeline.training.phases import plan_phases


def test_there_are_three_presets() -> None:
    assert presets() == ["article", "quick", "reference"]


@pytest.mark.parametrize("preset", presets())
def test_a_preset_is_a_configuration_that_a_run_accepts(preset: str) -> None:
    config = load_config(preset=preset)
    assert load_config(preset=preset, settings=[]) == config
    for phase in plan_phases(config):
        assert config.data.batch_size % phase.accumulate == 0
    make_network(config.network)
    TrainingLoss(config.optimization.loss, deep_weight=0.5, image_weight=0.1)


@pytest.mark.parametrize("preset", presets())
def test_a_preset_comes_back_from_the_configuration_that_a_run_writes(preset: str, tmp_path: Path) -> None:
    config = load_config(preset=preset)
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize("preset", sorted({*presets()} - {"article"}))
def test_every_preset_but_the_articles_begins_with_few_positive_pixels(preset: str) -> None:
    assert load_config(preset=preset).network.head_prior is not None


def test_the_preset_of_the_article_has_its_network() -> None:
    assert load_config(preset="article").network == NetworkConfig()
