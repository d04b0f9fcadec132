"""Handler that ends a training run when it has stopped improving."""

from ignite.engine import Engine, Events

from pneumoseg.pipeline.training.best_epochs import Rank
from pneumoseg.pipeline.training.checkpoint import State


class EarlyStopping:
    """End a run when no epoch has ranked higher than the best one for as long as the patience allows.

    Ignite's handler compares one number; here, ranks decide. A network trained from scratch ties with predicting
    nothing for a long while: patience begins after that. It starts again in a run that is resumed for more epochs.

    Args:
        patience: Number of epochs to wait for a higher rank.
        first_epoch: First epoch that counts, that of the final resolution.
        last_epoch: Last epoch of the run.

    Attributes:
        stopped: Whether the run has been ended.
    """

    def __init__(self, patience: int, *, first_epoch: int, last_epoch: int) -> None:
        self.patience = patience
        self.first_epoch = first_epoch
        self.last_epoch = last_epoch
        self.is_above_nothing = False
        self.best: Rank | None = None
        self.stale_epochs = 0
        self.stopped = False

    def attach(self, engine: Engine) -> None:
        """Look at the scores of each epoch of the trainer *engine*."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._look)

    def _look(self, engine: Engine) -> None:
        scores = engine.state.metrics
        self.is_above_nothing = self.is_above_nothing or scores["dice"] > scores["predict_nothing"]
        if not self.is_above_nothing or engine.state.epoch < self.first_epoch:
            return
        rank = Rank.of(scores)
        if self.best is None or rank > self.best:
            self.best, self.stale_epochs = rank, 0
        else:
            self.stale_epochs += 1
        if self.stale_epochs >= self.patience:
            self.stopped = True
            engine.terminate()

    def state_dict(self) -> State:
        """Return the best rank, and for how long it has been the best, for a checkpoint."""
        return {
            "last_epoch": self.last_epoch,
            "is_above_nothing": self.is_above_nothing,
            "best": None if self.best is None else list(self.best),
            "stale_epochs": self.stale_epochs,
            "stopped": self.stopped,
        }

    def load_state_dict(self, state: State) -> None:
        """Resume from a checkpoint; if the run has become longer since, patience starts again.

        Args:
            state: What `state_dict` returned.
        """
        self.is_above_nothing = state["is_above_nothing"]
        if state["last_epoch"] == self.last_epoch:
            self.best = None if state["best"] is None else Rank(*state["best"])
            self.stale_epochs, self.stopped = state["stale_epochs"], state["stopped"]
