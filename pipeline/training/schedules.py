"""Schedules of the learning rate. All but the plateau are functions of the step alone."""

import math
import warnings
from typing import Any

from ignite.engine import Engine, Events
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LinearLR, ReduceLROnPlateau

from pneumoseg.pipeline.core.config import OptimizationConfig

LOWEST = 0.01
"""Share of the learning rate with which a cosine ends and a warm-up begins."""


def rate_share(config: OptimizationConfig, step: int, *, total: int, warmup: int) -> float:
    """Compute the learning rate of a step, as a share of the configured one.

    Args:
        config: Schedule and its settings.
        step: Number of the step, from 0.
        total: Steps of the whole run.
        warmup: Steps at the start in which the rate rises.

    Returns: A number above 0 and at most 1.

    Source: one cycle after Smith and Topin 2017, arXiv:1708.07120; warm restarts after Loshchilov and Hutter 2017,
        arXiv:1608.03983, with cycles of equal length.
    """
    done = min(1.0, (step - warmup) / max(1, total - warmup))  # share of the steps after the warm-up
    if config.schedule == "one-cycle":  # up along a cosine, and down along another one
        up = max(warmup, round(config.cycle_rise * total), 1)
        return _cosine(1 - step / up) if step < up else _cosine((step - up) / max(1, total - up))
    if step < warmup:
        return (step + 1) / warmup
    match config.schedule:
        case "cosine":
            return _cosine(done)
        case "warm-restarts":
            return _cosine(done * config.cycles % 1 if done < 1 else 1.0)
        case _:
            return 1.0


def _cosine(done: float) -> float:
    """Fall from 1 to `LOWEST` while *done* rises from 0 to 1."""
    return LOWEST + (1 - LOWEST) * (1 + math.cos(math.pi * done)) / 2


class Schedule:
    """Handler that sets the learning rate of an optimizer.

    Args:
        config: Schedule, warm-up and their settings.
        optimizer: Optimizer whose learning rate is set.
        steps: Steps of an epoch.
        epochs: Epochs of the whole run.
    """

    def __init__(self, config: OptimizationConfig, optimizer: Optimizer, *, steps: int, epochs: int) -> None:
        self.optimizer = optimizer
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

    def attach(self, engine: Engine) -> None:
        """Follow the trainer *engine*; a plateau needs ``dice`` and ``predict_nothing`` in its metrics."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.after_step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._report)

    def _report(self, engine: Engine) -> None:
        engine.state.metrics["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        if self._plateau:
            self.after_epoch(engine.state.metrics["dice"], engine.state.metrics["predict_nothing"])

    def after_step(self) -> None:
        """Set the rate of the next step."""
        with warnings.catch_warnings():  # torch takes a skipped first step for a mistake
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            self._stepwise.step()

    def after_epoch(self, dice: float, predict_nothing: float) -> None:
        """Lower the rate of a plateau, if it is time.

        A network ties with predicting nothing for a long while before it learns; this is no plateau.

        Args:
            dice: Score of the validation.
            predict_nothing: Score of predicting nothing.
        """
        if self._plateau and max(dice, self._plateau.best) > predict_nothing:
            self._plateau.step(dice)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the schedule, for a checkpoint."""
        return {
            "stepwise": dict(self._stepwise.state_dict()),
            "plateau": dict(self._plateau.state_dict()) if self._plateau else {},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint; the rate is computed anew, since the run may have become longer since.

        Args:
            state: What `state_dict` returned.
        """
        self._stepwise.load_state_dict(state["stepwise"])
        if isinstance(self._stepwise, LambdaLR):
            schedule = self._stepwise
            rates = zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
            for group, (rate, share) in zip(schedule.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * share(schedule.last_epoch)
        if self._plateau:
            self._plateau.load_state_dict(state["plateau"])
