"""The passes whose mean is a prediction: copies for test-time augmentation (TTA), and Monte-Carlo dropout samples.

Source: Gal and Ghahramani 2016, arXiv:1506.02142, for the dropout samples.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pneumoseg.pipeline.core.errors import UsageError

SCALES: Final = (0.75, 1.25)
CHOICES: Final = ("flip", "scale")
NONE: Final = "none"
SEED: Final = 0


class Augmented(NamedTuple):
    """One transformed copy of a batch.

    Attributes:
        images: (B, C, h, w)
        restore: Brings a map of shape (B, channels, h, w) back to the geometry of the original batch.
    """

    images: Tensor
    restore: Callable[[Tensor], Tensor]


def augmented(images: Tensor, tta: Sequence[str], *, stride: int) -> Iterator[Augmented]:
    """Transform a batch in every combination of the chosen augmentations, the untransformed batch first.

    Args:
        images: (B, C, H, W), H and W multiples of *stride*.
        tta: ``flip`` mirrors left and right, since both lungs look much the same; ``scale`` adds the sizes `SCALES`.
        stride: Sizes are rounded to multiples of this.
    """
    shape = list(images.shape[-2:])
    for scale in (1.0, *SCALES) if "scale" in tta else (1.0,):
        size = [max(stride, round(side * scale / stride) * stride) for side in shape]
        scaled = images if scale == 1 else _resize(images, size)
        for flip in (False, True) if "flip" in tta else (False,):

            def restore(map_: Tensor, *, scale: float = scale, flip: bool = flip) -> Tensor:
                map_ = map_.flip(-1) if flip else map_
                return map_ if scale == 1 else _resize(map_, shape)

            yield Augmented(scaled.flip(-1) if flip else scaled, restore)


def copies(tta: Sequence[str]) -> int:
    """Count the copies of a batch that `augmented` makes.

    Args:
        tta: Test-time augmentations.
    """
    return (1 + len(SCALES) if "scale" in tta else 1) * (2 if "flip" in tta else 1)


def parse_tta(text: str | None) -> tuple[str, ...] | None:
    """Read the value of ``--tta``.

    Args:
        text: ``flip``, ``scale``, both with a comma, or ``none``; None if the option was not given.

    Returns: The chosen augmentations, empty for ``none``; None for None.
    Raises: UsageError: If there is another word.
    """
    if text is None or text.strip() == NONE:
        return None if text is None else ()
    return check_tta([word.strip() for word in text.split(",")])


def check_tta(words: Sequence[str]) -> tuple[str, ...]:
    """Check names of augmentations.

    Args:
        words: Names.

    Raises: UsageError: If a name is unknown, or a text stands in the place of a sequence of names.
    """
    if isinstance(words, str):  # a sequence of letters
        raise UsageError(f"--tta {words!r}: in Python a sequence of names is wanted, as ['flip']")
    if unknown := [word for word in words if word not in CHOICES]:
        raise UsageError(f"--tta {unknown[0]}: {', '.join(CHOICES)}, both with a comma, or {NONE} would fit")
    return tuple(words)


def _resize(image: Tensor, size: list[int]) -> Tensor:
    return functional.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=True)


def dropout_layers(networks: Iterable[nn.Module]) -> list[nn.Dropout]:
    """Collect the dropout layers of networks, without those of probability 0.

    Args:
        networks: Networks to search.
    """
    return [
        module
        for network in networks
        for module in network.modules()
        if isinstance(module, nn.Dropout) and module.p > 0
    ]


@contextmanager
def sampling(layers: Sequence[nn.Dropout], device: torch.device) -> Iterator[None]:
    """Enable dropout with a fixed seed; modes and random generators are restored afterwards.

    Args:
        layers: Dropout layers to enable.
        device: Device of the networks.
    """
    before = [layer.training for layer in layers]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(SEED)
        try:
            for layer in layers:
                layer.train()
            yield
        finally:
            for layer, training in zip(layers, before, strict=True):
                layer.train(training)


class RunningStatistics:
    """Mean and standard deviation of a sequence of tensors, by Welford's algorithm."""

    def __init__(self) -> None:
        self.count = 0
        self._mean: Tensor | None = None
        self._squares: Tensor | None = None

    def add(self, values: Tensor) -> None:
        """Add a tensor.

        Args:
            values: Tensor of the same shape as the previous ones.
        """
        self.count += 1
        if self._mean is None or self._squares is None:
            self._mean, self._squares = values.clone(), torch.zeros_like(values)
            return
        delta = values - self._mean
        self._mean = self._mean + delta / self.count
        self._squares = self._squares + delta * (values - self._mean)

    @property
    def mean(self) -> Tensor:
        """Mean of all tensors; requires at least one."""
        assert self._mean is not None  # noqa: S101
        return self._mean

    @property
    def std(self) -> Tensor:
        """Standard deviation with the divisor n - 1; requires at least two tensors."""
        assert self._squares is not None  # noqa: S101
        return (self._squares / (self.count - 1)).sqrt()
