"""A training run from its first step, or from where it stopped, to its last; saved so that nothing is lost."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from ignite.engine import Events
from monai.handlers import ValidationHandler
from monai.utils import CommonKeys as Keys
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pneumoseg.pipeline.core.console import warn
from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.interruption import InterruptedRunError
from pneumoseg.pipeline.training.best_epochs import BestEpochs, Rank
from pneumoseg.pipeline.training.checkpoint import State, save_state
from pneumoseg.pipeline.training.display import TrainingDisplay
from pneumoseg.pipeline.training.engines import On, make_trainer
from pneumoseg.pipeline.training.history import History
from pneumoseg.pipeline.training.phases import phase_of
from pneumoseg.pipeline.training.step import STOP, TrainingForward
from pneumoseg.pipeline.training.tracking import Row
from pneumoseg.pipeline.training.training_run import TrainingRun

if TYPE_CHECKING:
    from monai.engines import SupervisedTrainer


def fit(
    run: TrainingRun, history: History, checkpoints: Path, *, origin: State, state: State | None = None
) -> BestEpochs:
    """Run all epochs; after each, validate, save, and bring the history up to date.

    Args:
        run: What to train.
        history: Gets a row for each epoch.
        checkpoints: Folder of the states and of the weights of the best epochs.
        origin: What the run is of; goes into each checkpoint.
        state: To go on from, as a checkpoint holds it.

    Returns: The best epochs at the final resolution.

    Raises:
        InterruptedRunError: If a signal came; the run was saved.
        JobError: If the run cannot go on; what was reached was saved.
    """
    fitting = _Fitting(run, history, checkpoints, origin)
    with run.interruption:
        fitting.run(state)
    fitting.leave()
    return fitting.best


class _Fitting:
    """What a run needs only while it runs."""

    def __init__(self, run: TrainingRun, history: History, checkpoints: Path, origin: State) -> None:
        self.training = run
        self.history = history
        self.checkpoints = checkpoints
        self.origin = origin
        optimization = run.config.optimization
        several = optimization.average in {"top", "ensemble"}
        self.best = BestEpochs(checkpoints, optimization.average_top if several else 1)
        self.named_before: set[str] = set()  # weights that the state before the newest one names
        self.done = 0  # steps
        self.stopped_early = False
        self.patient_from = 0  # rows of the history that patience does not count
        self.epoch = _Epoch(run.config.data.batch_size)
        self.saved_at = time.monotonic()
        self.display: TrainingDisplay
        self.trainer: SupervisedTrainer

    def run(self, state: State | None) -> None:
        run = self.training
        steps = run.plan.steps
        if state:
            self._load(state)
        self._assemble(self.done)
        if state:
            self.trainer.load_state_dict(
                {"iteration": self.done, "epoch_length": steps, "max_epochs": run.epochs}
            )
        try:
            if not state:
                self._save()  # from here on there is something to go on from
            with self.display:
                if self.done and len(self.history.rows) < self.done // steps:  # stopped in a validation
                    self._enter_phase(self.done // steps)
                    run.validator.run(self.done // steps)
                    self._after_epoch()
                if self.done < run.epochs * steps and not self.stopped_early:
                    self.trainer.run()
        except InterruptedRunError as error:
            self._save()
            raise InterruptedRunError(
                f"interrupted; saved after step {self.done} of {run.epochs * steps}, --resume goes on from there",
                error.exit_code - 128,
            ) from None
        except Exception as error:
            self._save()
            raise _explain(error, run) from error

    def _assemble(self, first_step: int) -> None:
        run = self.training
        self.display = TrainingDisplay(epochs=run.epochs, steps=run.plan.steps, first_step=first_step)
        forward: nn.Module = TrainingForward(run.network)
        if run.processes > 1:
            device = run.precision.device
            forward = DistributedDataParallel(forward, device_ids=[device] if device.type == "cuda" else None)
        self.trainer = make_trainer(
            forward,
            run.make_batches(first_step),
            loss_function=run.loss_function,
            optimizer=run.optimizer,
            device=run.precision.device,
            step=run.step,
            epochs=run.epochs,
            steps=run.plan.steps,
            handlers=[
                On(Events.EPOCH_STARTED, self._before_epoch),
                On(Events.ITERATION_COMPLETED, self._after_step),
                ValidationHandler(interval=1, validator=run.validator),
                On(Events.EPOCH_COMPLETED, self._after_epoch),
            ],
        )
        run.validator.add_event_handler(Events.ITERATION_COMPLETED, self._heed_signal)

    def leave(self) -> None:
        """Let later validations be none of this run's epochs."""
        self.training.validator.remove_event_handler(self._heed_signal, Events.ITERATION_COMPLETED)

    def _before_epoch(self) -> None:
        if self.done % self.training.plan.steps == 0:  # else the run goes on within the epoch
            self.epoch.start()
        self._enter_phase(self.trainer.state.epoch)

    def _enter_phase(self, epoch: int) -> None:
        run = self.training
        number = phase_of(run.phases, epoch)
        run.step.accumulate = run.phases[number].accumulate
        # a function of the epoch alone, so that a resumed run freezes the same steps
        run.step.frozen = run.encoder_parameters if epoch <= run.config.optimization.freeze_epochs else ()
        run.validator.data_loader = run.validation_loaders[number]

    def _after_step(self) -> None:
        run = self.training
        run.schedule.after_step()
        if run.running_average is not None:
            run.running_average.update_parameters(run.network)
        self.done += 1
        output = self.trainer.state.output
        self.epoch.add(output[Keys.LOSS])
        self.display.step(
            epoch=self.trainer.state.epoch, loss=self.epoch.loss, images_per_s=self.epoch.images_per_s
        )
        if output[STOP]:
            raise InterruptedRunError("", output[STOP])
        if time.monotonic() - self.saved_at > 60 * run.config.save_minutes:
            self._save()

    def _heed_signal(self) -> None:
        # several processes stop after the same step, and a validation is short
        if self.training.interruption.received and self.training.processes == 1:
            raise InterruptedRunError("", self.training.interruption.received)

    def _after_epoch(self) -> None:
        run = self.training
        number = self.done // run.plan.steps
        scores = run.validator.state.metrics["challenge"]
        row = {
            "epoch": number,
            "image_size": run.phases[phase_of(run.phases, number)].image_size,
            "learning_rate": run.optimizer.param_groups[0]["lr"],
            **self.epoch.numbers(),
            **scores,
            "validation_loss": run.validator.state.metrics["validation_loss"],
        }
        run.schedule.after_epoch(scores["dice"])
        self.history.add(row)
        self.display.epoch(row)
        if number >= run.phases[-1].first_epoch:
            self._keep(Rank.of(scores), number)
            self._stop_when_stale()
        self._save()

    def _stop_when_stale(self) -> None:
        """End the run if no epoch has been better than the best one for as long as the patience allows.

        A network trained from scratch ties with predicting nothing for a long while: patience begins after that.
        """
        run = self.training
        rows = self.history.rows
        above = next(
            (index for index, row in enumerate(rows) if row["dice"] > row["predict_nothing"]), len(rows)
        )
        ranks = [
            Rank.of(row) for row in rows[max(above, run.phases[-1].first_epoch - 1, self.patient_from) :]
        ]
        patience = run.config.optimization.patience
        if patience and ranks and len(ranks) - 1 - ranks.index(max(ranks)) >= patience:
            self.stopped_early = True
            self.trainer.terminate()

    def _keep(self, rank: Rank, epoch: int) -> None:
        run = self.training
        share = run.config.optimization.average_share
        if run.epoch_average and epoch > run.epochs - share * run.config.optimization.epochs:
            run.epoch_average.add(run.evaluated)
        if run.rank:
            return
        try:
            if self.best.offer(rank, epoch, run.evaluated.state_dict()):
                self.history.show_best(run.evaluated)
        except OSError as error:
            warn(f"the weights of epoch {epoch} could not be saved ({error.strerror}); those before are kept")

    def _save(self) -> None:
        """Save what was reached, unless it is no numbers; a full disk leaves the states that are there."""
        run = self.training
        self.saved_at = time.monotonic()
        if run.rank or not all(bool(value.isfinite().all()) for value in run.network.state_dict().values()):
            return
        state: State = {
            "origin": self.origin,
            "iteration": self.done,
            **{name: dict(part.state_dict()) for name, part in run.parts().items()},
            "stopped_early": self.stopped_early,
            "patient_from": self.patient_from,
            "best": self.best.state(),
            "epoch": self.epoch.state(),
            "epochs": run.epochs,
            "skipped": run.step.skipped,
            "scaler_skipped": run.step.scaler_skipped,
            "history": self.history.rows,
        }
        try:
            save_state(self.checkpoints, state)
        except OSError as error:
            warn(f"step {self.done} could not be saved ({error.strerror}); the checkpoint before it is kept")
            return
        names = {entry.file for entry in self.best.entries}
        self.best.delete_others(self.named_before)
        self.named_before = names

    def _load(self, state: State) -> None:
        # a run that is resumed for more epochs: patience and an average of the last epochs start again
        is_longer = state["epochs"] < self.training.epochs
        for name, part in self.training.parts().items():
            # the scaler of a run that was not in fp16 has no state
            if state[name] and not (name == "epoch_average" and is_longer):
                part.load_state_dict(state[name])
        self.done = state["iteration"]
        self.stopped_early = state["stopped_early"] and not is_longer
        self.patient_from = len(state["history"]) if is_longer else state["patient_from"]
        self.best.restore(state["best"])
        self.epoch.restore(state["epoch"])
        self.training.step.skipped = state["skipped"]
        self.training.step.scaler_skipped = state["scaler_skipped"]
        self.named_before = {entry.file for entry in self.best.entries}


