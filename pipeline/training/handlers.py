"""Handlers that accompany the steps of a training run; `fit` lists them in the order in which they are called.

A handler that computes numbers of an epoch adds them to the trainer's ``state.metrics``; later ones read them there.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.engines import Evaluator
from monai.handlers import ValidationHandler
from torch import nn

from pneumoseg.pipeline.core.console import warn
from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.interruption import InterruptedRunError, Interruption
from pneumoseg.pipeline.model.weights import is_finite
from pneumoseg.pipeline.training.checkpoint import State, has_state, save_state
from pneumoseg.pipeline.training.engines import RunEvents
from pneumoseg.pipeline.training.phases import phase_of
from pneumoseg.pipeline.training.step import STOP, TrainingStep
from pneumoseg.pipeline.training.training_run import TrainingRun


class PhaseHandler:
    """Apply the phase of each epoch: gradient accumulation, frozen encoder and validation images.

    All of these are functions of the epoch alone, so that a resumed run has the same ones.

    Args:
        run: Run whose step and validator are set.
    """

    def __init__(self, run: TrainingRun) -> None:
        self.run = run

    def attach(self, engine: Engine) -> None:
        """Enter the phase at the start of each epoch of the trainer *engine*."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.enter)
        # a run that was interrupted in a validation is resumed at the end of an epoch
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.enter)

    def enter(self, engine: Engine) -> None:
        """Apply the phase of the current epoch; adds ``epoch`` and ``image_size`` to the metrics."""
        epoch = engine.state.epoch
        run = self.run
        is_frozen = epoch <= run.config.optimization.freeze_epochs
        index = phase_of(run.phases, epoch)
        run.step.accumulate = run.phases[index].accumulate
        run.step.frozen = run.encoder_parameters if is_frozen else ()
        run.validator.data_loader = run.validation_loaders[index]
        engine.state.metrics.update(epoch=epoch, image_size=run.phases[index].image_size)


class EpochMeter:
    """Measure the training loss and the speed of an epoch while it runs.

    Args:
        batch_size: Images of a step, in all processes together.

    Attributes:
        epoch: Number of the epoch, from 1.
        steps: Steps of the epoch that were not skipped.
        total: Sum of their losses.
        seconds: Time since the start of the epoch.
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.epoch = 1
        self._reset()

    def _reset(self) -> None:
        self.steps = 0
        self.total = 0.0
        self.started = time.monotonic()
        self.seconds = 0.0

    def attach(self, engine: Engine) -> None:
        """Measure each epoch of the trainer *engine*."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._measure_time)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._report)

    def _start(self, engine: Engine) -> None:
        self.epoch = engine.state.epoch
        if not engine.state.epoch_length or engine.state.iteration % engine.state.epoch_length == 0:
            self._reset()  # else a run is resumed within the epoch

    def add(self, loss: float) -> None:
        """Add a step; called by the training step, at most one step later.

        Args:
            loss: Loss of the step.
        """
        self.steps += 1
        self.total += loss
        self._measure_time()  # the last loss of an epoch comes after its last step

    def _measure_time(self) -> None:
        self.seconds = time.monotonic() - self.started

    def _report(self, engine: Engine) -> None:
        engine.state.metrics.update(loss=self.loss, images_per_s=self.images_per_s, seconds=self.seconds)

    @property
    def loss(self) -> float:
        """Mean loss so far."""
        return self.total / max(self.steps, 1)

    @property
    def images_per_s(self) -> float:
        """Images trained on per second, loading included and validation not."""
        return self.steps * self.batch_size / max(self.seconds, 1e-9)

    def state_dict(self) -> State:
        """Return the sums for a checkpoint."""
        return {"steps": self.steps, "total": self.total, "seconds": self.seconds}

    def load_state_dict(self, state: State) -> None:
        """Resume the epoch of a checkpoint.

        Args:
            state: What `state_dict` returned.
        """
        self.steps, self.total, self.seconds = state["steps"], state["total"], state["seconds"]
        self.started = time.monotonic() - self.seconds


class ValidationScores(ValidationHandler):
    """Validate after each epoch, as MONAI's handler does, and add the scores to the trainer's metrics.

    Args:
        validator: Evaluator with the metrics ``challenge`` and ``validation_loss``.
    """

    def __init__(self, validator: Evaluator) -> None:
        super().__init__(interval=1, validator=validator)

    def __call__(self, engine: Engine) -> None:
        """Validate; called after each epoch of the trainer *engine*."""
        super().__call__(engine)
        scores = self.validator.state.metrics  # type: ignore[union-attr]
        engine.state.metrics.update(scores["challenge"])
        engine.state.metrics["validation_loss"] = scores["validation_loss"]


