"""Compute the validation loss, to be compared with the training loss."""

from typing import Any, Final

import torch
from ignite.exceptions import NotComputableError
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced
from monai.utils import CommonKeys as Keys
from torch import Tensor

from pneumoseg.models import TrainingOutputs
from pneumoseg.pipeline.core.devices import gather
from pneumoseg.pipeline.scoring.metrics import CURVES
from pneumoseg.pipeline.training.losses import TrainingLoss

EPS: Final = 1e-6
"""Probabilities nearer to 0 or 1 are clipped: float32 has no logit for 1, and a confident error has a finite loss."""


class ValidationLoss(Metric):
    """The mean over images of the training loss, at the resolution of the network.

    A region loss, like Dice, takes each batch as one image, as in training: for a single image without pneumothorax it
    would be at its maximum whatever is predicted. Positives are rarer than in training batches; so compare the course
    of the curve with that of the training loss, and not its height.

    Args:
        loss: Training loss; deep supervision is left out.
        image_head: Whether the network has an image head, whose loss is included.
    """

    def __init__(self, loss: TrainingLoss, *, image_head: bool) -> None:
        self.loss = loss
        self.image_head = image_head
        super().__init__()

    @reinit__is_reduced
    def reset(self) -> None:
        """Forget all images."""
        self.total: Tensor | float = 0.0
        self.images: int = 0

    @reinit__is_reduced
    def update(self, output: list[dict[str, Any]]) -> None:
        """Add the images of a batch.

        Args:
            output: Decollated output, with ``pred``, ``label`` and the `PendingCurves` of each case.
        """
        predictions = [item[Keys.PRED] for item in output]
        logits = torch.logit(torch.stack([each["probabilities"] for each in predictions]).float(), eps=EPS)
        image_logits = None
        if self.image_head:
            image_logits = torch.logit(
                torch.stack([each["image_probability"] for each in predictions]), eps=EPS
            )
        label = torch.stack([torch.as_tensor(item[Keys.LABEL]) for item in output]).to(logits)
        positive = torch.stack([item[CURVES].is_positive for item in output]).to(logits)
        loss = self.loss(TrainingOutputs(logits, [], image_logits), label, positive)
        self.total = self.total + len(output) * loss.detach().double()  # read once, by `compute`
        self.images += len(output)

    def compute(self) -> float:
        """Average over the images of all processes.

        Raises: NotComputableError: If there was no image.
        """
        shares = gather((float(self.total), self.images))
        images = sum(count for _, count in shares)
        if images == 0:
            raise NotComputableError("the validation loss is a mean over images, and there was none")
        return sum(total for total, _ in shares) / images
