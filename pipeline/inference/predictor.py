"""Prediction by one or several networks: ensemble, TTA, Monte-Carlo dropout, padding and precision."""

import operator
from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.core.devices import Precision
from pneumoseg.pipeline.inference.passes import RunningStatistics, augmented, dropout_layers, sampling
from pneumoseg.pipeline.model.weights import non_finite_outputs
from pneumoseg.pipeline.runtimes.forward import Forward, plain_forward

GATES: Final = 4
TOP_SHARE: Final = 1000
"""One in so many pixels is averaged: the largest 0.1 %."""
_PIXELS_AT_ONCE: Final = 2**16
_DROPOUT: Final = Lock()
"""Held while dropout is on: its layers and torch's random generator are shared by all threads."""


class Prediction(NamedTuple):
    """Prediction for a batch; for a single image, the tensors lack the first dimension.

    Attributes:
        probabilities: (B, 1, H, W), float32, of the size of the input images.
        image_probability: (B,), float32: the mean of the largest 0.1 % of `probabilities` without padding; where there
            is an image head, the mean of that and of the head's mean output.
        pixel_std: (B, 1, H, W), standard deviation of each pixel's probability over Monte-Carlo dropout samples.
        image_std: (B,), standard deviation of the image probability over Monte-Carlo dropout samples.
        attention: Coefficient maps of the four gates, deepest first, each (B, 1, H, W).
        finite: (B,), whether all logits are finite; probabilities do not show that a logit has overflowed.
    """

    probabilities: Tensor
    image_probability: Tensor
    pixel_std: Tensor | None = None
    image_std: Tensor | None = None
    attention: list[Tensor] | None = None
    finite: Tensor | None = None

    def check(self) -> None:
        """Check that the logits are finite; on a GPU, this waits for them.

        Raises: JobError: If some are not.
        """
        if self.finite is not None and not self.finite.all():
            raise non_finite_outputs(self.finite)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Prediction":
        """Apply a function to every tensor.

        Args:
            function: Function of one tensor.
        """

        def apply(field: Any) -> Any:
            return list(map(function, field)) if isinstance(field, list) else function(field)

        return Prediction._make(None if field is None else apply(field) for field in self)

    @classmethod
    def joined(cls, parts: Sequence["Prediction"]) -> "Prediction":
        """Join the predictions for the parts of a batch.

        Args:
            parts: At least one; all have the same fields.
        """
        if len(parts) == 1:
            return parts[0]

        def join(tensors: tuple[Any, ...]) -> Any:
            if tensors[0] is None:
                return None
            if isinstance(tensors[0], list):
                return list(map(torch.cat, zip(*tensors, strict=True)))
            return torch.cat(tensors)

        return cls(*map(join, zip(*parts, strict=True)))

    def images(self) -> Iterator["Prediction"]:
        """Yield the prediction of each image of the batch."""
        for place in range(len(self.probabilities)):
            yield self.map(operator.itemgetter(place))

    def as_dict(self) -> dict[str, Tensor]:
        """Return the tensors by name, without attention and None, as MONAI's engines decollate them.

        One number for each image has the shape (B, 1): decollation would read each of (B,) on the host.
        """
        fields = self._replace(attention=None)._asdict().items()
        return {
            name: tensor.view(len(tensor), 1) if tensor.ndim == 1 else tensor
            for name, tensor in fields
            if tensor is not None
        }


