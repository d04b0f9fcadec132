"""Monte-Carlo dropout samples for the uncertainty estimate of `Predictor`.

Source: Gal and Ghahramani 2016, arXiv:1506.02142.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn

SEED: Final = 0


def dropout_layers(networks: Iterable[nn.Module]) -> list[nn.Dropout]:
    """Collect the dropout layers of networks, without those of probability 0.

    Args:
        networks: Networks to search.
    """
    return [
        module
        for network in networks
        for module in network.modules()
        if isinstance(module, nn.Dropout) and module.p > 0
    ]


@contextmanager
def sampling(layers: Sequence[nn.Dropout], device: torch.device) -> Iterator[None]:
    """Enable dropout with a fixed seed; modes and random generators are restored afterwards.

    Args:
        layers: Dropout layers to enable.
        device: Device of the networks.
    """
    before = [layer.training for layer in layers]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(SEED)
        try:
            for layer in layers:
                layer.train()
            yield
        finally:
            for layer, training in zip(layers, before, strict=True):
                layer.train(training)


class RunningStatistics:
    """Mean and standard deviation of a sequence of tensors, by Welford's algorithm."""

    def __init__(self) -> None:
        self.count = 0
        self._mean: Tensor | None = None
        self._squares: Tensor | None = None

    def add(self, values: Tensor) -> None:
        """Add a tensor.

        Args:
            values: Tensor of the same shape as the previous ones.
        """
        self.count += 1
        if self._mean is None or self._squares is None:
            self._mean, self._squares = values.clone(), torch.zeros_like(values)
            return
        delta = values - self._mean
        self._mean = self._mean + delta / self.count
        self._squares = self._squares + delta * (values - self._mean)

    @property
    def mean(self) -> Tensor:
        """Mean of all tensors; requires at least one."""
        assert self._mean is not None  # noqa: S101
        return self._mean

    @property
    def std(self) -> Tensor:
        """Standard deviation with the divisor n - 1; requires at least two tensors."""
        assert self._squares is not None  # noqa: S101
        return (self._squares / (self.count - 1)).sqrt()
