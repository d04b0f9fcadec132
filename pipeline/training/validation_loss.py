"""The loss of the validation, to be compared with that of the training."""

from typing import Any, Final

import torch
from ignite.exceptions import NotComputableError
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced
from monai.utils import CommonKeys as Keys
from torch import Tensor

from pneumoseg.models import TrainingOutputs
from pneumoseg.pipeline.devices import gather
from pneumoseg.pipeline.scoring.metrics import CURVES
from pneumoseg.pipeline.training.losses import TrainingLoss

EPS: Final = 1e-6
"""Probabilities nearer to 0 or 1 are clipped: float32 holds no logit for 1, and a sure error shall stay finite."""


class ValidationLoss(Metric):
    """The mean over images of the training loss, at the resolution of the network.

    Each image is looked at on its own, so that the loss depends neither on the batch size nor on the number of
    processes. A region loss, like Dice, of an image without pneumothorax is close to its maximum then: compare the
    course of the curve with that of the training loss, not its height.

    Args:
        loss: The loss of the training; deep supervision does not take part.
        image_head: Whether the network has an image head, whose loss takes part.
    """

    def __init__(self, loss: TrainingLoss, *, image_head: bool) -> None:
        self.loss = loss
        self.image_head = image_head
        super().__init__()

    @reinit__is_reduced
    def reset(self) -> None:
        """Forget all images."""
        self.total = 0.0
        self.images = 0

    @reinit__is_reduced
    def update(self, output: list[dict[str, Any]]) -> None:
        """Take in the decollated output of a batch, with ``pred``, ``label`` and the curves of each case."""
        self.total += float(torch.stack([self._loss_of(item) for item in output]).double().sum())
        self.images += len(output)

    def compute(self) -> float:
        """Average over the images of all processes.

        Raises: NotComputableError: If there was no image.
        """
        totals, images = zip(*gather((self.total, self.images)), strict=True)
        if sum(images) == 0:
            raise NotComputableError("the validation loss is a mean over images, and there was none")
        return sum(totals) / sum(images)

    def _loss_of(self, item: dict[str, Any]) -> Tensor:
        prediction, label = item[Keys.PRED], item[Keys.LABEL]
        logits = torch.logit(prediction["probabilities"][None].float(), eps=EPS)
        image_logits = None
        if self.image_head:
            image_logits = torch.logit(logits.new_tensor([[float(prediction["image_probability"])]]), eps=EPS)
        positive = logits.new_tensor([float(item[CURVES].label_area > 0)])
        outputs = TrainingOutputs(logits, [], image_logits)
        return self.loss(outputs, label[None].to(logits.device).float(), positive)
