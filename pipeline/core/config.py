"""Configuration of a training run: frozen models with a description and a check of each key."""

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pneumoseg.models import ENCODER_STRIDE, PLAIN_STRIDE, Encoder
from pneumoseg.pipeline.core.loss_terms import BCETerm, DiceTerm, LossTerm
from pneumoseg.transforms.augmentation import DEFAULT_AUGMENTATIONS, Augmentation

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]
# it has to be a multiple of the network's stride, too: see `check_size`
ImageSize = Annotated[int, Field(ge=PLAIN_STRIDE, le=4096)]
EncoderName = Literal["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"]
IMAGENET: Final = "imagenet"
Channels = Annotated[int, Field(ge=4, le=1024)]  # an attention gate has a quarter of them
ComputedPrecision = Literal["bf16", "fp16", "float32"]
PrecisionName = Literal["auto", "bf16", "fp16", "float32"]
InferencePrecision = Literal["bf16", "fp16", "float32", "int8"]
RuntimeName = Literal["torch", "torch.compile", "onnx", "openvino"]
TTAName = Literal["flip", "scale"]


def _named(items: object) -> object:
    """Replace each plain name in a list by a mapping with this name."""
    if not isinstance(items, list | tuple):
        return items
    return [{"name": item} if isinstance(item, str) else item for item in items]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class NetworkConfig(_Section):
    """Attention U-Net; the defaults are the article's 7,977,941 parameters."""

    encoder: EncoderName | None = None
    """Encoder of a published classification network instead of the article's; null keeps the article's."""
    encoder_weights: Annotated[str, Field(max_length=4096, pattern=r"^[^\x00]*$")] | None = None
    """Initial weights of the encoder: `imagenet` (needs the extra `pretrained`), a safetensors file, or null."""
    in_channels: Annotated[int, Field(ge=1, le=64)] = 3
    """Input channels; a grey image is repeated to fill them."""
    classes: Literal[1] = 1
    """Number of classes: the labels of this task have one."""
    features: tuple[Channels, Channels, Channels, Channels, Channels] = (32, 64, 128, 256, 512)
    """Feature channels of the four levels and of the bottleneck. With an encoder: of the five decoder levels, from
    full resolution down to a sixteenth of it."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Dropout rate between the two convolutions of a level."""
    normalization: Literal["none", "batch", "instance", "group"] = "none"
    """Normalization after each convolution of a level; the article has none."""
    head_prior: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of positive pixels that the untrained network predicts; null keeps the article's output bias of 0."""
    deep_supervision: bool = False
    """Also train on the masks at half, quarter and eighth resolution."""
    image_head: bool = False
    """Also classify the whole image at the bottleneck; its output is half of the image probability of the model."""

    @property
    def stride(self) -> int:
        """Number that image sizes must be multiples of."""
        return ENCODER_STRIDE if self.encoder else PLAIN_STRIDE

    @model_validator(mode="after")
    def _check_encoder(self) -> Self:
        if self.encoder is None and self.encoder_weights is not None:
            raise ValueError(
                f"encoder_weights = {self.encoder_weights}: there is no encoder to load them into; set encoder too, or "
                "encoder_weights to null"
            )
        channels = Encoder.in_channels
        if self.encoder is not None and self.in_channels != channels:
            raise ValueError(
                f"in_channels = {self.in_channels}: {self.encoder} takes {channels}; a grey image is repeated"
            )
        return self


class Stage(_Section):
    """Epochs at a lower resolution, before those at the final one."""

    image_size: ImageSize
    """Side of the square input of the network, in pixels."""
    epochs: Count
    """Passes over the training folds."""
    accumulate: Count = 1
    """Gradient accumulation steps (micro-batches)."""
    crop: ImageSize | None = None
    """Side of the random crops that the network is trained on, in pixels; null trains on whole images."""


