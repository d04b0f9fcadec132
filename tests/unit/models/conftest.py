"""The article's network in Keras: the oracle that ours is compared with.

Written from the article's own description, layer by layer and in its order, without a look at our modules.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor


@dataclass
class ArticleNetwork:
    """Two Keras models of the same layers."""

    model: Any  # as published: image to probabilities
    inside: Any  # image to logits and the coefficients of the gates, deepest first

    def look_inside(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        logits, *maps = (output.detach() for output in self.inside(image, training=False))
        return logits, maps

    def randomise(self, seed: int) -> None:
        """Set all kernels and all biases to random numbers that keep every gate busy."""
        random = np.random.default_rng(seed)
        for layer in self.model.layers:
            shapes = [tuple(weight.shape) for weight in layer.weights]
            if shapes:
                kernel, bias = shapes
                scale = np.sqrt(2 / np.prod(kernel[:3]))
                layer.set_weights([random.normal(0, scale, kernel), random.normal(0, 0.1, bias)])


Build = Callable[..., ArticleNetwork]


@pytest.fixture(scope="session")
def keras(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """Keras on its torch backend; settings in the home of whoever runs the tests have no say."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "torch")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        import keras  # noqa: PLC0415

        assert keras.backend.backend() == "torch"
        yield keras


@pytest.fixture(scope="session")
def build(keras: ModuleType) -> Build:
    """Return a function that builds the article's network."""
    layers = keras.layers

    def build(
        *,
        first_features: int = 32,
        data_format: str = "channels_first",
        phi_before_theta: bool = False,
        with_gates: bool = True,
    ) -> ArticleNetwork:
        axis = 1 if data_format == "channels_first" else -1

        def convolution(x: Any, features: int, size: int, activation: str | None = None) -> Any:
            return layers.Conv2D(
                features, size, padding="same", activation=activation, data_format=data_format
            )(x)

        def level(x: Any, features: int) -> Any:
            x = convolution(x, features, 3, "relu")
            x = layers.Dropout(0.2)(x)
            return convolution(x, features, 3, "relu")

        def gate(skip: Any, up: Any) -> tuple[Any, Any]:
            channels = up.shape[axis] // 4
            if phi_before_theta:
                phi = convolution(up, channels, 1)
                theta = convolution(skip, channels, 1)
                total = layers.add([phi, theta])
            else:
                theta = convolution(skip, channels, 1)
                phi = convolution(up, channels, 1)
                total = layers.add([theta, phi])
            rate = layers.Activation("sigmoid")(convolution(layers.Activation("relu")(total), 1, 1))
            return layers.multiply([skip, rate]), rate

        shape = (3, None, None) if axis == 1 else (None, None, 3)
        image = x = layers.Input(shape)
        features, skips, rates = first_features, [], []
        for _ in range(4):
            x = level(x, features)
            skips.append(x)
            x = layers.MaxPooling2D(2, data_format=data_format)(x)
            features *= 2
        x = level(x, features)
        for skip in reversed(skips):
            features //= 2
            up = layers.UpSampling2D(2, data_format=data_format)(x)
            if with_gates:
                skip, rate = gate(skip, up)  # noqa: PLW2901
                rates.append(rate)
            x = level(layers.Concatenate(axis=axis)([up, skip]), features)
        logits = convolution(x, 1, 1)
        probabilities = layers.Activation("sigmoid")(logits)
        return ArticleNetwork(keras.Model(image, probabilities), keras.Model(image, [logits, *rates]))

    return build


@pytest.fixture(scope="session")
def article(build: Build) -> ArticleNetwork:
    """The article's network at full size, with random kernels and biases."""
    network = build()
    network.randomise(seed=1)
    return network


@pytest.fixture(scope="session")
def small_article(build: Build) -> ArticleNetwork:
    """The same at an eighth of the width: features 4, 8, 16, 32, 64."""
    network = build(first_features=4)
    network.randomise(seed=2)
    return network


@pytest.fixture
def image() -> Tensor:
    return torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(3))
