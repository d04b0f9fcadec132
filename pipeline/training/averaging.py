"""Average weights: a running average over steps, and an average over the last epochs."""

from collections.abc import Iterable, Mapping

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from pneumoseg.pipeline.training.checkpoint import State

Weights = Mapping[str, Tensor]
Tensors = tuple[Tensor, ...] | list[Tensor]
WARMUP = 10
"""Number of steps in which the running average forgets its start quickly."""


def make_running_average(network: nn.Module, decay: float) -> AveragedModel:
    """Make an exponential moving average (EMA) of weights and buffers.

    The decay rises to its value with the number of steps, so that the random start is soon forgotten.

    Args:
        network: Network that is trained.
        decay: Share of the average that each step keeps.

    Returns: The average; call its ``update_parameters`` after each step.
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
    """Handler that averages the weights after each of the last epochs (stochastic weight averaging, SWA).

    Args:
        network: Network whose weights are averaged.
        share_epochs: Number of epochs at the end of the run that are averaged.
        last_epoch: Last epoch of the run.
    """

    def __init__(self, network: nn.Module, *, share_epochs: float, last_epoch: int) -> None:
        self.network = network
        self.after_epoch = last_epoch - share_epochs
        self.last_epoch = last_epoch
        self.model = AveragedModel(network, multi_avg_fn=_mean, use_buffers=True)

    def attach(self, engine: Engine) -> None:
        """Average over the last epochs of the trainer *engine*."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._after_epoch)

    def _after_epoch(self, engine: Engine) -> None:
        if engine.state.epoch > self.after_epoch:
            self.add()

    def add(self) -> None:
        """Add the present weights of the network to the average."""
        self.model.update_parameters(self.network)

    @property
    def epochs(self) -> int:
        """Number of epochs in the average."""
        return int(self.model.n_averaged)

    def state_dict(self) -> State:
        """Return the average, for a checkpoint."""
        return {"last_epoch": self.last_epoch, "model": dict(self.model.state_dict())}

    def load_state_dict(self, state: State) -> None:
        """Resume from a checkpoint; if the run has become longer since, the average starts again.

        Args:
            state: What `state_dict` returned.
        """
        if state["last_epoch"] == self.last_epoch:
            self.model.load_state_dict(state["model"])


@torch.no_grad()
def _mean(averages: Tensors, values: Tensors, count: Tensor | int) -> None:
    for average, value in zip(averages, values, strict=True):
        if average.is_floating_point():
            average.lerp_(value, 1 / (int(count) + 1))
        else:
            average.copy_(value)


def average_weights(members: Iterable[Weights]) -> dict[str, Tensor]:
    """Average the weights of several networks, tensor by tensor and in float64.

    Args:
        members: State dicts of networks of the same form.

    Returns: A state dict with the types of the first one; its integer tensors, which are counters, are copied.
    """
    kept = list(members)
    return {
        name: torch.stack([weights[name].double() for weights in kept]).mean(0).to(first.dtype)
        if first.is_floating_point()
        else first.clone()
        for name, first in kept[0].items()
    }
