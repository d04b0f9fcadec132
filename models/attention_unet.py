"""The Attention U-Net: encoder, gates and decoder put together. `forward` is the figure."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pneumoseg.models.attention_gate import AttentionGate
from pneumoseg.models.blocks import DoubleConvolution, Normalization, initialise_as_keras_does

LEVELS = 5  # four that are halved and doubled again, and the bottleneck between
SIZE_MULTIPLE = 2 ** (LEVELS - 1)  # an image is halved four times, without remainder


class TrainingOutputs(NamedTuple):
    """What the network says while it learns.

    Attributes:
        logits: (B, classes, H, W)
        deep_logits: Of the levels 2, 3 and 4: (B, classes, H / 2, W / 2) and smaller; empty without deep supervision.
        image_logits: (B, classes), whether there is any; None without an image head.
    """

    logits: Tensor
    deep_logits: list[Tensor]
    image_logits: Tensor | None


class AttentionUNet(nn.Module):
    """A U-Net whose skip connections pass through attention gates; logits out.

    The network of the Keras article layer for layer, 7,977,941 parameters by default: no normalisation,
    nearest-neighbour upsampling that keeps its channels, initial weights as Keras draws them.

    Channels last is a memory format here, and not another network: after
    ``network.to(memory_format=torch.channels_last)`` the results are the same, and on most processors faster.

    Args:
        in_channels: Channels of the first convolution. A one-channel image is repeated to fill them.
        classes: Structures to find, each with a logit of its own.
        features: Channels of the five levels, from full resolution down to the bottleneck.
        dropout: Share of the elements that is zeroed between the convolutions of a level while training.
        normalization: After each convolution of a level: ``none``, ``batch``, ``instance`` or ``group``.
        deep_supervision: Give logits at the lower levels too, while training.
        image_head: Say at the bottleneck whether there is any, while training.

    Shape:
        image: (B, in_channels or 1, H, W), H and W multiples of 16
        returns: (B, classes, H, W), logits

    Raises:
        ValueError: If `features` or, later, an image does not fit.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        classes: int = 1,
        features: Sequence[int] = (32, 64, 128, 256, 512),
        dropout: float = 0.2,
        normalization: Normalization = "none",
        deep_supervision: bool = False,
        image_head: bool = False,
    ) -> None:
        super().__init__()
        if len(features) != LEVELS or min(features) < 4:  # a gate works with a quarter of the channels
            raise ValueError(
                f"features {tuple(features)}: wanted are {LEVELS} numbers of channels, each at least 4"
            )
        f1, f2, f3, f4, f5 = features
        self.in_channels = in_channels
        level = partial(DoubleConvolution, dropout=dropout, normalization=normalization)

        self.encoder1 = level(in_channels, f1)
        self.pool1 = nn.MaxPool2d(2)
        self.encoder2 = level(f1, f2)
        self.pool2 = nn.MaxPool2d(2)
        self.encoder3 = level(f2, f3)
        self.pool3 = nn.MaxPool2d(2)
        self.encoder4 = level(f3, f4)
        self.pool4 = nn.MaxPool2d(2)

        self.bottleneck = level(f4, f5)

        self.up4 = nn.Upsample(scale_factor=2, mode="nearest")
        self.gate4 = AttentionGate(skip_channels=f4, gate_channels=f5, hidden_channels=f5 // 4)
        self.decoder4 = level(f5 + f4, f4)
        self.up3 = nn.Upsample(scale_factor=2, mode="nearest")
        self.gate3 = AttentionGate(skip_channels=f3, gate_channels=f4, hidden_channels=f4 // 4)
        self.decoder3 = level(f4 + f3, f3)
        self.up2 = nn.Upsample(scale_factor=2, mode="nearest")
        self.gate2 = AttentionGate(skip_channels=f2, gate_channels=f3, hidden_channels=f3 // 4)
        self.decoder2 = level(f3 + f2, f2)
        self.up1 = nn.Upsample(scale_factor=2, mode="nearest")
        self.gate1 = AttentionGate(skip_channels=f1, gate_channels=f2, hidden_channels=f2 // 4)
        self.decoder1 = level(f2 + f1, f1)

        self.head = nn.Conv2d(f1, classes, kernel_size=1)
        self.deep_heads = nn.ModuleList(
            nn.Conv2d(features, classes, kernel_size=1) for features in (f2, f3, f4) if deep_supervision
        )
        self.image_head = nn.Linear(f5, classes) if image_head else None
        self.apply(initialise_as_keras_does)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits, (B, classes, H, W)."""
        return self.head(self._decode(image).levels[0])  # type: ignore[no-any-return]

    def probabilities(self, image: Tensor) -> Tensor:
        """Return the probabilities, (B, classes, H, W), as float32 also under autocast."""
        return torch.sigmoid(self(image).float())

    def attention(self, image: Tensor) -> list[Tensor]:
        """Return the coefficient maps of the four gates, each (B, 1, h, w), deepest first."""
        return self._decode(image).maps

    def forward_with_attention(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits and the maps of the gates, for the price of the logits."""
        decoded = self._decode(image)
        return self.head(decoded.levels[0]), decoded.maps

    def forward_for_training(self, image: Tensor) -> TrainingOutputs:
        """Return the logits and what the additional heads say, where there are such."""
        decoded = self._decode(image)
        image_head = self.image_head
        return TrainingOutputs(
            logits=self.head(decoded.levels[0]),
            deep_logits=[
                head(level) for head, level in zip(self.deep_heads, decoded.levels[1:], strict=False)
            ],
            image_logits=None if image_head is None else image_head(decoded.bottleneck.mean(dim=(2, 3))),
        )

    def _decode(self, image: Tensor) -> "_Decoded":
        image = self._with_all_channels(image)

        skip1 = self.encoder1(image)
        skip2 = self.encoder2(self.pool1(skip1))
        skip3 = self.encoder3(self.pool2(skip2))
        skip4 = self.encoder4(self.pool3(skip3))

        bottleneck = self.bottleneck(self.pool4(skip4))

        up = self.up4(bottleneck)
        gated, map4 = self.gate4(skip4, up)
        deep4 = self.decoder4(torch.cat([up, gated], dim=1))

        up = self.up3(deep4)
        gated, map3 = self.gate3(skip3, up)
        deep3 = self.decoder3(torch.cat([up, gated], dim=1))

        up = self.up2(deep3)
        gated, map2 = self.gate2(skip2, up)
        deep2 = self.decoder2(torch.cat([up, gated], dim=1))

        up = self.up1(deep2)
        gated, map1 = self.gate1(skip1, up)
        deep1 = self.decoder1(torch.cat([up, gated], dim=1))

        return _Decoded([deep1, deep2, deep3, deep4], bottleneck, [map4, map3, map2, map1])

    def _with_all_channels(self, image: Tensor) -> Tensor:
        """Check the shape of an image, and repeat a grey one: caches and loaders hold one channel."""
        if image.ndim != 4 or image.shape[1] not in {1, self.in_channels}:
            wanted = "1" if self.in_channels == 1 else f"1 or {self.in_channels}"
            raise ValueError(
                f"an image of shape {tuple(image.shape)} does not fit: "
                f"the network takes (B, C, H, W) with {wanted} channels"
            )
        rows, columns = image.shape[2:]
        if rows % SIZE_MULTIPLE or columns % SIZE_MULTIPLE:
            fit = [-(-size // SIZE_MULTIPLE) * SIZE_MULTIPLE for size in (rows, columns)]
            raise ValueError(
                f"an image of {rows}x{columns} pixels does not fit: rows and columns must be "
                f"multiples of {SIZE_MULTIPLE}; pad it to {fit[0]}x{fit[1]} and crop the result"
            )
        return image if image.shape[1] == self.in_channels else image.expand(-1, self.in_channels, -1, -1)


class _Decoded(NamedTuple):
    levels: list[Tensor]  # full resolution first
    bottleneck: Tensor
    maps: list[Tensor]  # of the gates, deepest first
