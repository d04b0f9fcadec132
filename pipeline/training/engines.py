"""Assemble MONAI's engines from finished parts; nothing is computed before ``run()``."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from ignite.engine import EventEnum
from ignite.metrics import Metric
from monai.engines import SupervisedEvaluator, SupervisedTrainer, default_prepare_batch
from monai.inferers import Inferer
from monai.transforms import Transform
from torch import Tensor, nn

from pneumoseg.pipeline.inference.predictor import Predictor
from pneumoseg.pipeline.training.step import Batch, LossFunction, TrainingStep


class RunEvents(EventEnum):
    """Events of a training run, beside Ignite's; registered by `make_trainer`."""

    SAVED = "saved"
    """A checkpoint was written."""
    NEW_BEST = "new_best"
    """The weights of the epoch that is completed were saved as the best ones so far."""


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
    train_handlers: Sequence[Any],
) -> SupervisedTrainer:
    """Assemble the trainer of one fold.

    Args:
        network: `TrainingForward`, or `DistributedDataParallel` around it.
        batches: Batches of the whole run; *steps* of them make an epoch.
        loss_function: Loss of the network's outputs.
        optimizer: Moves the weights.
        device: Device of the network.
        step: Update of the weights with one batch; its last numbers are read at the end of each epoch.
        epochs: Epochs of the whole run.
        steps: Steps of an epoch.
        train_handlers: Handlers, attached in this order, which is that of their calls at each event.
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
        decollate=False,  # nothing reads single items, and taking batches apart costs time
        event_names=[RunEvents],
        train_handlers=[step, *train_handlers],
    )
    trainer.logger.setLevel(logging.CRITICAL)  # the caller reports an error, once
    return trainer


class PredictorInferer(Inferer):
    """Inferer with which MONAI's engines call a `Predictor`.

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
        """Predict for a batch.

        Args:
            inputs: Images, (B, 1, H, W).
            network: Ignored.
            content: 1 where a pixel belongs to the image and 0 in the padding, (B, 1, H, W); None without padding.

        Returns: `Prediction.as_dict`, which decollation can take apart. Whether logits are finite is checked where the
            host reads the scores: see `read_curves`.
        """
        return self.predictor.predict_batch(inputs, content, check=False).as_dict()


def make_evaluator(
    predictor: Predictor,
    batches: Iterable[Batch],
    *,
    postprocessing: Transform,
    key_metric: tuple[str, Metric],
    metrics: dict[str, Metric] | None = None,
) -> SupervisedEvaluator:
    """Assemble an evaluator of the held-out fold or of other cases.

    Args:
        predictor: Predictor to evaluate; `use_predictor` replaces it later.
        batches: Batches with `image`, `label`, `index` and, for padded images, `content`.
        postprocessing: Transform of each case; its ``pred`` is `Prediction.as_dict` for that case.
        key_metric: Name and metric whose best value the evaluator remembers; `BestEpochs` decides which weights are
            kept.
        metrics: Further metrics to report, by name.
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
    )
    evaluator.logger.setLevel(logging.CRITICAL)
    use_predictor(evaluator, predictor)
    return evaluator


def use_predictor(evaluator: SupervisedEvaluator, predictor: Predictor) -> None:
    """Let an evaluator evaluate another predictor from now on.

    Args:
        evaluator: Evaluator made by `make_evaluator`.
        predictor: Predictor to evaluate.
    """
    evaluator.network = nn.ModuleList(predictor.networks)
    evaluator.inferer = PredictorInferer(predictor)


def _prepare_batch(batch: Batch, device: torch.device, non_blocking: bool, **options: Any) -> tuple[Any, ...]:
    """MONAI's ``prepare_batch``: image and label on the device, and the keyword arguments of the inferer."""
    image, label = default_prepare_batch(batch, device, non_blocking, **options)
    return image, label, (), {"content": batch.get("content")}
