"""Monte-Carlo dropout: the parts that `Predictor` samples uncertainty with.

Source: Gal and Ghahramani 2016, arXiv:1506.02142.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn

SEED: Final = 0


def dropout_layers(networks: Iterable[nn.Module]) -> list[nn.Dropout]:
    """The dropout layers of some networks that drop anything."""
    return [
        module
        for network in networks
        for module in network.modules()
        if isinstance(module, nn.Dropout) and module.p > 0
    ]


@contextmanager
def sampling(layers: Sequence[nn.Dropout], device: torch.device) -> Iterator[None]:
    """Switch dropout on, with the same random numbers each time; layers and generators are restored afterwards."""
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
    """Mean and standard deviation of tensors that come one after the other, by Welford's algorithm."""

    def __init__(self) -> None:
        self.count = 0
        self._mean: Tensor | None = None
        self._squares: Tensor | None = None

    def add(self, values: Tensor) -> None:
        """Take in one more tensor, of the same shape as those before."""
        self.count += 1
        if self._mean is None or self._squares is None:
            self._mean, self._squares = values.clone(), torch.zeros_like(values)
            return
        delta = values - self._mean
        self._mean = self._mean + delta / self.count
        self._squares = self._squares + delta * (values - self._mean)

    @property
    def mean(self) -> Tensor:
        """The mean of all tensors; there must be at least one."""
        assert self._mean is not None  # noqa: S101
        return self._mean

    @property
    def std(self) -> Tensor:
        """The standard deviation with the divisor n - 1; there must be at least two tensors."""
        assert self._squares is not None  # noqa: S101
        return (self._squares / (self.count - 1)).sqrt()