class DataConfig(_Section):
    """Size and sampling of the training images."""

    image_size: ImageSize = 256
    """Side of the square input of the network, in pixels."""
    stages: tuple[Stage, ...] = ()
    """Lower resolutions that come first: a list of {image_size, epochs, accumulate, crop}."""
    batch_size: Count = 16
    """Images per step."""
    accumulate: Count = 1
    """Gradient accumulation steps: micro-batches that a batch is split into, to save memory."""
    crop: ImageSize | None = None
    """Side of the random crops that the network is trained on, in pixels; validation and inference always use whole
    images. Half of the crops of an image with a pneumothorax are placed to contain some of it. Null trains on
    whole images."""
    positive_rate: Fraction | None = 0.5
    """Share of images with a pneumothorax among those sampled; null samples each image once an epoch."""
    final_positive_rate: Fraction | Literal["prior"] | None = None
    """Share at the end of the run, reached linearly; prior is that of the training set; null keeps positive_rate.
    Without effect where positive_rate is null."""


class OptimizationConfig(_Section):
    """Loss, optimizer, schedule and averaging of weights."""

    epochs: Count = 60
    """Passes over the training folds, at the final resolution."""
    loss: Annotated[tuple[LossTerm, ...], Field(min_length=1), BeforeValidator(_named)] = (
        BCETerm(),
        DiceTerm(),
    )
    """Loss terms, which are summed with their weights."""
    deep_weight: Weight = 0.5
    """Weight of the loss at half resolution, with network.deep_supervision; halved at each further level."""
    image_weight: Weight = 0.1
    """Weight of the cross-entropy of whole images, with network.image_head."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """Optimizer; sgd has Nesterov momentum."""
    learning_rate: Positive = 1e-3
    """Highest learning rate of the schedule."""
    encoder_rate: Weight = 1.0
    """Factor for the learning rate of a pretrained encoder."""
    freeze_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs at the start of the run in which the encoder's weights do not change."""
    freeze_norm: bool = False
    """Freeze the running statistics of all batch normalization layers of the encoder."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of sgd."""
    weight_decay: Weight = 1e-4
    """Weight decay of the optimizer."""
    schedule: Literal["cosine", "one-cycle", "warm-restarts", "plateau", "constant"] = "cosine"
    """Learning rate schedule after the warm-up."""
    warmup_epochs: Weight = 1.0
    """Epochs over which the learning rate rises at the start."""
    cycle_rise: Fraction = 0.3
    """Share of the run in which the learning rate of one-cycle rises."""
    cycles: Count = 3
    """Number of cycles of warm-restarts."""
    plateau_patience: Count = 5
    """Epochs without a better Dice that plateau waits for before it lowers the learning rate at the next one."""
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Factor by which plateau lowers the learning rate."""
    clip_norm: Positive | None = 1.0
    """Norm to which larger gradients are scaled down; null does not clip."""
    on_bad_step: Literal["stop", "skip"] = "stop"
    """Action if loss or gradients are non-finite (NaN or Inf): stop the run, or skip the step."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of the exponential moving average of the weights, which is validated and kept instead of them; null for
    none."""
    keep: Literal["best", "last"] = "best"
    """Epochs that become the model: those that validate best, or the last ones, so that the scores of the held-out fold
    are free of that choice. last validates nothing else either: it ignores patience, and keeps any average."""
    average: Literal["none", "top", "swa", "ensemble"] = "none"
    """Average at the end of the run. top averages the weights of the kept epochs, swa those of the last epochs; either
    is kept if it validates better than the best epoch. ensemble averages the probabilities of the kept epochs, which
    all become members of the model."""
    average_top: Annotated[int, Field(ge=2)] = 3
    """Number of epochs that top and ensemble average."""
    average_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Share of the epochs at the final resolution that swa averages, counted from the end."""
    patience: Count | None = 20
    """Stop after this many epochs without a better validation, by Dice or, if that is equal, by AUC and then by the
    Dice on positives; the wait begins once an epoch is better than predicting nothing. null never stops early."""