class _Epoch:
    """The training loss and the time of an epoch while it runs."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.start()

    def start(self) -> None:
        """Begin anew."""
        self.steps = 0
        self.total = 0.0
        self.started = time.monotonic()
        self.seconds = 0.0

    def add(self, loss: float) -> None:
        """Take in the loss of a step; one that is no number was skipped."""
        if math.isfinite(loss):
            self.steps += 1
            self.total += loss
        self.seconds = time.monotonic() - self.started

    @property
    def loss(self) -> float:
        """Mean so far."""
        return self.total / max(self.steps, 1)

    @property
    def images_per_s(self) -> float:
        """Images trained on in a second, loading included and validation not."""
        return self.steps * self.batch_size / max(self.seconds, 1e-9)

    def numbers(self) -> Row:
        """For the row of the epoch."""
        return {"loss": self.loss, "images_per_s": self.images_per_s, "seconds": self.seconds}

    def state(self) -> list[float]:
        """For a checkpoint."""
        return [float(self.steps), self.total, self.seconds]

    def restore(self, state: Sequence[float]) -> None:
        """Go on from there."""
        self.steps, self.total, self.seconds = int(state[0]), state[1], state[2]
        self.started = time.monotonic() - self.seconds


def _explain(error: Exception, run: TrainingRun) -> Exception:
    """What happened, in one line, where it can be told."""
    if isinstance(error, JobError):
        return error
    if isinstance(error, torch.OutOfMemoryError):
        data = run.config.data
        return JobError(
            f"{run.precision.device} has too little memory for {data.batch_size} images of {data.image_size} pixels at "
            "once; the run is saved; a higher data.accumulate, a smaller data.batch_size or data.image_size would fit"
        )
    # what is noticed first is that the process is gone, or that nobody answers for what it has sent
    if "DataLoader worker" in str(error) or (run.workers and isinstance(error, ConnectionError | EOFError)):
        what = (str(error) or type(error).__name__).splitlines()[0]
        return JobError(
            f"a loader process ended ({what}); the run is saved and --resume goes on; too little memory is the usual "
            "reason: fewer --workers would fit"
        )
    return error
