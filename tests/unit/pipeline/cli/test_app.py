import inspect
from collections import defaultdict
from typing import get_args

import pytest

from pneumoseg.pipeline.cli import app as cli
from pneumoseg.pipeline.core.config import presets

COMMANDS = {info.callback.__name__: info.callback for info in cli.app.registered_commands if info.callback}


def options(command: str) -> dict[str, tuple[object, ...]]:
    """The options of a command: what they are called, how they are read and what their help says."""
    found: dict[str, tuple[object, ...]] = {}
    for name, parameter in inspect.signature(COMMANDS[command]).parameters.items():
        kind, meaning = get_args(parameter.annotation)
        found[name] = (kind, meaning.param_decls, meaning.help, meaning.min)
    return found


@pytest.mark.parametrize("command", ["check", "prepare", "predict", "submit"])
def test_what_takes_images_can_open_acceptance_filters(command: str) -> None:
    assert {"any_view", "any_modality", "any_body_part"} <= options(command).keys()


@pytest.mark.parametrize("command", ["check", "prepare", "evaluate", "predict", "submit"])
def test_what_decodes_takes_workers(command: str) -> None:
    assert "workers" in options(command)


@pytest.mark.parametrize("command", ["check", "predict"])
def test_what_would_warn_of_burned_in_text_can_be_told_not_to(command: str) -> None:
    assert "allow_burned_in" in options(command)


def test_an_option_means_the_same_in_every_command() -> None:
    meanings = defaultdict(set)
    for command in COMMANDS.keys() - {"train"}:  # its workers load from the cache
        for name, meaning in options(command).items():
            meanings[name].add(meaning)
    for name in (
        *("any_view", "any_modality", "any_body_part", "allow_burned_in", "workers", "aim", "tta"),
        *("device", "threads", "batch_size", "overwrite", "quiet", "verbose"),
    ):
        assert len(meanings[name]) == 1, name


def test_another_modality_has_views_and_body_parts_of_its_own() -> None:
    acceptance = cli._acceptance(any_view=False, any_modality=True, any_body_part=False)
    assert (acceptance.any_modality, acceptance.any_view, acceptance.any_body_part) == (True, True, True)
    assert not acceptance.allow_burned_in


def test_the_configuration_is_shown_without_manifest_and_run_folder(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["train", "--show-config", "--preset", "quick", "--epochs", "3", "--set", "data.batch_size=2"]
    cli.app([*words, "--learning-rate", "1e-3", "--deterministic"], standalone_mode=False)
    shown = capsys.readouterr().out
    for line in ("  epochs: 3", "  batch_size: 2", "  learning_rate: 0.001", "deterministic: true"):
        assert line in shown.splitlines()
    assert "# Values: auto, bf16, fp16 or float32. Default: auto." in shown


def test_the_help_of_train_names_the_presets_that_there_are() -> None:
    assert presets() == list(cli._PRESETS)
