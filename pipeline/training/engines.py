"""MONAI's engines, put together from finished parts; nothing is computed before ``run()``."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.metrics import Metric
from monai.engines import SupervisedEvaluator, SupervisedTrainer, default_prepare_batch
from monai.inferers import Inferer
from monai.transforms import Transform
from torch import Tensor, nn

from pneumoseg.pipeline.inference.predictor import Predictor
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


class PredictorInferer(Inferer):
    """A `Predictor` as MONAI's engines call it.

    Args:
        predictor: Predictor to use.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def __call__(  # type: ignore[override]
        self,
        inputs: Tensor,
        network: nn.Module,  # noqa: ARG002  (the predictor has its networks)
        *,
        content: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Predict for a batch; gives `Prediction.as_dict`, which decollation can take apart."""
        return self.predictor.predict_batch(inputs, content).as_dict()


def make_evaluator(
    predictor: Predictor,
    batches: Iterable[Batch],
    *,
    postprocessing: Transform,
    key_metric: tuple[str, Metric],
    metrics: dict[str, Metric] | None = None,
    handlers: Sequence[Any] = (),
) -> SupervisedEvaluator:
    """Assemble an evaluator, for the fold that is held out or for other cases.

    Args:
        predictor: Predictor to evaluate; `use_predictor` replaces it later.
        batches: Batches with `image`, `label`, `index` and, for padded images, `content`.
        postprocessing: Transform of each case; its ``pred`` is `Prediction.as_dict` for that case.
        key_metric: Name and metric that tells which weights are best.
        metrics: Further metrics to report, by name.
        handlers: Handlers, attached in this order.
    """
    evaluator = SupervisedEvaluator(
        device=predictor.precision.device,
        val_data_loader=batches,
        network=nn.Identity(),  # replaced by `use_predictor`
        non_blocking=True,
        prepare_batch=_prepare_batch,
        postprocessing=postprocessing,
        key_val_metric=dict([key_metric]),
        additional_metrics=metrics,
        # an untrained network ties with predicting nothing: among equals the longer trained one is better
        metric_cmp_fn=lambda current, best: current >= best,
        val_handlers=list(handlers),
    )
    evaluator.logger.setLevel(logging.CRITICAL)
    use_predictor(evaluator, predictor)
    return evaluator


def use_predictor(evaluator: SupervisedEvaluator, predictor: Predictor) -> None:
    """Let an evaluator evaluate this predictor from now on."""
    evaluator.network = nn.ModuleList(predictor.networks)
    evaluator.inferer = PredictorInferer(predictor)


def _prepare_batch(batch: Batch, device: torch.device, non_blocking: bool, **options: Any) -> tuple[Any, ...]:
    """MONAI's ``prepare_batch``: image and label on the device, and the keyword arguments of the inferer."""
    image, label = default_prepare_batch(batch, device, non_blocking, **options)
    return image, label, (), {"content": batch.get("content")}


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