class CheckpointHandler:
    """Save the state of a run after each epoch and every few minutes; only the main process does so.

    MONAI's and Ignite's savers delete the old file before the new one is whole: see `save_state`. A full disk is a
    warning where there is a checkpoint to resume from, since that stays; without one, it ends the run.

    Args:
        folder: Folder of the checkpoints.
        parts: All objects with a state, by name; each has ``state_dict`` and ``load_state_dict``.
        network: Network that is trained; nothing is saved while it holds non-finite values.
        step: Training step, whose numbers of the last step are read before anything is saved.
        header: Plain values that are saved too.
        save_minutes: Time between two checkpoints within an epoch.

    Attributes:
        iteration: Steps that are done. The engine's own number also counts one that has failed.
        saved_iteration: Steps that were done when the last checkpoint was written; None before the first one.
    """

    def __init__(
        self,
        folder: Path,
        parts: Mapping[str, Any],
        *,
        network: nn.Module,
        step: TrainingStep,
        header: State,
        save_minutes: float,
    ) -> None:
        self.folder = folder
        self.parts = parts
        self.network = network
        self.step = step
        self.header = header
        self.save_minutes = save_minutes
        self.iteration = 0
        self.saved_iteration: int | None = None
        self.saved_at = time.monotonic()

    def attach(self, engine: Engine) -> None:
        """Save the run of the trainer *engine*; attach after all handlers whose state is saved."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._after_step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def _after_step(self, engine: Engine) -> None:
        self.iteration += 1
        if time.monotonic() - self.saved_at > 60 * self.save_minutes:
            self.save(engine)

    def save(self, engine: Engine) -> None:
        """Save now, and fire `RunEvents.SAVED` on the trainer *engine*.

        Raises: JobError: If the state cannot be written, and there is no checkpoint to resume from.
        """
        self.saved_at = time.monotonic()
        self.step.read()
        if idist.get_rank() or not is_finite(self.network.state_dict()):
            return
        try:
            save_state(self.folder, self.state_dict())
        except OSError as error:
            if self.saved_iteration is None or not has_state(self.folder):
                self.saved_iteration = None
                raise JobError(
                    f"{self.folder}: step {self.iteration} could not be saved ({error.strerror or error}), and there "
                    "is no checkpoint before it; free some space, or give another folder"
                ) from None
            warn(
                f"step {self.iteration} could not be saved ({error.strerror or error}); the checkpoint of step "
                f"{self.saved_iteration} is kept"
            )
            return
        self.saved_iteration = self.iteration
        engine.fire_event(RunEvents.SAVED)

    def save_at_the_end(self, engine: Engine, last_step: int) -> str:
        """Save a run that has been stopped.

        Args:
            engine: Trainer.
            last_step: Number of the steps of the whole run.

        Returns: What there is on disk to resume from, for a message.
        """
        if idist.get_rank():
            return "--resume continues from the last checkpoint of the main process"
        with suppress(JobError):  # the message says it
            self.save(engine)
        if self.saved_iteration is None:
            return "nothing could be saved: start the run anew"
        return f"saved after step {self.saved_iteration} of {last_step}, --resume continues from there"

    def state_dict(self) -> State:
        """Return the state of the run."""
        states = {name: dict(part.state_dict()) for name, part in self.parts.items()}
        return {**self.header, "iteration": self.iteration, **states}

    def load_state_dict(self, state: State) -> None:
        """Load the states of all parts.

        Args:
            state: What `state_dict` returned.
        """
        self.iteration = self.saved_iteration = state["iteration"]
        for name, part in self.parts.items():
            if state[name]:  # the scaler of a run that was not in fp16 has no state
                part.load_state_dict(state[name])


class StopOnSignal:
    """End a run after the step in which a signal came; several processes end after the same one.

    Args:
        interruption: Signals that this process has received.
    """

    def __init__(self, interruption: Interruption) -> None:
        self.interruption = interruption

    def attach(self, engine: Engine) -> None:
        """Look at the output of each step of the trainer *engine*; attach after the checkpoint has counted it."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._after_step)

    def _after_step(self, engine: Engine) -> None:
        signal = engine.state.output[STOP]  # type: ignore[index]
        if signal:
            raise InterruptedRunError("", signal)

    def stop_validation(self) -> None:
        """Handler of the validator's steps. Several processes finish the validation, which is short."""
        if self.interruption.received and idist.get_world_size() == 1:
            raise InterruptedRunError("", self.interruption.received)
