"""Weights on the way from this project to Keras."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pneumoseg.models import (
    ENCODERS,
    AttentionUNet,
    KerasWeightsError,
    load_keras_weights,
    save_keras_weights,
)

SMALL = (4, 8, 16, 32, 64)


@pytest.mark.parametrize("name", ["model.weights.h5", "model.h5"])  # the formats of Keras 3 and Keras 2
def test_keras_computes_the_same_from_an_exported_file(
    build: Any, image: Tensor, tmp_path: Path, name: str
) -> None:
    torch.manual_seed(4)
    network = AttentionUNet(features=SMALL, deep_supervision=True).eval()
    save_keras_weights(network, tmp_path / "model.weights.h5")
    if name != "model.weights.h5":
        shutil.copy(tmp_path / "model.weights.h5", tmp_path / name)
    article = build(first_features=4)
    article.model.load_weights(tmp_path / name)
    with torch.no_grad():
        result = network.outputs(image)
    expected = article.look_inside(image)
    torch.testing.assert_close(result.logits, expected[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(result.maps, expected[1], rtol=0, atol=1e-5)


def test_the_full_network_returns_from_keras_bit_equal(build: Any, tmp_path: Path) -> None:
    network = AttentionUNet()
    save_keras_weights(network, tmp_path / "there.weights.h5")
    article = build()
    assert article.model.count_params() == 7_977_941  # as published
    article.model.load_weights(tmp_path / "there.weights.h5")
    article.model.save_weights(tmp_path / "back.weights.h5")
    again = AttentionUNet()
    load_keras_weights(again, tmp_path / "back.weights.h5")
    for name, value in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_weights_of_keras_return_to_it_bit_equal(small_article: Any, build: Any, tmp_path: Path) -> None:
    network = AttentionUNet(features=SMALL)
    load_keras_weights(network, small_article.model)
    save_keras_weights(network, tmp_path / "model.weights.h5")
    again = build(first_features=4)
    again.model.load_weights(tmp_path / "model.weights.h5")
    for before, after in zip(small_article.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("options", "layer"),
    [
        ({"normalization": "batch"}, r"encoder1\.norm1"),
        ({"image_head": True}, "image_head"),
        ({"encoder": "efficientnet-lite0"}, r"encoder\."),
    ],
)
def test_another_network_than_the_articles_is_refused(
    options: dict[str, Any], layer: str, tmp_path: Path
) -> None:
    encoder = options.pop("encoder", None)
    network = AttentionUNet(features=SMALL, encoder=ENCODERS[encoder]() if encoder else None, **options)
    with pytest.raises(KerasWeightsError, match=f"has a layer {layer}"):
        save_keras_weights(network, tmp_path / "model.weights.h5")
    assert list(tmp_path.iterdir()) == []
