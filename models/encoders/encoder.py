"""What the decoder of the Attention U-Net needs of an encoder."""

from abc import abstractmethod
from typing import ClassVar, Self

from torch import Tensor, nn


class Encoder(nn.Module):
    """Base of encoders: five feature maps of an image, at strides 2, 4, 8, 16 and 32.

    Args:
        channels: Channels of the five maps, the largest map first.

    Attributes:
        in_channels: Channels of the image; a grey one is repeated to fill them.
        norm_frozen: Whether the running statistics of the batch normalization stay as they are while training.

    Shape:
        image: (B, in_channels, H, W), H and W multiples of 32
        returns: five maps, (B, channels, H / 2, W / 2) to (B, channels, H / 32, W / 32)
    """

    in_channels: ClassVar[int] = 3

    def __init__(self, channels: tuple[int, int, int, int, int]) -> None:
        super().__init__()
        self.channels = channels
        self.norm_frozen = False

    @abstractmethod
    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the feature maps.

        Args:
            image: (B, in_channels, H, W), H and W multiples of 32

        Returns: Five feature maps, the largest first.
        """

    def train(self, mode: bool = True) -> Self:
        """Switch to training mode, unless `norm_frozen`; only the normalization differs between the two modes.

        Args:
            mode: Whether to switch to training mode instead of evaluation mode.
        """
        return super().train(mode and not self.norm_frozen)
