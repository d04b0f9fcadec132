"""Tiny networks and a predictor of them, for the tests of inference."""

from typing import Any

import torch
from tests.conftest import TINY
from torch import Tensor, nn

from pneumoseg.models import AttentionUNet, NetworkOutputs
from pneumoseg.pipeline.core.devices import Precision
from pneumoseg.pipeline.inference.predictor import Predictor
from pneumoseg.pipeline.model.weights import make_network

CPU = torch.device("cpu")
FLOAT32 = Precision(CPU, torch.float32)


def member(seed: int = 1, **changes: Any) -> AttentionUNet:
    """An untrained network whose probabilities differ from pixel to pixel."""
    torch.manual_seed(seed)
    network = make_network(TINY.model_copy(update=changes)).eval()
    with torch.no_grad():
        network.head.weight.mul_(5)
    return network


def constant(logit: float) -> AttentionUNet:
    """A network that gives the same logit everywhere."""
    network = make_network(TINY).eval()
    weight = torch.zeros_like(network.head.weight)
    network.head.load_state_dict({"weight": weight, "bias": torch.tensor([logit])})
    return network


def with_head(logit: float, seed: int = 1) -> AttentionUNet:
    """A network whose image head gives this logit for every image."""
    network = member(seed, image_head=True)
    assert network.image_head is not None
    weight = torch.zeros_like(network.image_head.weight)
    network.image_head.load_state_dict({"weight": weight, "bias": torch.tensor([logit])})
    return network


class Copy(AttentionUNet):
    """A network whose logits are the image, and which remembers the images that it has been given."""

    def __init__(self) -> None:
        super().__init__(features=(4, 4, 4, 4, 4), dropout=0.0)
        self.given: list[Tensor] = []

    def outputs(self, image: Tensor) -> NetworkOutputs:
        self.given.append(image)
        return NetworkOutputs(image[:, :1], None, [image[:, :1]] * 4)


class Coins(AttentionUNet):
    """A network with logits of 2 or -200, by a fair coin for each pixel."""

    def __init__(self) -> None:
        super().__init__(features=(4, 4, 4, 4, 4), dropout=0.0)
        self.coin = nn.Dropout(0.5)

    def outputs(self, image: Tensor) -> NetworkOutputs:
        kept: Tensor = self.coin(torch.ones_like(image)) > 0
        return NetworkOutputs(torch.where(kept, 2.0, -200.0), None, [])


def predictor(*networks: AttentionUNet, **options: Any) -> Predictor:
    return Predictor(networks, **{"precision": FLOAT32, **options})


def probabilities(image: Tensor, *networks: AttentionUNet, **options: Any) -> Tensor:
    return predictor(*networks, **options).predict_batch(image).probabilities


def count_runs(network: AttentionUNet) -> list[int]:
    """A list that gets the number of images of each forward pass from now on."""
    runs: list[int] = []
    network.head.register_forward_hook(lambda _, __, logits: runs.append(len(logits)))
    return runs
