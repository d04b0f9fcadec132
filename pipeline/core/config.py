"""Configuration of a training run: frozen models that document and check themselves."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from pneumoseg.models import ENCODER_STRIDE, PLAIN_STRIDE, EfficientNetLite
from pneumoseg.pipeline.core.config_schema import ConfigSchema
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.core.loss_terms import BCETerm, DiceTerm, LossTerm
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
OPTION_KEYS: Final = {
    "epochs": "optimization.epochs",
    "image_size": "data.image_size",
    "batch_size": "data.batch_size",
    "learning_rate": "optimization.learning_rate",
    "seed": "seed",
    "deterministic": "deterministic",
}
"""Options of `pneumoseg train` that stand for a key of the configuration, which they change last of all."""


def _named(items: object) -> object:
    """Let a plain name in a list stand for the mapping that holds nothing but the name."""
    if not isinstance(items, list | tuple):
        return items
    return [{"name": item} if isinstance(item, str) else item for item in items]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class NetworkConfig(_Section):
    """Attention U-Net; the defaults are the article's 7,977,941 parameters."""

    encoder: EncoderName | None = None
    """Encoder of a published classification network instead of the article's; null keeps the article's."""
    encoder_weights: str | None = None
    """Initial weights of the encoder: `imagenet` (needs the extra `pretrained`), a safetensors file, or null."""
    in_channels: Count = 3
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
    """Also classify the whole image at the bottleneck; its probability is the image probability of the model."""

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
    """Images that the network is trained on: their size, and how often each is sampled."""

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
    """Share of images with a pneumothorax among those sampled; null samples each image once an epoch."""
    final_positive_rate: Fraction | Literal["prior"] | None = None
    """Share at the end of the run, reached linearly; prior is the share among the cases; null keeps positive_rate."""


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
    """Factor on the learning rate of a pretrained encoder."""
    freeze_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs at the start of the run in which the encoder's weights do not change."""
    freeze_norm: bool = False
    """Keep the running statistics of all batch normalization layers of the encoder as they are."""
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
    """Epochs without a better Dice after which plateau lowers the learning rate."""
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Factor by which plateau lowers the learning rate."""
    clip_norm: Positive | None = 1.0
    """Largest norm of the gradients, which are scaled down to it; null leaves them."""
    on_bad_step: Literal["stop", "skip"] = "stop"
    """What to do when loss or gradients are non-finite (NaN or Inf): stop the run, or skip the step."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of a running average of the weights, which is then validated and kept instead of them."""
    average: Literal["none", "top", "swa", "ensemble"] = "none"
    """Average at the end of the run: of the weights of the best epochs (top) or of the last ones (swa), kept if it
    validates better than the best epoch; or of the probabilities of the best epochs, which all become members of the
    model (ensemble)."""
    average_top: Annotated[int, Field(ge=2)] = 3
    """Number of epochs that top and ensemble average."""
    average_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Share of the epochs at the final resolution, the last ones, that swa averages."""
    patience: Count | None = 20
    """Stop after this many epochs without a better validation Dice; null never stops early."""


class TrainConfig(_Section):
    """Configuration of a training run; ``pneumoseg train --config FILE --set section.key=value`` changes it."""

    network: NetworkConfig = NetworkConfig()
    data: DataConfig = DataConfig()
    augmentation: Annotated[tuple[Augmentation, ...], BeforeValidator(_named)] = DEFAULT_AUGMENTATIONS
    """Augmentations of an image and its label, in this order; [] for none."""
    optimization: OptimizationConfig = OptimizationConfig()
    tta: tuple[TTAName, ...] = ()
    """Test-time augmentations of the trained model: a list of flip and scale. Probabilities are averaged, and the
    operating point is searched with the averages."""
    precision: PrecisionName = "auto"
    """Number format of the forward pass. auto is bf16 where the device has instructions for it, fp16 on other GPUs with
    tensor cores, and float32 otherwise; fp16 needs CUDA."""
    channels_last: bool = True
    """Memory format of images and weights; results are the same, most devices are faster."""
    deterministic: bool = False
    """Use deterministic algorithms only; slower on a GPU, no difference on a processor."""
    save_minutes: Positive = 10.0
    """Minutes between two checkpoints within an epoch; each epoch ends with one anyway."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of all randomness of the run."""

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
    path: str | Path | None = None,
    settings: Sequence[str] | None = None,
    *,
    preset: str | None = None,
    base: str | Path | None = None,
    options: Mapping[str, object] | None = None,
) -> TrainConfig:
    """Put a configuration together; each of *base*, *preset*, *path*, *settings* and *options* goes over those before.

    Args:
        path: YAML file; keys that are left out keep their values. Lists are replaced as a whole.
        settings: ``section.key=value`` texts, the value in YAML.
        preset: One of `presets`.
        base: YAML file that all others change: the configuration of a run that is resumed.
        options: Values by the names of `OPTION_KEYS`; None leaves a value as it is.

    Raises: UsageError: If a file, key or value does not fit.
    """
    layers: list[_Layer] = []
    if base is not None:
        layers.append((str(base), _read_yaml(base)))
    if preset is not None:
        if preset not in presets():
            raise UsageError(f"--preset {preset}: there are {', '.join(presets())}")
        layers.append((f"--preset {preset}", _read_yaml(_PRESETS / f"{preset}.yaml")))
    if path is not None:
        layers.append((str(path), _read_yaml(path)))
    content: dict[str, Any] = {}
    for _, layer in layers:
        content = _merged(content, layer)
    layers += [("--set", _apply(content, setting)) for setting in settings or []]
    for name, value in (options or {}).items():
        if value is not None:
            source = f"--{name.replace('_', '-')}"
            layers.append((source, _put(content, OPTION_KEYS[name], value, source=source)))
    try:
        return TrainConfig.model_validate(content)
    except ValidationError as error:
        raise UsageError(_explain(error, layers)) from None


