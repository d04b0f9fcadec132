"""Averages of weights: a running one that follows the training, and one over epochs at its end."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Weights = Mapping[str, Tensor]
Tensors = tuple[Tensor, ...] | list[Tensor]
WARMUP = 10  # steps until which the average forgets its start quickly


def make_running_average(network: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of weights and buffers; call ``update_parameters`` after each step.

    The decay rises to its value with the number of steps, so that the random start is soon forgotten.

    Args:
        network: That is trained.
        decay: Share of the average that each step keeps.
    """

    @torch.no_grad()
    def follow(averages: Tensors, values: Tensors, count: Tensor | int) -> None:
        kept = min(decay, (1 + int(count)) / (WARMUP + int(count)))
        for average, value in zip(averages, values, strict=True):
            if average.is_floating_point():
                average.lerp_(value, 1 - kept)
            else:  # a counter of a normalization
                average.copy_(value)

    return AveragedModel(network, multi_avg_fn=follow, use_buffers=True)


class EpochAverage:
    """The equal-weight average of the networks at the ends of epochs (stochastic weight averaging).

    Args:
        network: Of the form that is averaged.
    """

    def __init__(self, network: nn.Module) -> None:
        self.model = AveragedModel(network, multi_avg_fn=_mean, use_buffers=True)

    def add(self, network: nn.Module) -> None:
        """Take in the weights of an epoch."""
        self.model.update_parameters(network)

    @property
    def epochs(self) -> int:
        """How many were taken in."""
        return int(self.model.n_averaged)


@torch.no_grad()
def _mean(averages: Tensors, values: Tensors, count: Tensor | int) -> None:
    for average, value in zip(averages, values, strict=True):
        if average.is_floating_point():
            average.lerp_(value, 1 / (int(count) + 1))
        else:
            average.copy_(value)


def average_weights(members: Iterable[Weights]) -> dict[str, Tensor]:
    """The mean of several networks' weights, tensor by tensor, computed in float64; counters are those of the first."""
    kept = list(members)
    return {
        name: torch.stack([weights[name].double() for weights in kept]).mean(0).to(first.dtype)
        if first.is_floating_point()
        else first.clone()
        for name, first in kept[0].items()
    }
