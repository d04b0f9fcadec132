"""MONAI's engines, put together from finished parts; nothing is computed before ``run()``."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.metrics import Metric
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.transforms import Transform
from torch import Tensor, nn

from pneumoseg.pipeline.devices import Precision
from pneumoseg.pipeline.inference.inferer import PaddedInferer
from pneumoseg.pipeline.training.step import Batch, LossFunction, TrainingStep


def make_trainer(
    network: nn.Module,
    batches: Iterable[Batch],
    *,
    loss_function: LossFunction,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    step: TrainingStep,
    epochs: int,
    steps: int,
    handlers: Sequence[Any],
) -> SupervisedTrainer:
    """Assemble the trainer of one fold.

    Args:
        network: `TrainingForward`, or `DistributedDataParallel` around it.
        batches: Batches of the whole run; *steps* of them make an epoch.
        loss_function: Loss of the network's outputs.
        optimizer: Moves the weights.
        device: Device of the network.
        step: Update of the weights with one batch.
        epochs: Epochs of the whole run.
        steps: Steps of an epoch.
        handlers: Handlers, attached in this order.
    """
    trainer = SupervisedTrainer(
        device=device,
        max_epochs=epochs,
        epoch_length=steps,
        train_data_loader=batches,
        network=network,
        optimizer=optimizer,
        loss_function=loss_function,
        non_blocking=True,
        iteration_update=step,
        decollate=False,  # single items are looked at nowhere, and taking batches apart costs time
        train_handlers=list(handlers),
    )
    trainer.logger.setLevel(logging.CRITICAL)  # an error is told once, by who called
    return trainer


def make_evaluator(
    network: nn.Module,
    batches: Iterable[Batch],
    *,
    precision: Precision,
    postprocessing: Transform,
    key_metric: tuple[str, Metric],
    metrics: dict[str, Metric] | None = None,
    handlers: Sequence[Any] = (),
) -> SupervisedEvaluator:
    """Assemble an evaluator, of a fold that is held out or of cases that come later.

    Args:
        network: Gives logits.
        batches: With `image`, `label` and `index`.
        precision: In which the network computes.
        postprocessing: Applied to each case on its own.
        key_metric: The one that says which weights are best, and its name.
        metrics: Others to report.
        handlers: Attached in this order.
    """
    evaluator = SupervisedEvaluator(
        device=precision.device,
        val_data_loader=batches,
        network=network,
        non_blocking=True,
        inferer=PaddedInferer(precision),
        postprocessing=postprocessing,
        key_val_metric=dict([key_metric]),
        additional_metrics=metrics,
        # an untrained network ties with predicting nothing: among equals the longer trained one is better
        metric_cmp_fn=lambda current, best: current >= best,
        val_handlers=list(handlers),
    )
    evaluator.logger.setLevel(logging.CRITICAL)
    return evaluator


class On:
    """A handler in one line: call a function at an event of the engine.

    Args:
        event: Of Ignite.
        function: Called without arguments.
    """

    def __init__(self, event: Events, function: Callable[[], object]) -> None:
        self.event = event
        self.function = function

    def attach(self, engine: Engine) -> None:
        """Call from now on."""
        engine.add_event_handler(self.event, self.function)
