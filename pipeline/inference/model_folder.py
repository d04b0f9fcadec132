"""A trained model as a folder: weights, what they need to be used rightly, and a card for people."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.config import NetworkConfig
from pneumoseg.pipeline.errors import JobError, UsageError
from pneumoseg.pipeline.files import sha256_of, write_json, write_text, written_atomically
from pneumoseg.pipeline.inference.ensemble import Ensemble
from pneumoseg.pipeline.names import markdown
from pneumoseg.transforms.masks import OperatingPoint

FORMAT_VERSION: Final = 1
DESCRIPTION: Final = "model.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Preprocessing(_Part):
    """How an image becomes what the network sees."""

    image_size: Annotated[int, Field(ge=16, multiple_of=16)]
    """The longest side is scaled to this many pixels, the rest padded with zeros."""


class TunedPoint(_Part):
    """The operating point as it was found."""

    threshold: Annotated[float, Field(ge=0, lt=1, multiple_of=1 / 256)]
    """Pixels above this probability are drawn; in the steps that `decision` counts in."""
    min_area_fraction: Annotated[float, Field(ge=0, lt=1)]
    """An image with no larger share of such pixels is called negative."""


class Member(_Part):
    """One set of weights."""

    weights: str
    """File, relative to the model folder."""
    sha256: str
    """Of the file's content."""
    held_out_fold: int
    """The fold of the manifest that these weights never saw."""


class Training(_Part):
    """What the weights have seen."""

    manifest: str
    """The collection's name."""
    manifest_sha256: str
    """Fingerprint of the manifest."""
    cases: int
    """Cases trained on."""
    positive: int
    """Cases with a pneumothorax among them."""
    image_digests: tuple[str, ...]
    """First 16 digits of the SHA-256 of each image trained on: how evaluation tells which it has seen."""
    grouped_by: str
    """Whether patients were kept together: a groups file, PatientID, or nothing."""


class ModelDescription(_Part):
    """``model.json``."""

    format_version: Literal[1] = FORMAT_VERSION
    architecture: Literal["AttentionUNet"] = "AttentionUNet"
    network: NetworkConfig
    preprocessing: Preprocessing
    operating_point: TunedPoint
    members: Annotated[tuple[Member, ...], Field(min_length=1)]
    """One for each network; their probabilities are averaged."""
    trained_on: Training
    validation: dict[str, float | int | None]
    """Scores on the fold held out, with the operating point tuned on that same fold."""
    versions: dict[str, str]
    """Of the libraries that the weights were made with."""


@dataclass(frozen=True)
class Model:
    """A model that is ready to be called."""

    folder: Path
    description: ModelDescription
    network: AttentionUNet | Ensemble

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """Each member on its own."""
        return tuple(self.network.members) if isinstance(self.network, Ensemble) else (self.network,)

    @property
    def image_size(self) -> int:
        """Side of the square that the network sees, in pixels."""
        return self.description.preprocessing.image_size

    @property
    def operating_point(self) -> OperatingPoint:
        """The rule that turns probabilities into masks."""
        return OperatingPoint(**self.description.operating_point.model_dump())

    @cached_property
    def _digests(self) -> frozenset[str]:
        return frozenset(self.description.trained_on.image_digests)

    def has_seen(self, image_sha256: str) -> bool:
        """Whether the weights were trained on the image with this hash."""
        return image_sha256[:16] in self._digests


def make_network(config: NetworkConfig) -> AttentionUNet:
    """The network that a configuration describes, freshly initialised."""
    return AttentionUNet(**config.model_dump())


def place(network: AttentionUNet, device: torch.device, *, channels_last: bool = True) -> AttentionUNet:
    """Move a network to a device, in the memory format that most devices are faster in."""
    network = network.to(device)
    if channels_last:
        # torch knows the argument, its annotations do not
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def save_weights(folder: Path, network: AttentionUNet, *, fold: int) -> Member:
    """Write the weights of one member of a model."""
    name = f"weights/fold{fold}.safetensors"
    weights = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    with written_atomically(folder / name) as temporary:
        save_file(weights, temporary)
    return Member(weights=name, sha256=sha256_of(folder / name), held_out_fold=fold)


def save_description(folder: Path, description: ModelDescription) -> None:
    """Write ``model.json`` and the card beside it; the folder is a model from then on."""
    write_text(folder / "MODEL_CARD.md", model_card(description))
    write_json(folder / DESCRIPTION, description.model_dump(mode="json"))


