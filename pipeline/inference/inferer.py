"""The network applied to batches of any size, in the chosen precision."""

from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor, nn
from torch.nn import functional

from pneumoseg.pipeline.devices import Precision

STRIDE = 16  # four halvings: the network refuses sizes that are not divisible by this


class PaddedInferer(Inferer):
    """Call a network on images whose size it may not take as it is: pad, call, crop.

    Args:
        precision: In which the network computes.
    """

    def __init__(self, precision: Precision) -> None:
        self.precision = precision

    def __call__(self, inputs: Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> Tensor:  # type: ignore[override]
        """Give logits for a batch.

        Args:
            inputs: Shape (B, C, H, W), H and W of any size.
            network: Gives logits for sizes divisible by 16.
            args: Handed on to the network.
            kwargs: Handed on to the network.

        Returns: Float32, shape (B, classes, H, W).
        """
        rows, columns = inputs.shape[-2:]
        padded = functional.pad(inputs, (0, -columns % STRIDE, 0, -rows % STRIDE))
        with torch.no_grad(), self.precision.autocast():
            logits: Tensor = network(padded, *args, **kwargs)
        return logits[..., :rows, :columns].float()
