"""The Attention U-Net, assembled from encoder, attention gates and decoder."""

from collections.abc import Callable, Sequence
from functools import partial
from math import log
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from pneumoseg.models.blocks import (
    AttentionGate,
    DoubleConvolution,
    Normalization,
    initialise_as_keras_does,
)
from pneumoseg.models.encoders.encoder import Encoder

LEVELS: Final = 5  # of the decoder; the fifth of the plain network is its bottleneck
PLAIN_STRIDE: Final = 16  # the plain network halves an image four times, without remainder
ENCODER_STRIDE: Final = 32  # an encoder halves it five times
LEAST_HIDDEN: Final = 8  # channels within a gate of a network with an encoder, whose decoder may be narrow


class TrainingOutputs(NamedTuple):
    """Outputs of the network in training.

    Attributes:
        logits: (B, classes, H, W)
        deep_logits: Logits of the levels 2, 3 and 4: (B, classes, H / 2, W / 2) and smaller; empty without deep
            supervision.
        image_logits: (B, classes), whether the image is positive; None without an image head.
    """

    logits: Tensor
    deep_logits: list[Tensor]
    image_logits: Tensor | None


class NetworkOutputs(NamedTuple):
    """All outputs of one forward pass that inference uses.

    Attributes:
        logits: (B, classes, H, W)
        image_logits: (B, classes), logit that the class is present anywhere; None without an image head.
        maps: Coefficient maps of the four gates, each (B, 1, h, w), deepest first.
    """

    logits: Tensor
    image_logits: Tensor | None
    maps: list[Tensor]


