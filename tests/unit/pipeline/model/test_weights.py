import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.conftest import write_model
from tests.unit.pipeline.model.folders import (
    CPU,
    WEIGHTS,
    alter,
    described_anew,
    the_error,
    tiny_network,
    write_pair,
)

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.inference.model import load_model
from pneumoseg.pipeline.model.description import (
    read_description,
)
from pneumoseg.pipeline.model.weights import place, save_weights


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, list[AttentionUNet]]:
    """A model folder of two networks, and these."""
    return tmp_path / "pair", write_pair(tmp_path / "pair")


def test_weights_in_channels_last_are_kept_as_well(tmp_path: Path, network: AttentionUNet) -> None:
    expected = {name: value.clone() for name, value in network.state_dict().items()}
    folder = write_model(tmp_path / "model", place(network, CPU, channels_last=True))
    loaded = load_model(folder, CPU).networks[0].state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in expected.items())


def test_missing_weights_are_an_error(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    assert "the weights of the model are missing" in the_error(folder)


def test_altered_weights_are_an_error(folder: Path) -> None:
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    assert "not those that model.json describes" in the_error(folder)


def test_weights_of_another_network_are_an_error(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    weights.pop("head.bias")
    save_file(weights, folder / WEIGHTS)
    described_anew(folder)
    assert "does not fit the network" in the_error(folder)


def test_weights_that_are_no_safetensors_file_are_an_error(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"PK\x03\x04 a pickle")
    described_anew(folder)
    assert "does not fit the network" in the_error(folder)


@pytest.mark.parametrize("weights", ["../outside.safetensors", "/etc/hostname"])
def test_weights_outside_of_the_folder_are_an_error(folder: Path, weights: str) -> None:
    shutil.copy(folder / WEIGHTS, folder.parent / "outside.safetensors")
    member = json.loads((folder / "model.json").read_text())["members"][0]
    alter(folder, members=[{**member, "weights": weights}])
    assert "outside of the model folder" in the_error(folder)


def test_each_member_has_a_file_of_its_own_and_its_fold(pair: tuple[Path, list[AttentionUNet]]) -> None:
    members = read_description(pair[0]).members
    assert [member.held_out_fold for member in members] == [0, 1]
    assert sorted(path.name for path in (pair[0] / "weights").iterdir()) == [
        "fold0.safetensors",
        "fold1.safetensors",
    ]


def test_one_member_that_is_altered_is_an_error_that_names_its_file(
    pair: tuple[Path, list[AttentionUNet]],
) -> None:
    path = pair[0] / "weights" / "fold1.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    assert "fold1.safetensors: the weights are not those" in the_error(pair[0])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_weights_are_an_error_of_one_line(tmp_path: Path, value: float) -> None:
    network = tiny_network(1)
    with torch.no_grad():
        next(network.parameters())[0, 0, 0, 0] = value
    assert "holds non-finite weights" in the_error(write_model(tmp_path / "model", network))


def test_a_full_disk_is_told_with_its_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        save_weights(tmp_path, tiny_network(1), fold=0)
