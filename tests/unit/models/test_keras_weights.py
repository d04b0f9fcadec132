import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from pneumoseg.models import ENCODERS, AttentionUNet, KerasWeightsError, load_keras_weights

SMALL = (4, 8, 16, 32, 64)


@pytest.fixture
def network() -> AttentionUNet:
    return AttentionUNet(features=SMALL).eval()


@pytest.fixture
def weights_file(small_article: Any, tmp_path: Path) -> Path:
    path = tmp_path / "article.weights.h5"
    small_article.model.save_weights(path)
    return path


@pytest.fixture
def keras_file(small_article: Any, tmp_path: Path) -> Path:
    path = tmp_path / "article.keras"
    small_article.model.save(path)
    return path


def assert_equal_to_keras(network: AttentionUNet, article: Any, image: Tensor) -> None:
    with torch.no_grad():
        result = network.outputs(image)
    expected = article.look_inside(image)
    torch.testing.assert_close(result.logits, expected[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(result.maps, expected[1], rtol=0, atol=1e-5)


# --- sources


def test_a_keras_model_is_loaded(network: AttentionUNet, small_article: Any, image: Tensor) -> None:
    load_keras_weights(network, small_article.model)
    assert_equal_to_keras(network, small_article, image)


def test_a_keras_file_is_loaded(
    network: AttentionUNet, small_article: Any, keras_file: Path, image: Tensor
) -> None:
    load_keras_weights(network, keras_file)
    assert_equal_to_keras(network, small_article, image)


def test_a_weights_file_is_loaded(
    network: AttentionUNet, small_article: Any, weights_file: Path, image: Tensor
) -> None:
    load_keras_weights(network, str(weights_file))
    assert_equal_to_keras(network, small_article, image)


def test_the_optimizers_state_in_a_file_is_passed_over(
    network: AttentionUNet, build: Callable[..., Any], tmp_path: Path, image: Tensor
) -> None:
    article = build(first_features=4)
    article.randomise(seed=5)
    article.model.compile(optimizer="adam", loss="binary_crossentropy")
    article.model.optimizer.build(article.model.trainable_variables)
    article.model.save(tmp_path / "trained.keras")
    with zipfile.ZipFile(tmp_path / "trained.keras") as archive, archive.open("model.weights.h5") as weights:
        assert "optimizer/vars/5" in h5py.File(weights)
    load_keras_weights(network, tmp_path / "trained.keras")
    assert_equal_to_keras(network, article, image)


@pytest.mark.parametrize("whole_model", [True, False])
def test_a_file_as_before_keras_3_is_loaded(
    network: AttentionUNet, small_article: Any, tmp_path: Path, image: Tensor, whole_model: bool
) -> None:
    # As TF-Keras wrote them: names of layers and of weights as bytes in attributes, the model's in a group
    path = tmp_path / "article.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights") if whole_model else file
        group.attrs["layer_names"] = [layer.name.encode() for layer in small_article.model.layers]
        for layer in small_article.model.layers:
            names = [f"{layer.name}/{part}:0" for part in ("kernel", "bias")] if layer.weights else []
            place = group.create_group(layer.name)
            place.attrs["weight_names"] = [name.encode() for name in names]
            for name, array in zip(names, layer.get_weights(), strict=True):
                place[name] = array
    load_keras_weights(network, path)
    assert_equal_to_keras(network, small_article, image)


def test_a_model_that_was_channels_last_is_loaded(
    network: AttentionUNet, build: Callable[..., Any], image: Tensor
) -> None:
    article = build(first_features=4, data_format="channels_last")
    article.randomise(seed=6)
    load_keras_weights(network, article.model)
    expected = article.model(image.permute(0, 2, 3, 1), training=False).detach().permute(0, 3, 1, 2)
    with torch.no_grad():
        torch.testing.assert_close(torch.sigmoid(network(image)), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("from_file", [True, False])
def test_the_two_convolutions_of_a_gate_may_come_in_either_order(
    network: AttentionUNet, build: Callable[..., Any], tmp_path: Path, image: Tensor, from_file: bool
) -> None:
    article = build(first_features=4, phi_before_theta=True)
    article.randomise(seed=7)
    article.model.save_weights(tmp_path / "article.weights.h5")
    load_keras_weights(network, tmp_path / "article.weights.h5" if from_file else article.model)
    assert_equal_to_keras(network, article, image)


# --- what is not trusted


def test_the_configuration_of_an_archive_is_never_read(
    network: AttentionUNet, small_article: Any, keras_file: Path, tmp_path: Path, image: Tensor
) -> None:
    hostile = tmp_path / "hostile.keras"
    with zipfile.ZipFile(keras_file) as archive, zipfile.ZipFile(hostile, "w", zipfile.ZIP_DEFLATED) as copy:
        copy.writestr("config.json", "this is no JSON, let alone a Lambda layer")
        copy.writestr("model.weights.h5", archive.read("model.weights.h5"))
    load_keras_weights(network, hostile)
    assert_equal_to_keras(network, small_article, image)


def test_weights_kept_in_another_file_are_refused(
    network: AttentionUNet, weights_file: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.ones(4, dtype=np.float32).tobytes())
    with h5py.File(weights_file, "r+") as file:
        del file["layers/conv2d/vars/1"]
        file.create_dataset("layers/conv2d/vars/1", (4,), "f4", external=[(str(secret), 0, 16)])
    with pytest.raises(KerasWeightsError, match="layers/conv2d/vars/1 is kept in another file"):
        load_keras_weights(network, weights_file)


def test_a_link_into_another_file_is_not_followed(
    network: AttentionUNet, weights_file: Path, tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["bias"] = np.ones(4, dtype=np.float32)
    with h5py.File(weights_file, "r+") as file:
        del file["layers/conv2d/vars/1"]
        file["layers/conv2d/vars/1"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "bias")
    with pytest.raises(KerasWeightsError, match=r"layer conv2d \(3×3×3×4\) stands where encoder1.conv1"):
        load_keras_weights(network, weights_file)


# --- errors


def test_a_network_with_an_encoder_is_refused() -> None:
    network = AttentionUNet(encoder=ENCODERS["efficientnet-lite0"](), features=SMALL)
    with pytest.raises(KerasWeightsError, match="has a pretrained encoder"):
        load_keras_weights(network, "article.h5")


def test_the_first_layer_that_does_not_fit_is_named(
    network: AttentionUNet, build: Callable[..., Any]
) -> None:
    plain_unet = build(first_features=4, with_gates=False).model
    with pytest.raises(KerasWeightsError, match=r"stands where gate4.from_skip needs 1×1×32×16 and 16"):
        load_keras_weights(network, plain_unet)


def test_the_name_in_a_file_is_the_one_that_its_error_names(weights_file: Path) -> None:
    with pytest.raises(
        KerasWeightsError,
        match=r"article.weights.h5: layer conv2d_30 \(1×1×4×1 and 1\) stands where head needs 1×1×4×2 and 2",
    ):
        load_keras_weights(AttentionUNet(features=SMALL, classes=2), weights_file)


def test_a_source_that_ends_early_is_refused(network: AttentionUNet, weights_file: Path) -> None:
    with h5py.File(weights_file, "r+") as file:
        del file["layers/conv2d_30"]
    with pytest.raises(KerasWeightsError, match="nothing is left where head needs 1×1×4×1 and 1"):
        load_keras_weights(network, weights_file)


def test_a_layer_too_many_is_refused(network: AttentionUNet, weights_file: Path) -> None:
    with h5py.File(weights_file, "r+") as file:
        file["layers/dense/vars/0"] = np.ones((4, 4), dtype=np.float32)
    with pytest.raises(KerasWeightsError, match=r"layer dense \(4×4\) is left over"):
        load_keras_weights(network, weights_file)


def test_nothing_changes_when_the_last_layer_does_not_fit(network: AttentionUNet, weights_file: Path) -> None:
    with h5py.File(weights_file, "r+") as file:
        del file["layers/conv2d_30"]
    before = {name: values.clone() for name, values in network.state_dict().items()}
    with pytest.raises(KerasWeightsError):
        load_keras_weights(network, weights_file)
    torch.testing.assert_close(dict(network.state_dict()), before, rtol=0, atol=0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(
    network: AttentionUNet, weights_file: Path, value: float
) -> None:
    with h5py.File(weights_file, "r+") as file:
        file["layers/conv2d_7/vars/0"][0, 0, 0, 0] = value
    with pytest.raises(KerasWeightsError, match="layer conv2d_7 holds values that are not finite"):
        load_keras_weights(network, weights_file)


def test_quantised_weights_are_refused(network: AttentionUNet, weights_file: Path) -> None:
    with h5py.File(weights_file, "r+") as file:
        del file["layers/conv2d/vars/1"]
        file["layers/conv2d/vars/1"] = np.ones(4, dtype=np.int8)
    with pytest.raises(KerasWeightsError, match="layer conv2d holds values of type int8"):
        load_keras_weights(network, weights_file)


def test_a_truncated_file_is_refused_in_one_line(
    network: AttentionUNet, weights_file: Path, keras_file: Path
) -> None:
    for path in (weights_file, keras_file):
        path.write_bytes(path.read_bytes()[:5000])
        with pytest.raises(KerasWeightsError, match="is not a Keras weights file, or is damaged") as caught:
            load_keras_weights(network, path)
        assert "\n" not in str(caught.value)


def test_an_archive_without_weights_is_refused(network: AttentionUNet, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "empty.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(KerasWeightsError, match=r"no item named 'model.weights.h5'"):
        load_keras_weights(network, tmp_path / "empty.keras")


def test_a_path_without_a_file_is_refused(network: AttentionUNet, tmp_path: Path) -> None:
    with pytest.raises(KerasWeightsError, match=r"is not a file; give a .keras, .weights.h5 or .h5 file"):
        load_keras_weights(network, tmp_path / "missing.keras")


def test_anything_else_is_refused(network: AttentionUNet) -> None:
    with pytest.raises(KerasWeightsError, match="a dict is neither a Keras model nor the path of a file"):
        load_keras_weights(network, {})


def test_a_missing_h5py_is_named_with_the_way_to_get_it(
    network: AttentionUNet, weights_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match="pip install h5py"):
        load_keras_weights(network, weights_file)


def test_a_member_of_an_archive_that_is_too_large_is_refused_before_it_is_read(
    network: AttentionUNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "zeros.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(2**26))
    assert path.stat().st_size < 2**17

    def read(*_: object) -> bytes:
        raise AssertionError

    monkeypatch.setattr(zipfile.ZipFile, "read", read)
    with pytest.raises(KerasWeightsError, match=r"has more than the [\d,]+ bytes") as caught:
        load_keras_weights(network, path)
    assert len(str(caught.value).splitlines()) == 1
