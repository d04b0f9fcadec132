"""What a training run may be told: frozen models that document and check themselves."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pneumoseg.pipeline.errors import UsageError
from pneumoseg.transforms.augmentation import AUGMENTATIONS, DEFAULT_AUGMENTATIONS, Augmentation

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Channels = Annotated[int, Field(ge=4)]  # an attention gate works with a quarter of them
PrecisionName = Literal["auto", "bf16", "fp16", "float32"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class NetworkConfig(_Section):
    """The Attention U-Net; the defaults are the article's 7,977,941 parameters."""

    in_channels: Count = 3
    """Input channels; a grey image is repeated to fill them."""
    classes: Literal[1] = 1
    """Pneumothorax or not: the labels of this task know one class."""
    features: tuple[Channels, Channels, Channels, Channels, Channels] = (32, 64, 128, 256, 512)
    """Feature channels of the four levels and of the bottleneck."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Rate between the two convolutions of a level."""
    normalization: Literal["none", "batch", "instance", "group"] = "none"
    """After each convolution of a level; the article has none."""
    deep_supervision: bool = False
    """Learn from the masks at half, quarter and eighth resolution too."""
    image_head: bool = False
    """Learn at the bottleneck too whether there is any pneumothorax."""


class DataConfig(_Section):
    """Which pixels the network is shown, and how often."""

    image_size: Annotated[int, Field(ge=16, multiple_of=16)] = 256
    """Side of the square that the network sees, in pixels."""
    batch_size: Count = 16
    """Images per step."""
    positive_rate: Fraction | None = 0.5
    """Share of images with a pneumothorax among those drawn; null draws each image once an epoch."""


class OptimizationConfig(_Section):
    """How the weights move."""

    epochs: Count = 60
    """Passes over the training folds."""
    learning_rate: Positive = 1e-3
    """Of AdamW, after the warm-up."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """Of AdamW."""
    warmup_epochs: Annotated[float, Field(ge=0)] = 1.0
    """The learning rate rises linearly over this time, then falls along a cosine."""
    clip_norm: Positive | None = 1.0
    """Gradients are scaled down to this norm; null leaves them."""
    dice_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the batch's Dice loss beside binary cross-entropy."""
    patience: Count | None = 20
    """Stop after this many epochs without a better validation Dice; null never stops early."""


class TrainConfig(_Section):
    """A whole training run; ``pneumoseg train --config FILE --set section.key=value`` changes it."""

    network: NetworkConfig = NetworkConfig()
    data: DataConfig = DataConfig()
    augmentation: tuple[Augmentation, ...] = DEFAULT_AUGMENTATIONS
    """What is done to an image and its label each time they are drawn, in this order; [] does nothing."""
    optimization: OptimizationConfig = OptimizationConfig()
    precision: PrecisionName = "auto"
    """`auto`: bf16 where the device computes in it, else float32. `fp16` needs CUDA."""
    channels_last: bool = True
    """Memory format of images and weights; results are the same, most devices are faster."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Starts all randomness of the run."""


def load_config(path: Path | None = None, settings: list[str] | None = None) -> TrainConfig:
    """Read a configuration file and change single values of it.

    Args:
        path: YAML; keys that are left out keep their defaults.
        settings: ``section.key=value`` texts, the value in YAML.

    Raises: UsageError: If a file, key or value does not fit.
    """
    content: dict[str, Any] = _read_yaml(path) if path is not None else {}
    for setting in settings or []:
        _apply(content, setting)
    try:
        return TrainConfig.model_validate(content)
    except ValidationError as error:
        raise UsageError(_explain(error, source=str(path) if path else "--set")) from None


def dump_config(config: TrainConfig) -> str:
    """The configuration as YAML that `load_config` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, default_flow_style=None)


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
    return f"{source}: {where} = {first['input']!r}: {first['msg']}{more}"


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    fields = TrainConfig.model_fields
    for part in location[:-1]:
        if part in AUGMENTATIONS:
            return list(AUGMENTATIONS[str(part)].model_fields)
        annotation = fields[part].annotation if part in fields else None
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            fields = annotation.model_fields
    return list(fields)