class TrainConfig(_Section):
    """Configuration of a training run; ``pneumoseg train --config FILE --set section.key=value`` changes it."""

    network: NetworkConfig = NetworkConfig()
    data: DataConfig = DataConfig()
    augmentation: Annotated[tuple[Augmentation, ...], BeforeValidator(_named)] = DEFAULT_AUGMENTATIONS
    """Augmentations of an image and its label, in this order; [] for none."""
    optimization: OptimizationConfig = OptimizationConfig()
    tta: tuple[TTAName, ...] = ()
    """Test-time augmentations of the trained model: a list of flip and scale. Probabilities are averaged, and the
    operating point is searched on the averages."""
    precision: PrecisionName = "auto"
    """Number format of the forward pass. auto is bf16 where the device has instructions for it, fp16 on other GPUs with
    tensor cores, and float32 otherwise; fp16 needs CUDA. With float32, a GPU may compute convolutions in TF32, as is
    torch's default."""
    channels_last: bool = True
    """Use the channels-last memory format; results are the same. Most networks are
    faster with it; on a GPU, those with group or instance normalization are not."""
    compile: bool = False
    """Compile the forward pass with torch.compile; needs a C++ compiler. Faster on many GPUs, not on a processor."""
    deterministic: bool = False
    """Use deterministic algorithms only; slower on a GPU, without effect on a processor."""
    save_minutes: Positive = 10.0
    """Minutes between checkpoints within an epoch; each epoch also ends with one."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of all randomness of the run."""

    @property
    def uses_batch_statistics(self) -> bool:
        """Whether a normalization is trained with the statistics of its batch, which micro-batches would change."""
        with_encoder = self.network.encoder is not None and not self.optimization.freeze_norm
        return self.network.normalization == "batch" or with_encoder

    @model_validator(mode="after")
    def _check_accumulation(self) -> Self:
        """Refuse batch statistics with accumulation: those of micro-batches would change the training."""
        accumulates = max(self.data.accumulate, *(stage.accumulate for stage in self.data.stages), 1) > 1
        if not (accumulates and self.uses_batch_statistics):
            return self
        if self.network.normalization == "batch":
            raise ValueError(
                "data.accumulate above 1 with network.normalization batch: batch statistics would be those of a "
                "micro-batch; group or instance normalization, or accumulate 1, would fit"
            )
        raise ValueError(
            f"data.accumulate above 1 with network.encoder {self.network.encoder}: its batch statistics would be "
            "those of a micro-batch; optimization.freeze_norm=true, or accumulate 1, would fit"
        )

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        parts: dict[str, Stage | DataConfig] = {
            "data": self.data,
            **{f"data.stages.{index}": stage for index, stage in enumerate(self.data.stages)},
        }
        for name, part in parts.items():
            check_size(f"{name}.image_size", part.image_size, stride=self.network.stride)
            if part.crop is None:
                continue
            check_size(f"{name}.crop", part.crop, stride=self.network.stride)
            if part.crop > part.image_size:
                raise ValueError(
                    f"{name}.crop = {part.crop}: a crop cannot be larger than {name}.image_size = "
                    f"{part.image_size}; give a smaller crop, or null for whole images"
                )
        return self

    @model_validator(mode="after")
    def _check_bottleneck(self) -> Self:
        """Refuse the statistics of a single number, which normalize it to 0: that of a bottleneck of one pixel."""
        stride = self.network.stride
        parts: list[Stage | DataConfig] = [self.data, *self.data.stages]
        sizes = [part.crop or part.image_size for part in parts]
        of_each_image = self.network.encoder is None and self.network.normalization == "instance"
        of_batch = self.uses_batch_statistics and self.data.batch_size == 1
        if min(sizes) > stride or not (of_each_image or of_batch):
            return self
        what, fit = (
            ("network.normalization instance", "")
            if of_each_image
            else ("data.batch_size = 1 with batch normalization", ", or a larger batch,")
        )
        raise ValueError(
            f"{what}: at {stride} px the bottleneck has one pixel, and one number has no statistics; images and crops "
            f"of {2 * stride} px{fit} would fit"
        )


def check_size(name: str, size: int, *, stride: int) -> None:
    """Check that a network accepts images of a size.

    Args:
        name: Key of the configuration that holds the size.
        size: Side of a square, in pixels.
        stride: Number that sides must be multiples of.

    Raises: ValueError: If the size is no multiple; the message names the nearest ones.
    """
    if size % stride:
        smaller = size // stride * stride
        fit = f"{smaller} or {smaller + stride}" if smaller else f"{stride}"
        raise ValueError(f"{name} = {size}: the network needs a multiple of {stride}; {fit} would fit")