def images_at_once(device: torch.device, size: int) -> int | None:
    """Count the images of a batch that are computed at once, a power of two; None for all.

    A processor computes few pixels at a time, whose features stay in its cache: at 512 px, images one after the other
    take five sixths of the time of a batch of four, in a quarter of the memory.

    Args:
        device: Device of the networks.
        size: Longer side of the images in pixels.
    """
    return 1 << max(0, (_PIXELS_AT_ONCE // size**2).bit_length() - 1) if device.type == "cpu" else None


class Predictor:
    """Apply networks to batches of images.

    The probability of a pixel is the mean over all networks (ensemble), all test-time augmentations and all dropout
    samples. With dropout each image is computed alone and with the same random numbers, so that its prediction does
    not depend on the other images of its batch.

    Args:
        networks: Members of the ensemble, all of one configuration, on the device of *precision*.
        precision: Number format in which the networks compute; means are taken in float32.
        tta: Test-time augmentations: see `augmented`.
        dropout_passes: Monte-Carlo dropout samples; 0 leaves dropout off.
        forwards: Forward passes of the networks as they are now; None computes with the weights that the networks have
            at each call, as in training.

    Raises: ValueError: If `dropout_passes` is 1, or the networks have no dropout to sample from.
    """

    def __init__(
        self,
        networks: Sequence[AttentionUNet],
        *,
        precision: Precision,
        tta: Sequence[str] = (),
        dropout_passes: int = 0,
        forwards: Sequence[Forward] | None = None,
    ) -> None:
        self.networks = tuple(networks)
        self._forwards = tuple(forwards or (plain_forward(network, precision) for network in networks))
        self.precision = precision
        self.tta = tuple(tta)
        self.dropout_passes = dropout_passes
        self._dropouts = dropout_layers(self.networks)
        self._stride = self.networks[0].stride
        if dropout_passes and (dropout_passes < 2 or not self._dropouts):
            raise ValueError(
                f"{dropout_passes} Monte-Carlo dropout samples of networks with {len(self._dropouts)} dropout layers; "
                "at least 2 samples and 1 layer are needed"
            )

    @property
    def has_dropout(self) -> bool:
        """Whether the networks have dropout to sample from."""
        return bool(self._dropouts)

    @torch.no_grad()
    def predict_batch(
        self, images: Tensor, content: Tensor | None = None, *, attention: bool = False, check: bool = True
    ) -> Prediction:
        """Predict for a batch.

        Args:
            images: (B, 1, H, W), standardised as `inference_chain` does it, on any device and of any size: they are
                padded with zeros at the right and the bottom to multiples of the networks' stride, and all results are
                cropped.
            content: (B, 1, H, W), True for the pixels that are not padding of `to_network_size`; None for all.
            attention: Whether to include the attention maps of the untransformed image without dropout.
            check: Whether to check that the logits are finite, which waits for a GPU; otherwise the caller calls
                `Prediction.check`.

        Returns: Tensors on the device of the networks.

        Raises:
            ValueError: If *images* are no such floats, or *content* has another shape.
            JobError: If logits are non-finite.
        """
        if images.ndim != 4 or images.shape[1] != 1 or not images.is_floating_point():
            raise ValueError(
                f"images are {images.dtype} of shape {tuple(images.shape)}; floats of shape (B, 1, H, W), as "
                "`inference_chain` makes them, would fit"
            )
        if content is not None and content.shape != images[:, :1].shape:
            raise ValueError(f"content of shape {tuple(content.shape)} for images of {tuple(images.shape)}")
        at_once = images_at_once(self.precision.device, max(images.shape[-2:])) or len(images)
        contents = [None] * len(images) if content is None else torch.split(content, at_once)
        parts = zip(torch.split(images, at_once), contents, strict=False)
        prediction = Prediction.joined([self.predict_at_once(*part, attention=attention) for part in parts])
        if check:
            prediction.check()
        return prediction

    @torch.no_grad()
    def predict_at_once(
        self, images: Tensor, content: Tensor | None = None, *, attention: bool = False
    ) -> Prediction:
        """Predict for a batch, in one pass whatever its size, as a graph does that is exported; nothing is checked.

        The arguments are those of `predict_batch`.
        """
        images = images.to(self.precision.device, non_blocking=True)
        for network in self.networks:
            if network.training:
                network.eval()
        own = torch.ones_like(images[:, :1], dtype=torch.bool) if content is None else content
        own = own.to(self.precision.device, non_blocking=True)
        if not self.dropout_passes:
            found = self._run(images, tta=self.tta, attention=attention)
            return Prediction(
                found.probabilities, _image_probability(found, own), attention=found.maps, finite=found.finite
            )
        with _DROPOUT:
            sampled = Prediction.joined(
                [self._sample(*one) for one in zip(torch.split(images, 1), torch.split(own, 1), strict=True)]
            )
            maps = self._run(images, tta=(), attention=True).maps if attention else None
        return sampled._replace(attention=maps)

    def _sample(self, image: Tensor, own: Tensor) -> Prediction:
        """Predict for one image from Monte-Carlo dropout samples."""
        pixels, images, heads, finite = RunningStatistics(), RunningStatistics(), _Mean(), _all_true(image)
        with sampling(self._dropouts, self.precision.device):
            for _ in range(self.dropout_passes):
                found = self._run(image, tta=self.tta)
                pixels.add(found.probabilities)
                images.add(_image_probability(found, own))
                if found.heads is not None:
                    heads.add(found.heads)
                finite = finite & found.finite
        mean = _RawPrediction(pixels.mean, heads.value if heads.count else None, finite)
        return Prediction(
            mean.probabilities, _image_probability(mean, own), pixels.std, images.std, finite=finite
        )

    def _run(self, images: Tensor, *, tta: Sequence[str], attention: bool = False) -> "_RawPrediction":
        """Run each network once on each augmented batch."""
        rows, columns = images.shape[-2:]
        padded = functional.pad(images, (0, -columns % self._stride, 0, -rows % self._stride))
        probabilities, heads, maps = _Mean(), _Mean(), [_Mean() for _ in range(GATES)]
        finite = _all_true(padded)
        for forward in self._forwards:
            for index, copy in enumerate(augmented(padded, tta, stride=self._stride)):
                outputs = forward(copy.images)
                finite = finite & _is_finite(outputs.logits[:, :1])
                probabilities.add(copy.restore(torch.sigmoid(outputs.logits[:, :1].float())))
                if outputs.image_logits is not None:
                    finite = finite & _is_finite(outputs.image_logits)
                    heads.add(torch.sigmoid(outputs.image_logits[:, 0].float()))
                if attention and index == 0:
                    for mean, map_ in zip(maps, outputs.maps, strict=True):
                        mean.add(map_.float())
        enlarged = [
            # enlarge before cropping, since a map has the size of its level
            functional.interpolate(mean.value, size=padded.shape[-2:], mode="nearest")[..., :rows, :columns]
            for mean in maps
            if mean.count
        ]
        return _RawPrediction(
            probabilities.value[..., :rows, :columns],
            heads.value if heads.count else None,
            finite,
            enlarged if attention else None,
        )


class _RawPrediction(NamedTuple):
    probabilities: Tensor
    heads: Tensor | None  # (B,), sigmoid of the image head
    finite: Tensor  # (B,), whether all logits are finite
    maps: list[Tensor] | None = None


def _all_true(images: Tensor) -> Tensor:
    return torch.ones(images.shape[0], dtype=torch.bool, device=images.device)


def _is_finite(logits: Tensor) -> Tensor:
    """Tell for each image whether all its logits, (B, ...), are finite."""
    return logits.isfinite().flatten(1).all(1)


def _image_probability(found: _RawPrediction, own: Tensor) -> Tensor:
    of_pixels = top_mean(found.probabilities, own)
    return of_pixels if found.heads is None else (of_pixels + found.heads) / 2


def top_mean(probabilities: Tensor, own: Tensor) -> Tensor:
    """Average the largest 0.1 %, at least one, of the pixels that are not padding.

    This is the image probability of networks without an image head, and half of that of the others.

    Args:
        probabilities: (B, 1, H, W), in [0, 1].
        own: (B, 1, H, W), True for the pixels that are not padding.

    Returns: (B,), float32. The result of an image does not depend on the rest of the batch.
    """
    candidates = probabilities.masked_fill(~own, 0.0).flatten(1)
    count = (own.flatten(1).sum(dim=1) // TOP_SHARE).clamp(min=1)
    largest = candidates.topk(max(1, candidates.shape[1] // TOP_SHARE), dim=1).values.double()
    taken = torch.arange(largest.shape[1], device=largest.device) < count[:, None]
    return (largest.where(taken, 0.0).sum(dim=1) / count).float()


class _Mean:
    """Running mean of a sequence of tensors; at most two of them are in memory."""

    def __init__(self) -> None:
        self.count = 0
        self._total = torch.zeros(())

    def add(self, values: Tensor) -> None:
        self._total = self._total + values if self.count else values
        self.count += 1

    @property
    def value(self) -> Tensor:
        return self._total / self.count