def load_model(folder: Path, device: torch.device) -> Model:
    """Read a model folder.

    Raises: JobError: If the folder is no model, or its weights are missing, altered or of another network.
    """
    description = read_description(folder)
    networks = [
        place(load_member(folder, description, member), device).eval() for member in description.members
    ]
    return Model(folder, description, networks[0] if len(networks) == 1 else Ensemble(networks).eval())


def load_member(folder: Path, description: ModelDescription, member: Member) -> AttentionUNet:
    """Read one network of a model folder.

    Raises: JobError: If its weights are missing, altered or of another network.
    """
    path = folder / member.weights
    if not path.resolve().is_relative_to(folder.resolve()):
        raise JobError(f"{folder / DESCRIPTION}: weights {member.weights} lie outside of the model folder")
    if not path.is_file():
        raise JobError(f"{path}: the weights of the model are missing; copy the model folder as a whole")
    if sha256_of(path) != member.sha256:
        raise JobError(
            f"{path}: the weights are not those that {DESCRIPTION} describes; copy the folder anew"
        )
    network = make_network(description.network)
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise JobError(
            f"{path}: does not fit the network of {DESCRIPTION} ({str(error).splitlines()[0]})"
        ) from None
    return network


def load_initial_weights(folder: Path, network: NetworkConfig) -> dict[str, Tensor]:
    """The weights of a model folder's first network, for a training to begin with.

    Raises:
        UsageError: If they are of another network.
        JobError: If the folder is no model.
    """
    description = read_description(folder)
    if description.network != network:
        theirs, wanted = description.network.model_dump(), network.model_dump()
        other = ", ".join(f"{key} is {theirs[key]}" for key in theirs if theirs[key] != wanted[key])
        raise UsageError(f"--init {folder}: is of another network: {other}; set network to the same values")
    return load_member(folder, description, description.members[0]).state_dict()


def read_description(folder: Path) -> ModelDescription:
    """Read ``model.json``.

    Raises: JobError: If there is none, or it is not what this release reads.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        hint = f"; did you mean {folder / 'model'}?" if (folder / "model" / DESCRIPTION).is_file() else ""
        raise JobError(
            f"{folder}: holds no {DESCRIPTION}; give the model folder that `pneumoseg train` wrote{hint}"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content.get("format_version") if isinstance(content, dict) else None
        if version != FORMAT_VERSION:
            raise JobError(f"{path}: format_version is {version!r}; this release reads {FORMAT_VERSION}")
        return ModelDescription.model_validate(content)
    except (OSError, ValueError, RecursionError) as error:  # the last for lists in lists in lists
        what = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(str(part) for part in what["loc"])
        raise JobError(f"{path}: {where or 'content'}: {what['msg']}; copy the model folder anew") from None


def model_card(description: ModelDescription) -> str:
    """The card: what the model is for, what it has seen, how well it did and where it will fail."""
    training, point = description.trained_on, description.operating_point
    scores = "\n".join(
        f"| {name.replace('_', ' ')} | {'unknown' if value is None else f'{value:.4g}'} |"
        for name, value in description.validation.items()
    )
    leak = (
        "Patients were not kept together: the scores may be too high."
        if training.grouped_by == "nothing"
        else f"No patient of the held-out fold was trained on (grouped by {training.grouped_by})."
    )
    return f"""# Pneumothorax segmentation model

Research software. **Not a medical device; not for diagnosis.**

- **Task**: outline pneumothorax on frontal chest radiographs (PA or AP).
- **Network**: Attention U-Net, features {list(description.network.features)}, seen at \
{description.preprocessing.image_size} x {description.preprocessing.image_size} pixels.
- **Trained on**: {markdown(training.manifest)}: {training.cases} images, {training.positive} with a \
pneumothorax. {leak}
- **Decision**: an image is positive when more than {point.min_area_fraction:.4%} of its pixels exceed \
{point.threshold:.3f}; these pixels are its mask.

## Scores on the held-out fold

Dice is the challenge's: 1 where label and mask are both empty, 0 where exactly one is. To be read beside what an
empty mask for every image would score. The decision was tuned on this same fold, so that the scores are somewhat
too high.

| score | value |
| --- | --- |
{scores}

## Limits

Lateral views, children, other devices and other hospitals than those trained on were not measured. A small
pneumothorax is often missed. Chest tubes, skin folds and bullae may be taken for one.
"""