class AttentionUNet(nn.Module):
    """A U-Net whose skip connections pass through attention gates; logits out.

    By default the network of the Keras article layer for layer, 7,977,941 parameters: no normalization,
    nearest-neighbour upsampling that keeps its channels, weights initialised as in Keras.

    With an `encoder` the deepest level is the encoder's map at stride 32. Its maps at strides 16, 8, 4 and 2 are
    the gated skip connections, and a level without a skip connection brings the result to full resolution.

    The memory format channels last changes only the speed: after ``network.to(memory_format=torch.channels_last)`` the
    results are the same, and on most processors they come faster.

    Args:
        encoder: Encoder instead of the article's, with its weights; the decoder is then initialised around it.
        in_channels: Channels of the first convolution. A one-channel image is repeated to fill them.
        classes: Structures to segment, each with a logit of its own.
        features: Channels of the five levels, from full resolution down to the bottleneck. With an encoder:
            channels of the five levels of the decoder, from full resolution down to a sixteenth of it.
        dropout: Share of the elements that is zeroed between the convolutions of a level in training.
        normalization: After each convolution of a level: ``none``, ``batch``, ``instance`` or ``group``.
        head_prior: Probability that the untrained heads give to each pixel; None starts their biases at zero.
        deep_supervision: Return logits at the lower levels too, in training.
        image_head: Classify the whole image at the bottleneck.

    Attributes:
        stride: Number that rows and columns of an image must be multiples of: 16, or 32 with an encoder.

    Shape:
        image: (B, in_channels or 1, H, W), H and W multiples of `stride`
        returns: (B, classes, H, W), logits

    Raises:
        ValueError: If `features`, `in_channels` or, later, an image does not fit.
    """

    def __init__(
        self,
        *,
        encoder: Encoder | None = None,
        in_channels: int = 3,
        classes: int = 1,
        features: Sequence[int] = (32, 64, 128, 256, 512),
        dropout: float = 0.2,
        normalization: Normalization = "none",
        head_prior: float | None = None,
        deep_supervision: bool = False,
        image_head: bool = False,
    ) -> None:
        super().__init__()
        if len(features) != LEVELS or min(features) < 4:  # a gate works with a quarter of the channels
            raise ValueError(
                f"features {tuple(features)}: wanted are {LEVELS} numbers of channels, each at least 4"
            )
        if encoder is not None and in_channels != encoder.in_channels:
            raise ValueError(f"in_channels {in_channels}: the encoder takes {encoder.in_channels} channels")
        f1, f2, f3, f4, f5 = features
        self.in_channels = in_channels
        self.stride = PLAIN_STRIDE if encoder is None else ENCODER_STRIDE
        level = partial(DoubleConvolution, dropout=dropout, normalization=normalization)
        gate = partial(_make_gate, least_hidden=0 if encoder is None else LEAST_HIDDEN)

        self.join: Callable[[Tensor, Tensor], Any] = _concatenate  # see `rewrite_for_inference`
        self.encoder = encoder
        if encoder is None:
            s1, s2, s3, s4 = f1, f2, f3, f4  # channels of the skip connections
            bottleneck_channels = f5
            self.encoder1 = level(in_channels, f1)
            self.pool1 = nn.MaxPool2d(2)
            self.encoder2 = level(f1, f2)
            self.pool2 = nn.MaxPool2d(2)
            self.encoder3 = level(f2, f3)
            self.pool3 = nn.MaxPool2d(2)
            self.encoder4 = level(f3, f4)
            self.pool4 = nn.MaxPool2d(2)
            self.bottleneck = level(f4, f5)
        else:
            s1 = 0
            s2, s3, s4, s5, bottleneck_channels = encoder.channels
            self.up5 = nn.Upsample(scale_factor=2, mode="nearest")
            self.gate5 = gate(skip_channels=s5, gate_channels=bottleneck_channels)
            self.decoder5 = level(bottleneck_channels + s5, f5)

        self.up4 = nn.Upsample(scale_factor=2, mode="nearest")
        self.gate4 = gate(skip_channels=s4, gate_channels=f5)
        self.decoder4 = level(f5 + s4, f4)
        self.up3 = nn.Upsample(scale_factor=2, mode="nearest")
        self.gate3 = gate(skip_channels=s3, gate_channels=f4)
        self.decoder3 = level(f4 + s3, f3)
        self.up2 = nn.Upsample(scale_factor=2, mode="nearest")
        self.gate2 = gate(skip_channels=s2, gate_channels=f3)
        self.decoder2 = level(f3 + s2, f2)
        self.up1 = nn.Upsample(scale_factor=2, mode="nearest")
        if encoder is None:
            self.gate1 = gate(skip_channels=s1, gate_channels=f2)
        self.decoder1 = level(f2 + s1, f1)

        self.head = nn.Conv2d(f1, classes, kernel_size=1)
        self.deep_heads = nn.ModuleList(
            nn.Conv2d(features, classes, kernel_size=1) for features in (f2, f3, f4) if deep_supervision
        )
        self.image_head = nn.Linear(bottleneck_channels, classes) if image_head else None
        for part in self.children():
            if part is not encoder:
                part.apply(initialise_as_keras_does)
        if head_prior is not None:
            for head in (self.head, *self.deep_heads):
                nn.init.constant_(head.bias, log(head_prior / (1 - head_prior)))

    @property
    def gate_names(self) -> tuple[str, ...]:
        """Names of the four gates, in the order of their maps: the deepest is first."""
        return tuple(name for name, part in self.named_children() if isinstance(part, AttentionGate))

    def forward(self, image: Tensor) -> Tensor:
        """Compute the logits.

        Args:
            image: (B, in_channels or 1, H, W), H and W multiples of `stride`

        Returns: (B, classes, H, W)
        Raises: ValueError: If the shape of the image does not fit.
        """
        return self.head(self._decode(image).levels[0])  # type: ignore[no-any-return]

    def outputs(self, image: Tensor) -> NetworkOutputs:
        """Compute all outputs for inference in one forward pass.

        Args:
            image: (B, in_channels or 1, H, W), H and W multiples of `stride`
        """
        decoded = self._decode(image)
        return NetworkOutputs(self.head(decoded.levels[0]), self._image_logits(decoded), decoded.maps)

    def forward_for_training(self, image: Tensor) -> TrainingOutputs:
        """Compute the logits of all heads.

        Args:
            image: (B, in_channels or 1, H, W), H and W multiples of `stride`
        """
        decoded = self._decode(image)
        return TrainingOutputs(
            logits=self.head(decoded.levels[0]),
            deep_logits=[
                head(level) for head, level in zip(self.deep_heads, decoded.levels[1:], strict=False)
            ],
            image_logits=self._image_logits(decoded),
        )

    def _image_logits(self, decoded: "_Decoded") -> Tensor | None:
        return None if self.image_head is None else self.image_head(decoded.bottleneck.mean(dim=(2, 3)))

    def _decode(self, image: Tensor) -> "_Decoded":
        # A grey image goes to an encoder as three equal channels. Images are standardised one by one to mean 0 and
        # standard deviation 1, which is close enough to the normalisation that pretrained weights have seen.
        image = self._with_all_channels(image)

        if self.encoder is None:
            skip1 = self.encoder1(image)
            skip2 = self.encoder2(self.pool1(skip1))
            skip3 = self.encoder3(self.pool2(skip2))
            skip4 = self.encoder4(self.pool3(skip3))

            deep5 = bottleneck = self.bottleneck(self.pool4(skip4))
        else:
            skip2, skip3, skip4, skip5, bottleneck = self.encoder(image)

            up = self.up5(bottleneck)
            gated, map5 = self.gate5(skip5, up)
            deep5 = self.decoder5(self.join(up, gated))

        up = self.up4(deep5)
        gated, map4 = self.gate4(skip4, up)
        deep4 = self.decoder4(self.join(up, gated))

        up = self.up3(deep4)
        gated, map3 = self.gate3(skip3, up)
        deep3 = self.decoder3(self.join(up, gated))

        up = self.up2(deep3)
        gated, map2 = self.gate2(skip2, up)
        deep2 = self.decoder2(self.join(up, gated))

        up = self.up1(deep2)
        if self.encoder is None:
            gated, map1 = self.gate1(skip1, up)
            deep1 = self.decoder1(self.join(up, gated))
            maps = [map4, map3, map2, map1]
        else:
            deep1 = self.decoder1(up)
            maps = [map5, map4, map3, map2]

        return _Decoded([deep1, deep2, deep3, deep4], bottleneck, maps)

    def _with_all_channels(self, image: Tensor) -> Tensor:
        """Check the shape of an image, and repeat a one-channel image; caches and loaders hold one channel."""
        if image.ndim != 4 or image.shape[1] not in {1, self.in_channels}:
            wanted = "1" if self.in_channels == 1 else f"1 or {self.in_channels}"
            raise ValueError(
                f"an image of shape {tuple(image.shape)} does not fit: "
                f"the network takes (B, C, H, W) with {wanted} channels"
            )
        rows, columns = image.shape[2:]
        if rows % self.stride or columns % self.stride:
            fit = [-(-size // self.stride) * self.stride for size in (rows, columns)]
            raise ValueError(
                f"an image of {rows}x{columns} pixels does not fit: rows and columns must be "
                f"multiples of {self.stride}; pad it to {fit[0]}x{fit[1]} and crop the result"
            )
        return image if image.shape[1] == self.in_channels else image.expand(-1, self.in_channels, -1, -1)


def _make_gate(*, skip_channels: int, gate_channels: int, least_hidden: int) -> AttentionGate:
    """Make a gate that works with a quarter of the gate signal's channels, as in the article."""
    hidden = max(gate_channels // 4, least_hidden)
    return AttentionGate(skip_channels=skip_channels, gate_channels=gate_channels, hidden_channels=hidden)


def _concatenate(up: Tensor, gated: Tensor) -> Tensor:
    return torch.cat([up, gated], dim=1)


class TrainingForward(nn.Module):
    """The forward pass of training as a module, for what calls or traces one, such as `DistributedDataParallel`.

    Args:
        network: Network to train or to trace.
    """

    def __init__(self, network: AttentionUNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> TrainingOutputs:
        """Run the network.

        Args:
            image: Images, (B, 1, H, W).

        Returns: Outputs of all heads.
        """
        return self.network.forward_for_training(image)


class _Decoded(NamedTuple):
    levels: list[Tensor]  # full resolution first
    bottleneck: Tensor
    maps: list[Tensor]  # of the gates, deepest first
