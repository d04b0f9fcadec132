"""Inference of a whole model as one module, for exporters that trace a module."""

from copy import deepcopy
from typing import Final, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from pneumoseg.models import AttentionUNet, NetworkOutputs
from pneumoseg.pipeline.core.devices import Precision
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.inference.model import Model
from pneumoseg.pipeline.inference.predictor import Predictor
from pneumoseg.transforms.network_input import FLAT_STD

INPUTS: Final = ("image", "content")
OUTPUTS: Final = ("probabilities", "image_probability")


class InferenceGraph(nn.Module):
    """Inference of a model on the CPU: standardisation, ensemble, TTA and image probability.

    Args:
        model: Model; its networks are used as they are.
        standardizes: Whether images are standardised in the graph. Otherwise they have to be standardised by their own
            pixels before.
        dtype: Number format of the networks and their weights; everything else is computed in float32.

    Shape:
        image: (B, 1, H, W), float32, H and W multiples of `stride`: greys in [0, 1], or standardised
        content: (B, 1, H, W), float32: 1 for the pixels of the image, 0 for padding
        returns: probabilities, (B, 1, H, W), and image probability, (B,), not calibrated

    Raises: UsageError: If the model's TTA resizes images, which a graph for images of any size does not support.
    """

    def __init__(self, model: Model, *, standardizes: bool, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        if "scale" in model.tta:
            raise UsageError(
                "--tta scale: a graph for images of any size holds no resizing; flip or none would fit"
            )
        networks = model.networks
        if dtype != torch.float32:
            networks = tuple(cast("AttentionUNet", _Converted(network, dtype)) for network in networks)
        self.networks = nn.ModuleList(networks)  # so that exporters find the weights
        self.stride = model.networks[0].stride
        self.standardizes = standardizes
        self.predictor = Predictor(
            networks, precision=Precision(torch.device("cpu"), torch.float32), tta=model.tta
        )

    def forward(self, image: Tensor, content: Tensor) -> tuple[Tensor, Tensor]:
        """Predict for a batch.

        Args:
            image: (B, 1, H, W), float32
            content: (B, 1, H, W), float32

        Returns: Probabilities, (B, 1, H, W), and image probability, (B,).
        """
        own = content > 0.5
        if self.standardizes:
            count = sum_pixels(own.float())
            mean = sum_pixels(image * own) / count
            variance = sum_pixels((image - mean).square() * own) / count
            std = variance.sqrt()
            image = (image - mean) / torch.where(std > FLAT_STD, std, 1.0)
        prediction = self.predictor.predict_at_once(image, own)
        return prediction.probabilities, prediction.image_probability


def sum_pixels(values: Tensor) -> Tensor:
    """Sum over the pixels of each image, few numbers at a time.

    ONNX Runtime and OpenVINO add all pixels one after the other in float32, which moved the mean of a radiograph so far
    that probabilities differed by up to 2e-4 from torch, which adds them pairwise.

    Args:
        values: (B, 1, H, W), H and W multiples of 16, as every stride is

    Returns: (B, 1, 1, 1)
    """
    side = 4
    coarse = functional.avg_pool2d(functional.avg_pool2d(values, side), side)
    return coarse.sum(dim=(1, 2, 3), keepdim=True) * side**4


class _Converted(nn.Module):
    """Copy of a network in another number format, for the part of its interface that a `Predictor` uses."""

    def __init__(self, network: AttentionUNet, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = deepcopy(network).to(dtype)
        self.stride = network.stride
        self.dtype = dtype

    def outputs(self, image: Tensor) -> NetworkOutputs:
        return self.network.outputs(image.to(self.dtype))
