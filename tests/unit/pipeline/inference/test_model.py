import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import write_model
from tests.unit.pipeline.model.folders import CPU, A, B, C, tiny_network, write_knowing, write_pair

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.inference.model import ModelOptions, load_model
from pneumoseg.pipeline.model.card import save_description
from pneumoseg.pipeline.model.description import (
    TunedPoint,
    read_description,
)
from pneumoseg.transforms.masks import OperatingPoint


@pytest.fixture
def network() -> AttentionUNet:
    return tiny_network(3)


@pytest.fixture
def folder(tmp_path: Path, network: AttentionUNet) -> Path:
    return write_model(tmp_path / "model", network, image_digests=("ab" * 8,))


@pytest.fixture
def knowing(tmp_path: Path) -> Path:
    """A model whose first member has seen the images B and C, and whose second one has seen A and C."""
    return write_knowing(tmp_path / "knowing")


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, list[AttentionUNet]]:
    """A model folder of two networks, and these."""
    return tmp_path / "pair", write_pair(tmp_path / "pair")


def test_a_model_that_is_loaded_gives_the_same_logits(folder: Path, network: AttentionUNet) -> None:
    image = torch.rand(1, 1, 32, 48)
    with torch.no_grad():
        torch.testing.assert_close(
            load_model(folder, CPU).networks[0](image), network(image), atol=1e-6, rtol=1e-6
        )


def test_weights_come_back_to_the_bit(folder: Path, network: AttentionUNet) -> None:
    loaded = load_model(folder, CPU).networks[0].state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in network.state_dict().items())


def test_a_loaded_network_is_in_evaluation_mode(folder: Path) -> None:
    assert not load_model(folder, CPU).networks[0].training


def test_the_operating_point_is_the_one_that_was_tuned(tmp_path: Path, network: AttentionUNet) -> None:
    folder = write_model(
        tmp_path / "model", network, point=TunedPoint(threshold=0.625, min_area_fraction=0.002)
    )
    expected = OperatingPoint(threshold=0.625, min_area_fraction=0.002)
    assert load_model(folder, CPU).operating_point == expected


def test_a_model_knows_which_images_it_has_seen(folder: Path) -> None:
    model = load_model(folder, CPU)
    assert model.has_seen("ab" * 32)
    assert not model.has_seen("cd" * 32)


def test_a_model_of_two_members_answers_with_the_mean_of_their_probabilities(
    pair: tuple[Path, list[AttentionUNet]],
) -> None:
    folder, members = pair
    image = torch.rand(1, 1, 32, 48)
    with torch.no_grad():
        expected = torch.stack([torch.sigmoid(member(image)) for member in members]).mean(0)
    result = load_model(folder, CPU).predictor.predict_batch(image).probabilities
    torch.testing.assert_close(result, expected, atol=1e-6, rtol=0)


def test_a_model_of_two_members_is_in_evaluation_mode(pair: tuple[Path, list[AttentionUNet]]) -> None:
    networks = load_model(pair[0], CPU).networks
    assert not any(module.training for network in networks for module in network.modules())


def test_a_model_has_seen_what_one_of_its_members_has_seen(knowing: Path) -> None:
    model = load_model(knowing, CPU)
    assert [model.has_seen(digest + "0" * 48) for digest in (A, B, C, "d" * 16)] == [True, True, True, False]


def test_a_part_of_a_model_has_seen_what_its_own_members_have_seen(knowing: Path) -> None:
    model = load_model(knowing, CPU).without(1)
    assert [model.has_seen(digest + "0" * 48) for digest in (A, B, C)] == [True, False, True]


@pytest.mark.parametrize("computes", [False, True])
def test_a_model_is_used_in_the_precision_in_which_it_was_validated(
    folder: Path,
    tmp_path: Path,
    computes: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("pneumoseg.pipeline.core.devices.computes_in_bf16", lambda _: computes)
    shutil.copytree(folder, tmp_path / "bf16")
    save_description(tmp_path / "bf16", read_description(folder).model_copy(update={"precision": "bf16"}))
    assert load_model(folder, CPU).precision.name == "float32"
    assert capsys.readouterr().err == ""
    assert load_model(tmp_path / "bf16", CPU).precision.name == ("bf16" if computes else "float32")
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == (0 if computes else 1)
    assert all("validated in bf16" in line and "float32" in line for line in warnings)


@pytest.mark.parametrize(
    ("tta", "error"), [(["rotate"], "--tta rotate: flip, scale"), ("flip", "sequence of names")]
)
def test_an_augmentation_that_would_be_left_out_is_an_error(model_folder: Path, tta: Any, error: str) -> None:
    with pytest.raises(UsageError, match=error):
        load_model(model_folder, torch.device("cpu"), ModelOptions(tta=tta))
