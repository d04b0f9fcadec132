"""Loss terms that a configuration lists by name.

Most are MONAI's; the Lovasz hinge follows Berman et al., CVPR 2018. Each compares logits of shape ``(B, 1, H, W)``
with labels of the same shape, which hold the share of each pixel that is pneumothorax. Region losses treat the batch
as one image, since most images are empty and the overlap of an empty image is undefined.

MONAI is imported where a loss is made: every command reads configurations, and importing MONAI takes seconds.
"""

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

Weight = Annotated[float, Field(ge=0)]
Loss = Callable[[Tensor, Tensor], Tensor]


class _Term(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    name: str
    weight: Weight = 1.0
    """Weight of this loss in the sum."""


class BCETerm(_Term):
    """Binary cross-entropy of each pixel."""

    name: Literal["bce"] = "bce"
    positive_weight: Annotated[float, Field(gt=0)] = 1.0
    """Weight of a pixel of a pneumothorax relative to any other pixel."""

    def make(self) -> Loss:
        """Make the loss."""
        if self.positive_weight == 1:
            return nn.BCEWithLogitsLoss()
        # `new_full` is computed on the device, while `new_tensor` would wait for a copy
        return lambda logits, label: functional.binary_cross_entropy_with_logits(
            logits, label, pos_weight=logits.new_full((), self.positive_weight)
        )


class DiceTerm(_Term):
    """One minus the soft Dice of the batch."""

    name: Literal["dice"] = "dice"

    def make(self) -> Loss:
        """Make the loss."""
        from monai.losses import DiceLoss

        loss: Loss = DiceLoss(sigmoid=True, batch=True)
        return loss


class FocalTerm(_Term):
    """Cross-entropy that weighs down pixels which are already classified well."""

    name: Literal["focal"] = "focal"
    gamma: Weight = 2.0
    """Focusing exponent: higher values weigh such pixels down more."""

    def make(self) -> Loss:
        """Make the loss."""
        from monai.losses import FocalLoss

        loss: Loss = FocalLoss(gamma=self.gamma)
        return loss


class TverskyTerm(_Term):
    """Soft Dice with separate weights of false-positive and false-negative pixels."""

    name: Literal["tversky"] = "tversky"
    false_positives: Weight = 0.3
    """Weight of false-positive pixels; 0.5 for both is Dice."""
    false_negatives: Weight = 0.7
    """Weight of false-negative pixels."""

    def make(self) -> Loss:
        """Make the loss."""
        from monai.losses import TverskyLoss

        loss: Loss = TverskyLoss(
            sigmoid=True, batch=True, alpha=self.false_positives, beta=self.false_negatives
        )
        return loss


class LovaszTerm(_Term):
    """Convex surrogate of the intersection over union (Lovasz hinge)."""

    name: Literal["lovasz"] = "lovasz"

    def make(self) -> Loss:
        """Make the loss."""
        return lovasz_hinge


LossTerm = Annotated[BCETerm | DiceTerm | FocalTerm | TverskyTerm | LovaszTerm, Field(discriminator="name")]
"""Any of the terms above; in YAML, a mapping with ``name``, ``weight`` and the other keys of that term."""


def lovasz_hinge(logits: Tensor, label: Tensor) -> Tensor:
    """Compute the Lovasz hinge over all pixels of a batch.

    Args:
        logits: Logits of any shape.
        label: Share of each pixel that is pneumothorax, of the same shape; up to one half counts as none.

    Returns: The loss, a scalar.

    Source: Berman et al., CVPR 2018.
    """
    truth = (label.flatten() > 0.5).long()
    errors = 1 - logits.flatten() * (2 * truth - 1)
    errors, order = torch.sort(errors, descending=True)
    truth = truth[order]
    # decrease of the Jaccard index with each further wrong pixel, the largest errors first; counted in integers,
    # which are exact, and whose cumulative sum is deterministic on CUDA
    intersection = truth.sum() - truth.cumsum(0)
    union = truth.sum() + (1 - truth).cumsum(0)
    jaccard = 1 - intersection / union
    steps = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
    return torch.dot(functional.relu(errors), steps.to(errors.dtype))
