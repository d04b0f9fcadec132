"""How unsure a network is: what dropout, left on, changes from one pass to the next."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn

from pneumoseg.pipeline.inference.ensemble import SMALLEST

SEED: Final = 0


def has_dropout(network: nn.Module) -> bool:
    """Whether there is anything in a network that `MonteCarloDropout` could leave on."""
    return bool(_dropouts(network))


def _dropouts(network: nn.Module) -> list[nn.Dropout]:
    return [part for part in network.modules() if isinstance(part, nn.Dropout) and part.p > 0]


class MonteCarloDropout(nn.Module):
    """A network called several times with its dropout on, and how much the answers differ.

    Each image is seen on its own and with the same draws, so that what is said of it does not depend on which
    others go with it, or on its place among them.

    Args:
        network: With dropout somewhere in it; nothing else of it behaves as in training.
        passes: How often it is called; means and spreads are kept, not the maps.
        min_area_fraction: Share of the pixels that has to agree on an image: see `image_probability`.

    Shape:
        image: (B, C, H, W), as the network takes it
        returns: (B, 3, H, W): the logits of the mean probability; the standard deviation of each pixel's
            probability; and, the same in all pixels, that of the image's probability

    Raises:
        ValueError: If there is no dropout, or less than two passes.

    Source: Gal and Ghahramani 2016, arXiv:1506.02142.
    """

    def __init__(self, network: nn.Module, *, passes: int, min_area_fraction: float = 0.0) -> None:
        super().__init__()
        self.dropouts = _dropouts(network)
        if not self.dropouts or passes < 2:
            raise ValueError(f"{passes} passes through {len(self.dropouts)} dropouts; 2 and 1 are the least")
        self.network = network
        self.passes = passes
        self.min_area_fraction = min_area_fraction

    def forward(self, image: Tensor) -> Tensor:
        """Return logits and standard deviations."""
        return torch.cat([self._see(image[number : number + 1]) for number in range(len(image))])

    def attention(self, image: Tensor) -> list[Tensor]:
        """Return the gate maps without dropout, deepest first."""
        maps: list[Tensor] = self.network.attention(image)  # type: ignore[operator]
        return maps

    def _see(self, image: Tensor) -> Tensor:
        pixels, images = _Spread(), _Spread()
        with _seeded(image.device), self._dropping_out():
            for _ in range(self.passes):
                probabilities = torch.sigmoid(self.network(image).float())[:, :1]
                pixels.take(probabilities)
                flat = probabilities.flatten(1)
                rank = int(self.min_area_fraction * flat.shape[1]) + 1
                images.take(flat.topk(rank).values[:, -1])
        of_images = images.deviation()[:, None, None, None].expand_as(pixels.mean)
        return torch.cat([torch.logit(pixels.mean, eps=SMALLEST), pixels.deviation(), of_images], dim=1)

    @contextmanager
    def _dropping_out(self) -> Iterator[None]:
        before = [part.training for part in self.dropouts]
        for part in self.dropouts:
            part.train()
        try:
            yield
        finally:
            for part, training in zip(self.dropouts, before, strict=True):
                part.train(training)


class _Spread:
    """Mean and standard deviation of tensors that come one after the other, after Welford."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(())
        self.squares = torch.zeros(())

    def take(self, values: Tensor) -> None:
        self.count += 1
        delta = values - self.mean.to(values.device)
        self.mean = self.mean.to(values.device) + delta / self.count
        self.squares = self.squares.to(values.device) + delta * (values - self.mean)

    def deviation(self) -> Tensor:
        return (self.squares / (self.count - 1)).sqrt()


@contextmanager
def _seeded(device: torch.device) -> Iterator[None]:
    """Draw the same numbers each time, and leave the generators as they were."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(SEED)
        yield
