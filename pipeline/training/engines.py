"""MONAI's engines, put together from finished parts; nothing is computed before ``run()``."""

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.metrics import Metric
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.transforms import Transform
from monai.utils import CommonKeys as Keys
from torch import Tensor, nn

from pneumoseg.pipeline.devices import Precision
from pneumoseg.pipeline.errors import JobError
from pneumoseg.pipeline.inference.inferer import PaddedInferer

Batch = dict[str, Any]


def make_trainer(
    network: nn.Module,
    batches: Iterable[Batch],
    *,
    loss_function: Callable[[Tensor, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    precision: Precision,
    scaler: torch.amp.GradScaler,
    clip_norm: float | None,
    seed: int,
    epochs: int,
    steps: int,
    handlers: Sequence[Any],
) -> SupervisedTrainer:
    """Assemble the trainer of one fold.

    Args:
        network: Gives logits.
        batches: Of the whole run; *steps* of them are an epoch.
        loss_function: Of float32 logits and labels.
        optimizer: Moves the weights.
        precision: In which the network computes.
        scaler: Of fp16 gradients.
        clip_norm: Gradients are scaled down to this norm.
        seed: Dropout is a function of it and of the step.
        epochs: Passes in all.
        steps: Of an epoch.
        handlers: Attached in this order.
    """
    trainer = SupervisedTrainer(
        device=precision.device,
        max_epochs=epochs,
        epoch_length=steps,
        train_data_loader=batches,
        network=network,
        optimizer=optimizer,
        loss_function=loss_function,
        non_blocking=True,
        iteration_update=_make_step(precision, scaler, clip_norm=clip_norm, seed=seed),
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


def _make_step(
    precision: Precision, scaler: torch.amp.GradScaler, *, clip_norm: float | None, seed: int
) -> Callable[[Any, Batch], dict[str, Tensor]]:
    # MONAI's own `amp` is float16 on CUDA whatever the device, and has no moment between unscaling the
    # gradients and the step at which they could be clipped
    def step(engine: Any, batch: Batch) -> dict[str, Tensor]:
        torch.manual_seed(_step_seed(seed, engine.state.iteration))
        image, label = engine.prepare_batch(batch, engine.state.device, engine.non_blocking)
        network = engine.network.train()
        engine.optimizer.zero_grad(set_to_none=True)
        with precision.autocast():
            logits = network(image)
        loss = engine.loss_function(logits.float(), label)
        _check("loss", loss, engine, batch)
        scaler.scale(loss).backward()
        scaler.unscale_(engine.optimizer)
        norm = nn.utils.clip_grad_norm_(network.parameters(), math.inf if clip_norm is None else clip_norm)
        if not scaler.is_enabled():  # the scaler leaves such a step out, and goes on with a smaller scale
            _check("gradient", norm, engine, batch)
        scaler.step(engine.optimizer)
        scaler.update()
        return {Keys.LOSS: loss.detach()}

    return step


def _check(name: str, value: Tensor, engine: Any, batch: Batch) -> None:
    if not torch.isfinite(value):
        raise JobError(
            f"the {name} is {value.item()} at step {engine.state.iteration} (cases {batch['index'].tolist()} of the "
            "manifest); a lower optimization.learning_rate or precision=float32 would fit"
        )


def _step_seed(seed: int, iteration: int) -> int:
    # 32 bits: torch's generator on the CPU looks at no more of a seed
    return int(np.random.SeedSequence([seed, iteration]).generate_state(1)[0])


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
