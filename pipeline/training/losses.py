"""The training loss: a weighted sum of loss terms over the outputs of all heads."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from pneumoseg.models import TrainingOutputs
from pneumoseg.pipeline.core.loss_terms import LossTerm


class TrainingLoss:
    """The weighted sum of all terms, over the logits of all heads.

    Args:
        terms: Loss terms of the masks, with their weights.
        deep_weight: Weight of the masks at half resolution; it halves with each lower resolution.
        image_weight: Weight of the binary cross-entropy of the image head.
    """

    def __init__(self, terms: Sequence[LossTerm], *, deep_weight: float, image_weight: float) -> None:
        self.terms = [(term.weight, term.make()) for term in terms]
        self.deep_weight = deep_weight
        self.image_weight = image_weight

    def __call__(self, outputs: TrainingOutputs, label: Tensor, positive: Tensor) -> Tensor:
        """Compute the loss of a batch in float32, whatever the precision of the outputs.

        Args:
            outputs: Logits of all heads.
            label: Share of each pixel that is pneumothorax, 0 to 1, (B, 1, H, W).
            positive: 1 where the original mask holds any pixel, else 0, (B,): a small pneumothorax may cover less
                than half of each pixel of the label.
        """
        total = self._of_masks(outputs.logits, label)
        for level, logits in enumerate(outputs.deep_logits, start=1):
            smaller = functional.avg_pool2d(label, label.shape[-1] // logits.shape[-1])
            total = total + self.deep_weight / 2 ** (level - 1) * self._of_masks(logits, smaller)
        if outputs.image_logits is not None:
            total = total + self.image_weight * functional.binary_cross_entropy_with_logits(
                outputs.image_logits.float(), positive[:, None].float().expand_as(outputs.image_logits)
            )
        return total

    def _of_masks(self, logits: Tensor, label: Tensor) -> Tensor:
        logits = logits.float()
        return torch.stack([weight * loss(logits, label) for weight, loss in self.terms]).sum()