def presets() -> list[str]:
    """List the names of the configurations that come with the package."""
    return sorted(path.stem for path in _PRESETS.glob("*.yaml"))


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            merged[key] = _merged(below[key], above[key])
    return merged


def dump_config(config: TrainConfig) -> str:
    """Write the configuration as YAML that `load_config` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, default_flow_style=None)


def explain_config(config: TrainConfig) -> str:
    """Write the configuration as YAML that `load_config` reads back, with a comment on each key.

    The comment says what the key means, which values fit, and what the default is.
    """
    return config_schema().explain(config.model_dump(mode="json")) + "\n"


@cache
def config_schema() -> ConfigSchema:
    """Look up which keys there are, and which values fit them."""
    return ConfigSchema(TrainConfig.model_json_schema())


def flatten(config: TrainConfig) -> dict[str, object]:
    """List all values of a configuration by their dotted keys, like ``data.image_size``."""
    sections = config.model_dump(mode="json")
    return {
        name if not isinstance(section, dict) else f"{name}.{key}": value
        for name, section in sections.items()
        for key, value in (section.items() if isinstance(section, dict) else [(name, section)])
    }


class _Loader(yaml.SafeLoader):
    """Reads plain values only, and takes 1e-3 for a number, which YAML 1.1 does not."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _load_yaml(text: str) -> Any:
    return yaml.load(text, _Loader)  # noqa: S506  (a safe loader)


def _read_yaml(path: str | Path) -> dict[str, Any]:
    try:
        content = _load_yaml(Path(path).read_text(encoding="utf-8"))
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


_Layer = tuple[str, dict[str, Any]]
"""Where values come from, and these values alone."""


def _apply(content: dict[str, Any], setting: str) -> dict[str, Any]:
    """Put the value of a ``section.key=value`` text into *content*; give it alone, too."""
    keys, equals, text = setting.partition("=")
    if not equals or not keys.strip():
        raise UsageError(f"--set {setting}: section.key=value would fit, like data.image_size=128")
    try:
        value = _load_yaml(text)
    except yaml.YAMLError:
        raise UsageError(f"--set {setting}: {text!r} is not a value in YAML") from None
    return _put(content, keys.strip(), value, source=f"--set {setting}")


def _put(content: dict[str, Any], keys: str, value: object, *, source: str) -> dict[str, Any]:
    """Put a value under a dotted key; give it alone, too."""
    *sections, key = keys.split(".")
    alone: dict[str, Any] = {key: value}
    for section in sections:
        inner = content.setdefault(section, {})
        if not isinstance(inner, dict):
            raise UsageError(f"{source}: {section} holds the value {inner!r}, not further keys")
        content = inner
    content[key] = value
    for section in reversed(sections):
        alone = {section: alone}
    return alone


def _explain(error: ValidationError, layers: Sequence[_Layer]) -> str:
    """Say in one line what does not fit, where it comes from, and what would fit."""
    problems = [_problem(each, layers) for each in error.errors()]
    (location, text), *others = problems
    # a union has one error for each of its kinds, and a list one of its own beside that of an item
    more = {place for place, _ in others if place != location[: len(place)]}
    return text + (f" (and {len(more)} more)" if more else "")


def _problem(error: ErrorDetails, layers: Sequence[_Layer]) -> tuple[tuple[int | str, ...], str]:
    """Say where an error is, and what it is."""
    location, kind, value = error["loc"], error["type"], error["input"]
    schema = config_schema()
    node, known = schema.find(location)
    if kind == "value_error":  # of a whole section, whose message names the key and its value
        return location, f"{_dotted(location)}{': ' if location else ''}{error['ctx']['error']}"
    if kind == "extra_forbidden":
        problem = f"unknown key {_dotted(location)}; known there: {', '.join(schema.keys(node))}"
        return location, _source(location, layers) + problem
    if kind == "missing" and isinstance(location[-1], str):
        problem = f"{_dotted(known[:-1])} has no {location[-1]}; {schema.fitting(node)} would fit"
        return location, _source(known[:-1], layers) + problem
    if kind == "missing":  # an item of a list whose length is fixed
        node, known = schema.find(location[:-1])
    if isinstance(value, dict) and value.keys() == {"name"}:
        value = value["name"]
    example = f", like {node['default']}" if "prefixItems" in node else ""
    problem = f"{_dotted(known)} = {value!r}: {schema.fitting(node)} would fit{example}"
    return known, _source(known, layers) + problem


def _dotted(location: Sequence[int | str]) -> str:
    return ".".join(map(str, location))


def _source(location: Sequence[int | str], layers: Sequence[_Layer]) -> str:
    """Name the last layer that has a value there."""
    for name, content in reversed(layers):
        inner: Any = content
        for part in location:
            if not isinstance(inner, dict):
                return f"{name}: "
            if part not in inner:
                break
            inner = inner[part]
        else:
            return f"{name}: "
    return ""
