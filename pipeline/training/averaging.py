"""Average weights: a running average over steps, and an average over the last epochs."""

import copy
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn

from pneumoseg.pipeline.training.checkpoint import State

Weights = Mapping[str, Tensor]
Network = TypeVar("Network", bound=nn.Module)
WARMUP = 10
"""Number of steps in which the running average forgets its start quickly."""


class AveragedNetwork(Generic[Network]):
    """Copy of a network whose weights and buffers follow those of the network.

    torch's `AveragedModel` counts on the device and reads its count at each update, which waits for the device.

    Args:
        network: Network that is followed.

    Attributes:
        module: The copy.
        count: Number of updates.
    """

    def __init__(self, network: Network) -> None:
        self.module = copy.deepcopy(network)
        self.count = 0
        self._floats: tuple[list[Tensor], list[Tensor]] = [], []
        self._counters: tuple[list[Tensor], list[Tensor]] = [], []
        for mine, theirs in zip(_tensors(self.module), _tensors(network), strict=True):
            averages, values = self._floats if mine.is_floating_point() else self._counters
            averages.append(mine.detach())
            values.append(theirs.detach())

    @torch.no_grad()
    def follow(self, share: float) -> None:
        """Move the average towards the network.

        Args:
            share: Share of the way, 1 to become equal to it; counters of a normalization are always copied.
        """
        torch._foreach_lerp_(*self._floats, share)
        if self._counters[0]:
            torch._foreach_copy_(*self._counters)
        self.count += 1

    def state_dict(self) -> State:
        """Return the average, for a checkpoint."""
        return {"count": self.count, "module": dict(self.module.state_dict())}

    def load_state_dict(self, state: State) -> None:
        """Resume from a checkpoint.

        Args:
            state: What `state_dict` returned.
        """
        self.count = state["count"]
        self.module.load_state_dict(state["module"])


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


class RunningAverage(AveragedNetwork[Network]):
    """Handler that keeps the exponential moving average (EMA) of weights and buffers.

    The decay rises to its value with the number of steps, so that the random start is soon forgotten.

    Args:
        network: Network that is trained.
        decay: Share of the average that each step keeps.
    """

    def __init__(self, network: Network, decay: float) -> None:
        super().__init__(network)
        self.decay = decay

    def attach(self, engine: Engine) -> None:
        """Update the average after each step of the trainer *engine*."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.update)

    def update(self) -> None:
        """Take in the present weights of the network."""
        kept = min(self.decay, (1 + self.count) / (WARMUP + self.count)) if self.count else 0
        self.follow(1 - kept)


class EpochAverage(AveragedNetwork[Network]):
    """Handler that averages the weights after each of the last epochs (stochastic weight averaging, SWA).

    Args:
        network: Network whose weights are averaged.
        share_epochs: Number of epochs at the end of the run that are averaged.
        last_epoch: Last epoch of the run.
    """

    def __init__(self, network: Network, *, share_epochs: float, last_epoch: int) -> None:
        super().__init__(network)
        self.after_epoch = last_epoch - share_epochs
        self.last_epoch = last_epoch

    def attach(self, engine: Engine) -> None:
        """Average over the last epochs of the trainer *engine*."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._after_epoch)

    def _after_epoch(self, engine: Engine) -> None:
        if engine.state.epoch > self.after_epoch:
            self.add()

    def add(self) -> None:
        """Add the present weights of the network to the average."""
        self.follow(1 / (self.count + 1))

    def state_dict(self) -> State:
        """Return the average, for a checkpoint."""
        return {**super().state_dict(), "last_epoch": self.last_epoch}

    def load_state_dict(self, state: State) -> None:
        """Resume from a checkpoint; if the run has become longer since, the average starts again.

        Args:
            state: What `state_dict` returned.
        """
        if state["last_epoch"] == self.last_epoch:
            super().load_state_dict(state)


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
