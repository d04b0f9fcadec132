"""Run a training from its first step, or from a checkpoint, to its last."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Events
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pneumoseg.models import TrainingForward
from pneumoseg.pipeline.core.errors import JobError, first_line, is_out_of_memory
from pneumoseg.pipeline.core.interruption import InterruptedRunError
from pneumoseg.pipeline.training.best_epochs import BestEpochs
from pneumoseg.pipeline.training.checkpoint import State
from pneumoseg.pipeline.training.display import TrainingDisplay
from pneumoseg.pipeline.training.early_stopping import EarlyStopping
from pneumoseg.pipeline.training.engines import make_trainer
from pneumoseg.pipeline.training.handlers import (
    CheckpointHandler,
    EpochMeter,
    PhaseHandler,
    StopOnSignal,
    ValidationScores,
)
from pneumoseg.pipeline.training.history import History
from pneumoseg.pipeline.training.training_run import TrainingRun


def fit(
    run: TrainingRun,
    history: History,
    checkpoints: Path,
    *,
    origin: State,
    state: State | None = None,
    reports: Sequence[Any] = (),
) -> BestEpochs:
    """Train for all epochs; save after each of them, and validate where images are held out.

    Args:
        run: Parts of the training.
        history: History to which each epoch adds a row.
        checkpoints: Folder of the states and of the weights of the best epochs.
        origin: Plain values that say what the run was started with; part of each checkpoint.
        state: State of a checkpoint to resume from; None starts the run.
        reports: Further handlers, which report the row of each epoch; called after the checkpoint.

    Returns: The best epochs at the final resolution; only the main process has them.

    Raises:
        InterruptedRunError: If a signal came; the run was saved.
        JobError: If the run cannot continue; what was reached was saved, if the disk took it.
    """
    config, steps, final = run.config, run.plan.steps, run.phases[-1]
    count = config.optimization.average_top if config.optimization.average in {"top", "ensemble"} else 1
    by_scores = config.optimization.keep == "best"
    best = BestEpochs(checkpoints, count, run.evaluated, first_epoch=final.first_epoch, by_scores=by_scores)
    patience = config.optimization.patience if by_scores else None
    early_stopping = (
        None
        if patience is None
        else EarlyStopping(patience, first_epoch=final.first_epoch, last_epoch=run.epochs)
    )
    meter = EpochMeter(config.data.batch_size)
    run.step.on_loss = meter.add
    with_state = {
        "network": run.network,
        "optimizer": run.optimizer,
        "schedule": run.schedule,
        "scaler": run.scaler,
        "step": run.step,
        "running_average": run.running_average,
        "epoch_average": run.epoch_average,
        "meter": meter,
        "history": history,
        "best": best,
        "early_stopping": early_stopping,
    }
    checkpoint = CheckpointHandler(
        checkpoints,
        {name: part for name, part in with_state.items() if part is not None},
        network=run.network,
        step=run.step,
        header={"origin": origin},
        save_minutes=config.save_minutes,
    )
    if state:
        checkpoint.load_state_dict(state)
        is_between_epochs = bool(history.rows) and checkpoint.iteration == len(history.rows) * steps
        if not (best.entries or run.rank) and is_between_epochs:
            # all files of best epochs are damaged: the last epoch, which the state holds, is the next best
            best.keep(history.rows[-1], len(history.rows))
    display = TrainingDisplay(meter, epochs=run.epochs, steps=steps, first_step=checkpoint.iteration)
    stop_on_signal = StopOnSignal(run.interruption)

    handlers = [
        PhaseHandler(run),
        run.running_average,
        meter,
        ValidationScores(run.validator) if run.validates else None,
        run.schedule,
        history,
        display,
        run.epoch_average,
        best,
        early_stopping,
        checkpoint,
        *reports,  # an error of theirs finds the epoch saved as a whole
        stop_on_signal,
    ]
    trainer = make_trainer(
        _forward_of(run),
        run.make_batches(checkpoint.iteration),
        loss_function=run.loss_function,
        optimizer=run.optimizer,
        device=run.precision.device,
        step=run.step,
        epochs=run.epochs,
        steps=steps,
        train_handlers=[handler for handler in handlers if handler is not None],
    )
    while_validating = run.validator.add_event_handler(
        Events.ITERATION_COMPLETED, stop_on_signal.stop_validation
    )
    last_step = run.epochs * steps
    with run.interruption, while_validating:
        try:
            if state:
                trainer.load_state_dict(
                    {"iteration": checkpoint.iteration, "epoch_length": steps, "max_epochs": run.epochs}
                )
            else:
                checkpoint.save(trainer)  # from here on there is something to resume from
            with display:
                if len(history.rows) < checkpoint.iteration // steps:  # interrupted in a validation
                    trainer.fire_event(Events.EPOCH_COMPLETED)
                if checkpoint.iteration < last_step and not (early_stopping and early_stopping.stopped):
                    trainer.run()
        except InterruptedRunError as error:
            saved = checkpoint.save_at_the_end(trainer, last_step)
            raise InterruptedRunError(f"interrupted; {saved}", error.exit_code - 128) from None
        except Exception as error:
            saved = checkpoint.save_at_the_end(trainer, last_step)
            # Ctrl-C also reaches a loader process that has only just started, and ends it
            if run.interruption.received and _lost_a_loader(error, run):
                raise InterruptedRunError(f"interrupted; {saved}", run.interruption.received) from None
            raise _explain(error, run, saved) from error
    return best


def _forward_of(run: TrainingRun) -> nn.Module:
    """Return the forward pass of a run; several processes share their gradients in it."""
    forward = TrainingForward(run.network)
    if run.config.compile:
        # in place: names of weights stay as they are; a graph for each resolution is faster than one for all sizes
        forward.compile(dynamic=False)
    if run.processes == 1:
        return forward
    device = run.precision.device
    if device.type == "cuda":  # SyncBatchNorm keeps the buffers of all processes equal
        return DistributedDataParallel(forward, device_ids=[device], broadcast_buffers=False)
    return DistributedDataParallel(forward)


def _lost_a_loader(error: Exception, run: TrainingRun) -> bool:
    """Tell whether a loader process is gone, or the sender of a tensor no longer answers, which is noticed first."""
    return "DataLoader worker" in str(error) or (
        run.workers > 0 and isinstance(error, ConnectionError | EOFError)
    )


def _explain(error: Exception, run: TrainingRun, saved: str) -> Exception:
    """Return an error that says in one line what happened and what would fit, where the cause is known."""
    if isinstance(error, JobError):
        return error
    if is_out_of_memory(error):
        data = run.config.data
        fit = "a smaller" if run.config.uses_batch_statistics else "a higher data.accumulate, a smaller"
        return JobError(
            f"{run.precision.device} has too little memory for {data.batch_size} images of {data.image_size} pixels at "
            f"once; {saved}; a resumed run keeps its settings: unless another program took the memory, a new one with "
            f"{fit} data.batch_size or data.image_size would fit"
        )
    if _lost_a_loader(error, run):
        return JobError(
            f"a loader process ended ({first_line(error)}); {saved}; too little memory is the usual reason: fewer "
            "--workers would fit"
        )
    return error
