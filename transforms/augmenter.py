"""Augmentation of whole batches on any device, by numbers that were sampled for each image from its own seed."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from monai.transforms.transform import Randomizable, Transform
from torch import Tensor

from pneumoseg.transforms.augmentation import Augmentation
from pneumoseg.transforms.cropping import crop
from pneumoseg.transforms.network_input import PixelStatistics, pixel_statistics, standardize

Floats = npt.NDArray[np.float32]
_SHAPE: Final = slice(0, 2)  # of the original image
_CROP: Final = slice(2, 6)
_FIRST: Final = 6


class Augmented(NamedTuple):
    """Batch that has been augmented.

    Attributes:
        image: Standardised images, (B, 1, size, size).
        label: Share of each pixel that is pneumothorax, of the same shape.
        positive: 1 where the image, or its crop, shows a pneumothorax, else 0, (B,).
    """

    image: Tensor
    label: Tensor
    positive: Tensor


class Augmenter:
    """Augment cached cases.

    An image is standardised by its statistics before the augmentation: those of the augmented image would undo each
    change of brightness and contrast. A crop follows the last geometric augmentation, so that a rotation does not bring
    in black corners, and precedes the others, which saves computation.

    All randomness is sampled on the host, by `sample`, so that an image is augmented in the same way, up to rounding,
    on each device, in each batch and by any number of loader processes. On a processor, a batch is augmented image by
    image, which keeps it in the cache; on other devices all images of a batch that an augmentation was sampled for are
    changed at once.

    Args:
        augmentations: Augmentations in the order of their application.
        image_size: Side of the cached images in pixels.
        crop: Side of a random square crop in pixels; None keeps the whole image.
    """

    def __init__(
        self, augmentations: Sequence[Augmentation], *, image_size: int, crop: int | None = None
    ) -> None:
        self.image_size = image_size
        self.crop = crop
        moving = [place for place, each in enumerate(augmentations, start=1) if each.moves_pixels]
        self._split = max(moving, default=0)
        self._parts: list[tuple[Augmentation, slice]] = []  # with the place of its numbers
        self._width = _FIRST
        for place, each in enumerate(augmentations):
            first = self._width
            self._width += 1 + each.sample(np.random.default_rng(0), self._size_at(place)).size
            self._parts.append((each, slice(first, self._width)))

    def _size_at(self, place: int) -> int:
        """Return the side in pixels of the images that an augmentation is applied to."""
        return self.image_size if place < self._split or self.crop is None else self.crop

    def sample(self, seed: int, shape: tuple[int, int]) -> Floats:
        """Sample the numbers that augment one image.

        Args:
            seed: Seed of the image.
            shape: ``(rows, columns)`` of the original image in pixels, which determines its placement in the square.

        Returns: Numbers for this image, as many for each.
        """
        random = np.random.default_rng(seed)
        numbers = np.zeros(self._width, dtype=np.float32)
        numbers[_SHAPE] = shape
        numbers[_CROP] = random.random(4)
        for place, (augmentation, own) in enumerate(self._parts):
            if random.random() < augmentation.prob:
                numbers[own.start] = 1
                numbers[own.start + 1 : own.stop] = augmentation.sample(random, self._size_at(place)).ravel()
        return numbers

    def __call__(self, pixels: Tensor, numbers: Tensor, positive: Tensor) -> Augmented:
        """Augment a batch on the device of *pixels*.

        Args:
            pixels: Grey and label of each case, (B, 2, image_size, image_size); uint8, or floats in [0, 1],
                which are overwritten.
            numbers: What `sample` returned for each image, (B, n); on the host, which decides what is computed.
            positive: 1 for cases with a pneumothorax, else 0, (B,); on the host.
        """
        if pixels.device.type != "cpu" or len(pixels) == 1:
            return self._augment(pixels, numbers, positive)
        singles = [
            self._augment(*(each[place : place + 1] for each in (pixels, numbers, positive)))
            for place in range(len(pixels))
        ]
        return Augmented(*(torch.cat(each) for each in zip(*singles, strict=True)))

    def _augment(self, pixels: Tensor, numbers: Tensor, positive: Tensor) -> Augmented:
        device = pixels.device
        on_device = numbers.to(device, non_blocking=True)
        pair = pixels.float() if pixels.is_floating_point() else pixels.float().div_(255)
        measured = [
            pixel_statistics(image[:1], (rows, columns))
            for image, (rows, columns) in zip(pair, numbers[:, _SHAPE].int().tolist(), strict=True)
        ]
        statistics = PixelStatistics(
            *(torch.stack(each).view(-1, 1, 1, 1) for each in zip(*measured, strict=True))
        )
        is_positive = bool(positive.any())  # else the label is empty, and is not resampled
        for augmentation, where, strength in self._chosen(slice(0, self._split), numbers, on_device):
            own = pair if augmentation.moves_pixels and is_positive else pair[:, :1]
            changed = _apply(augmentation, own, where, strength)
            pair = changed if own is pair else torch.cat([changed, pair[:, 1:]], dim=1)
        batch = Augmented(pair[:, :1], pair[:, 1:], positive.to(device, non_blocking=True))
        if self.crop is not None:
            batch = Augmented(*crop(*batch, on_device[:, _CROP], size=self.crop))
        image = batch.image
        for augmentation, where, strength in self._chosen(slice(self._split, None), numbers, on_device):
            image = _apply(augmentation, image, where, strength)
        return batch._replace(
            image=standardize(image.clamp_(0, 1), statistics), label=batch.label.clamp_(0, 1)
        )

    def _chosen(
        self, parts: slice, numbers: Tensor, on_device: Tensor
    ) -> Iterator[tuple[Augmentation, Tensor | None, Tensor]]:
        """Yield the augmentations of any image: the images, or None for all, and the strength for each of them."""
        for augmentation, place in self._parts[parts]:
            (chosen,) = numbers[:, place.start].numpy().nonzero()
            strength = on_device[:, place.start + 1 : place.stop]
            if chosen.size == len(numbers):
                yield augmentation, None, strength
            elif chosen.size:
                where = torch.from_numpy(chosen).to(on_device.device, non_blocking=True)
                yield augmentation, where, strength.index_select(0, where)


def _apply(augmentation: Augmentation, images: Tensor, where: Tensor | None, strength: Tensor) -> Tensor:
    """Apply an augmentation to the images at some places of the batch, or to all."""
    if where is None:
        return augmentation.apply(images, strength)
    changed = augmentation.apply(images.index_select(0, where), strength)
    return images.index_copy(0, where, changed)


class RandAugmentd(Randomizable, Transform):
    """MONAI transform that augments and standardises one cached case with `Augmenter`.

    Args:
        augmenter: Augmentations to apply.
    """

    def __init__(self, augmenter: Augmenter) -> None:
        self.augmenter = augmenter

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Augment ``image`` and ``label`` in a copy of *data*.

        Args:
            data: ``image`` and ``label``, float32 of shape (1, size, size); ``shape``, the original (rows, columns);
                with a crop also ``positive``, which becomes 0 where the crop shows no pneumothorax.
        """
        numbers = self.augmenter.sample(int(self.R.randint(2**32, dtype=np.uint32)), data["shape"])
        pair = torch.cat([torch.as_tensor(data[key]) for key in ("image", "label")])
        positive = torch.as_tensor(data["positive"] if "positive" in data else data["label"].max() > 0)
        augmented = self.augmenter(pair[None], torch.from_numpy(numbers)[None], positive.float()[None])
        changed: dict[Hashable, Any] = {"image": augmented.image[0], "label": augmented.label[0]}
        if "positive" in data:
            changed["positive"] = augmented.positive[0]
        return {**data, **changed}
