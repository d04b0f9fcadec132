"""The same image seen in several ways, and the mean of what a network says of them."""

from collections.abc import Iterator, Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from pneumoseg.pipeline.errors import UsageError
from pneumoseg.pipeline.inference.ensemble import SMALLEST

SIZE_MULTIPLE: Final = 16
SCALES: Final = (0.75, 1.25)
VIEWS: Final = ("flip", "scale")
NO_VIEWS: Final = "none"


class Views(nn.Module):
    """A network whose answer is the mean probability over views, as the logits that it stands for.

    Args:
        network: Called on one view after the other; no more than two maps are held.
        flip: Also see each image from left to right: lungs are much the same on both sides.
        scales: Sizes to see the image at besides its own, rounded to what the network takes.

    Shape:
        image: (B, C, H, W), as the network takes it
        returns: (B, classes, H, W), logits in float32
    """

    def __init__(self, network: nn.Module, *, flip: bool = False, scales: Sequence[float] = ()) -> None:
        super().__init__()
        self.network = network
        self.flip = flip
        self.scales = tuple(scales)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of the mean probability."""
        total, count = torch.zeros(()), 0
        for probabilities in self._seen(image):
            total = probabilities if count == 0 else total + probabilities
            count += 1
        return torch.logit(total / count, eps=SMALLEST)

    def attention(self, image: Tensor) -> list[Tensor]:
        """Return the gate maps of the image as it is, deepest first."""
        maps: list[Tensor] = self.network.attention(image)  # type: ignore[operator]
        return maps

    def _seen(self, image: Tensor) -> Iterator[Tensor]:
        shape = image.shape[-2:]
        for scale in (1.0, *self.scales):
            size = [max(SIZE_MULTIPLE, round(side * scale / SIZE_MULTIPLE) * SIZE_MULTIPLE) for side in shape]
            seen = image if scale == 1 else _resize(image, size)
            for flipped in (False, True) if self.flip else (False,):
                logits = self.network(seen.flip(-1) if flipped else seen)
                probabilities = torch.sigmoid(logits.float())
                probabilities = probabilities.flip(-1) if flipped else probabilities
                yield probabilities if scale == 1 else _resize(probabilities, list(shape))


def parse_views(text: str | None) -> tuple[str, ...] | None:
    """Read ``flip``, ``scale`` or both with a comma; ``none`` is no view but the image itself; None stays None.

    Raises: UsageError: If there is another word.
    """
    if text is None or text.strip() == NO_VIEWS:
        return None if text is None else ()
    words = tuple(word.strip() for word in text.split(","))
    if unknown := [word for word in words if word not in VIEWS]:
        raise UsageError(
            f"--tta {unknown[0]}: {', '.join(VIEWS)}, both with a comma, or {NO_VIEWS} would fit"
        )
    return words


def with_views(network: nn.Module, views: Sequence[str]) -> nn.Module:
    """*network*, or the mean over views of it."""
    if not views:
        return network
    return Views(network, flip="flip" in views, scales=SCALES if "scale" in views else ())


def _resize(image: Tensor, size: list[int]) -> Tensor:
    return functional.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=True)
