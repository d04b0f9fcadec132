"""Network of a bundle: a whole model with ensemble and TTA as one module, which can also be trained."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pneumoseg.pipeline.core.config import ComputedPrecision, NetworkConfig
from pneumoseg.pipeline.core.devices import precision_of_model
from pneumoseg.pipeline.inference.predictor import Predictor
from pneumoseg.pipeline.model.weights import make_network, place
from pneumoseg.pipeline.runtimes.forward import torch_forward


class BundleNetwork(nn.Module):
    """A model as one module: all its members, test-time augmentation, and the image probability.

    Args:
        network: Values of `NetworkConfig`.
        members: Number of networks, whose probabilities are averaged.
        tta: Test-time augmentations: see `augmented`.
        precision: Number format of the networks in evaluation mode, where the device supports it.

    Attributes:
        networks: The members.

    Shape:
        image: (B, 2, H, W): the image, standardised as `inference_chain` does it, and its item ``content``: 1 for the
            pixels of the image, 0 for padding
        returns: in evaluation mode (B, 2, H, W): the probability of each pixel, and the image probability, which is the
            same for all pixels; in training mode (B, 1, H, W): the logits of the first member

    Raises: ValidationError: If a value of *network* is invalid.
    """

    def __init__(
        self,
        network: Mapping[str, Any],
        *,
        members: int = 1,
        tta: Sequence[str] = (),
        precision: ComputedPrecision = "float32",
    ) -> None:
        super().__init__()
        config = NetworkConfig.model_validate(network)
        networks = [place(make_network(config), torch.device("cpu")) for _ in range(members)]
        self.networks = nn.ModuleList(networks)
        self._members = tuple(networks)
        self._tta = tuple(tta)
        self._precision = precision

    def forward(self, image: Tensor) -> Tensor:
        """Compute predictions in evaluation mode, and logits in training mode.

        Args:
            image: (B, 2, H, W)
        """
        if self.training:
            return self._members[0](image[:, :1])  # type: ignore[no-any-return]
        precision = precision_of_model(self._precision, image.device)
        # the forward passes of `predict`, to the bit, of the weights that the members have now
        forwards = [torch_forward(member, precision) for member in self._members]
        predictor = Predictor(self._members, precision=precision, tta=self._tta, forwards=forwards)
        found = predictor.predict_batch(image[:, :1], image[:, 1:] > 0.5)
        of_image = found.image_probability[:, None, None, None].expand_as(found.probabilities)
        return torch.cat([found.probabilities, of_image], dim=1)
