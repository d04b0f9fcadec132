"""How the learning rate moves, by name. All but one are a function of the step alone."""

import math
import warnings
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LinearLR, ReduceLROnPlateau

from pneumoseg.pipeline.core.config import OptimizationConfig

LOWEST = 0.01  # share of the learning rate that a cosine ends with, and a warm-up begins with


def rate_share(config: OptimizationConfig, step: int, *, total: int, warmup: int) -> float:
    """The share of the learning rate that is used at a step.

    Args:
        config: Names the schedule.
        step: From 0.
        total: Steps of the whole run.
        warmup: Of these, those in which the rate rises.
    """
    done = min(1.0, (step - warmup) / max(1, total - warmup))  # share of what comes after the warm-up
    if config.schedule == "one-cycle":  # after Smith and Topin: up along a cosine, and down along another one
        up = max(warmup, round(config.cycle_rise * total), 1)
        return _cosine(1 - step / up) if step < up else _cosine((step - up) / max(1, total - up))
    if step < warmup:
        return (step + 1) / warmup
    match config.schedule:
        case "cosine":
            return _cosine(done)
        case "warm-restarts":  # after Loshchilov and Hutter, with cycles of one length
            return _cosine(done * config.cycles % 1 if done < 1 else 1.0)
        case _:
            return 1.0


def _cosine(done: float) -> float:
    """From 1 to `LOWEST` while *done* goes from 0 to 1."""
    return LOWEST + (1 - LOWEST) * (1 + math.cos(math.pi * done)) / 2


class Schedule:
    """Moves the rate of an optimizer.

    Args:
        config: Names the schedule and its warm-up.
        optimizer: Whose rate is moved.
        steps: Of an epoch.
        epochs: Of the whole run.
    """

    def __init__(self, config: OptimizationConfig, optimizer: Optimizer, *, steps: int, epochs: int) -> None:
        warmup = round(config.warmup_epochs * steps)
        self._stepwise: LambdaLR | LinearLR
        self._plateau: ReduceLROnPlateau | None = None
        if config.schedule == "plateau":  # both multiply the rate that they find
            self._stepwise = LinearLR(optimizer, LOWEST if warmup else 1.0, total_iters=warmup)
            self._plateau = ReduceLROnPlateau(
                optimizer, mode="max", factor=config.plateau_factor, patience=config.plateau_patience
            )
        else:
            self._stepwise = LambdaLR(
                optimizer, lambda step: rate_share(config, step, total=steps * epochs, warmup=warmup)
            )

    def after_step(self) -> None:
        """Call after each step of the optimizer."""
        with warnings.catch_warnings():  # torch takes a first step that was left out for a mistake
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            self._stepwise.step()

    def after_epoch(self, dice: float) -> None:
        """Call after each validation."""
        if self._plateau:
            self._plateau.step(dice)

    def state_dict(self) -> dict[str, Any]:
        """All that is remembered."""
        return {
            "stepwise": dict(self._stepwise.state_dict()),
            "plateau": dict(self._plateau.state_dict()) if self._plateau else {},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from there; the rate is computed anew, since the run may have become longer in between."""
        self._stepwise.load_state_dict(state["stepwise"])
        if isinstance(self._stepwise, LambdaLR):
            schedule = self._stepwise
            rates = zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
            for group, (rate, share) in zip(schedule.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * share(schedule.last_epoch)
        if self._plateau:
            self._plateau.load_state_dict(state["plateau"])
