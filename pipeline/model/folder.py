"""A trained model as a folder: weights, what they need to be used rightly, and a card for people."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pneumoseg.models import ENCODERS, PLAIN_STRIDE, AttentionUNet
from pneumoseg.pipeline.core.config import ComputedPrecision, NetworkConfig, TTAName, check_size
from pneumoseg.pipeline.core.devices import Precision, precision_of_model
from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.core.files import sha256_of, write_json, write_text, written_atomically
from pneumoseg.pipeline.inference.predictor import Predictor
from pneumoseg.pipeline.core.names import markdown
from pneumoseg.transforms.masks import OperatingPoint

FORMAT_VERSION: Final = 2
DESCRIPTION: Final = "model.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Preprocessing(_Part):
    """How an image becomes what the network sees."""

    image_size: Annotated[int, Field(ge=PLAIN_STRIDE)]
    """The longest side is scaled to this many pixels, the rest padded with zeros."""


class TunedPoint(_Part):
    """The operating point as it was found."""

    threshold: Annotated[float, Field(ge=0, lt=1, multiple_of=1 / 256)]
    """Pixels above this probability are drawn; in the steps that `decision` counts in."""
    min_area_fraction: Annotated[float, Field(ge=0, lt=1)]
    """An image with no larger share of such pixels is called negative."""
    bottom_threshold: Annotated[float, Field(ge=0, lt=1, multiple_of=1 / 256)] | None = None
    """Of an image called positive, pixels above this one are drawn; null draws those above the threshold."""
    min_component_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Components with no larger share of the pixels are dropped, but never the largest."""
    fill_holes: bool = False
    """Whether holes in the mask are filled."""
    image_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """An image whose image probability is not above this is negative, whatever its pixels are."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.as_point()
        return self

    @classmethod
    def of(cls, point: OperatingPoint) -> Self:
        """Keep a point."""
        return cls(**asdict(point))

    def as_point(self) -> OperatingPoint:
        """The point, ready for use."""
        return OperatingPoint(**self.model_dump())


class AimedPoint(_Part):
    """The best operating point for an aim, and what it had on the cases that it was searched on."""

    point: TunedPoint
    dice: float
    """The challenge's score."""
    sensitivity: float | None
    """Share of the positives called positive."""
    specificity: float | None
    """Share of the negatives called negative."""


class CurvePoint(_Part):
    """The scores of a classification threshold, a minimum area and an image threshold."""

    threshold: float
    min_area_fraction: float
    image_threshold: float = 0.0
    dice: float
    sensitivity: float | None
    specificity: float | None


class CrossFittedPoints(_Part):
    """Operating points that were each searched without one inner fold of the patients, to score that one with."""

    points: Annotated[tuple[TunedPoint, ...], Field(min_length=2)]
    """For each inner fold, the point that the others gave; `inner_fold_of` gives the inner fold of a patient."""
    dice: float
    """The challenge's score, each case at the point of its inner fold, with masks as large as the stored maps."""


class Decision(_Part):
    """How the operating point was searched, on cases that the networks had not seen."""

    cases: int
    """Searched on."""
    aims: dict[str, AimedPoint]
    """The points that `--aim` chooses from."""
    curve: tuple[CurvePoint, ...]
    """For each classification threshold, with the minimum area that suits the challenge's score."""
    frontier: tuple[CurvePoint, ...] = ()
    """Of all classification thresholds, minimum areas and image thresholds, those that no other exceeds in both
    sensitivity and specificity."""
    cross_fitted: CrossFittedPoints | None
    """Null where the cases are of too few patients."""
    temperature: Annotated[float, Field(gt=0)] | None = None
    """Logits divided by this are calibrated on these cases; null where that could not be fitted."""


class Member(_Part):
    """One set of weights."""

    weights: str
    """File, relative to the model folder."""
    sha256: str
    """Of the file's content."""
    held_out_fold: int
    """The fold of the manifest that these weights never saw."""
    unseen_digests: tuple[str, ...] = ()
    """Those of `trained_on.image_digests` that only other members of the model have seen."""


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
    """Digest of each image that the weights have seen, in this training or before it: see `image_digest`."""
    initial_images: int = 0
    """Images among these that the initial weights had seen."""
    held_out_seen: int = 0
    """Held-out images that the initial weights had seen; where it is not 0, the validation scores say nothing about new
    images."""
    grouped_by: str
    """Whether patients were kept together: a groups file, PatientID, or nothing."""


class EncoderOrigin(_Part):
    """Initial weights of the encoder."""

    weights: str
    """What they were trained on and the package that holds them, or the name of the file."""
    sha256: str
    """Hash of the file."""
    licence: str | None
    """SPDX identifier; null where it is not known."""


class ModelDescription(_Part):
    """``model.json``."""

    format_version: Literal[2] = FORMAT_VERSION
    architecture: Literal["AttentionUNet"] = "AttentionUNet"
    network: NetworkConfig
    encoder_origin: EncoderOrigin | None = None
    """Pretrained weights that the training of the encoder began with; null where it began without."""
    preprocessing: Preprocessing
    operating_point: TunedPoint
    decision: Decision | None = None
    """How the operating point was found, and others; null where it was simply given."""
    members: Annotated[tuple[Member, ...], Field(min_length=1)]
    """One for each network; their probabilities are averaged."""
    tta: tuple[TTAName, ...] = ()
    """Test-time augmentations; the operating point was searched with them."""
    precision: ComputedPrecision = "float32"
    """Number format in which the model was validated, and in which it is used where the device computes in it."""
    trained_on: Training
    validation: dict[str, float | int | None]
    """Scores on the fold held out, at the in-sample operating point: it was tuned on that same fold."""
    versions: dict[str, str]
    """Of the libraries that the weights were made with."""

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        check_size("preprocessing.image_size", self.preprocessing.image_size, stride=self.network.stride)
        return self

    def seen_digests(self, members: Sequence[Member] | None = None) -> frozenset[str]:
        """Collect the digests of all images that at least one of *members* has seen; None stands for all members."""
        unseen = (frozenset(member.unseen_digests) for member in members or self.members)
        return frozenset(self.trained_on.image_digests) - frozenset.intersection(*unseen)


def image_digest(sha256: str) -> str:
    """Shorten the SHA-256 of an image file to the 16 digits by which a model remembers what it has seen."""
    return sha256[:16]


@dataclass(frozen=True)
class Model:
    """A model in memory, ready for inference."""

    folder: Path
    description: ModelDescription
    networks: tuple[AttentionUNet, ...]
    """The network of each member."""
    precision: Precision
    """Number format in which the networks compute, and the device that they are on."""
    aim: str | None = None
    """Operating point to use; None takes the one of ``model.json``."""
    tta: tuple[str, ...] = ()
    """Test-time augmentations."""
    temperature: float = 1.0
    """The logits of reported probabilities are divided by this; masks are drawn without it."""
    dropout_passes: int = 0
    """Monte-Carlo dropout samples; 0 leaves dropout off."""

    @cached_property
    def predictor(self) -> Predictor:
        """The predictor of all members together.

        Raises: UsageError: If dropout samples are asked for and there is no dropout.
        """
        try:
            return Predictor(
                self.networks, precision=self.precision, tta=self.tta, dropout_passes=self.dropout_passes
            )
        except ValueError as error:
            raise UsageError(f"--dropout-passes: {error}") from None

    @property
    def held_out_folds(self) -> tuple[int, ...]:
        """Those that some member never saw, in the order of the members."""
        return tuple(dict.fromkeys(member.held_out_fold for member in self.description.members))

    def without(self, fold: int) -> Self:
        """The model of those members that never saw a fold."""
        members = tuple(member for member in self.description.members if member.held_out_fold == fold)
        kept = zip(self.networks, self.description.members, strict=True)
        return replace(
            self,
            description=self.description.model_copy(update={"members": members}),
            networks=tuple(network for network, member in kept if member in members),
        )

    @property
    def image_size(self) -> int:
        """Side of the square that the network sees, in pixels."""
        return self.description.preprocessing.image_size

    @cached_property
    def operating_point(self) -> OperatingPoint:
        """The rule that turns probabilities into masks.

        Raises: UsageError: If the model knows no point for its aim.
        """
        return point_for(self.description, self.aim)

    @cached_property
    def _digests(self) -> frozenset[str]:
        return self.description.seen_digests()

    def has_seen(self, image_sha256: str) -> bool:
        """Whether any member, or the weights that it started from, was trained on the image with this SHA-256."""
        return image_digest(image_sha256) in self._digests


def make_network(config: NetworkConfig) -> AttentionUNet:
    """Make the network that a configuration describes, freshly initialised.

    Pretrained weights of the encoder are not loaded here, so that a trained model can be read without them.
    """
    encoder = ENCODERS[config.encoder]() if config.encoder else None
    return AttentionUNet(encoder=encoder, **config.model_dump(exclude={"encoder", "encoder_weights"}))


def place(network: AttentionUNet, device: torch.device, *, channels_last: bool = True) -> AttentionUNet:
    """Move a network to a device, in the memory format that most devices are faster in."""
    network = network.to(device)
    if channels_last:
        # torch knows the argument, its annotations do not
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def save_weights(folder: Path, network: AttentionUNet, *, fold: int, epoch: int | None = None) -> Member:
    """Write the weights of one member of a model.

    Args:
        folder: Of the model.
        network: That has them.
        fold: Which they never saw.
        epoch: Of which they are, where the model has several members of a fold.
    """
    name = f"weights/fold{fold}{'' if epoch is None else f'-epoch{epoch:04d}'}.safetensors"
    weights = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    with written_atomically(folder / name) as temporary:
        save_file(weights, temporary)
    return Member(weights=name, sha256=sha256_of(folder / name), held_out_fold=fold)


def save_description(folder: Path, description: ModelDescription) -> None:
    """Write ``model.json`` and the card beside it; the folder is a model from then on."""
    write_text(folder / "MODEL_CARD.md", model_card(description))
    write_json(folder / DESCRIPTION, description.model_dump(mode="json"))


def load_model(
    folder: Path,
    device: torch.device,
    *,
    aim: str | None = None,
    tta: Sequence[str] | None = None,
    calibrated: bool = False,
    dropout_passes: int = 0,
) -> Model:
    """Read a model folder, to use it in the precision in which it was validated.

    Args:
        folder: Model folder written by `train_model`.
        device: Device for the networks. Where it does not compute in the model's precision, float32 is used and a
            warning says so.
        aim: Operating point to use: see `point_for`.
        tta: Test-time augmentations: see `parse_tta`; None takes the model's own.
        calibrated: Whether to report probabilities at the temperature that training has fitted; masks do not change.
        dropout_passes: Monte-Carlo dropout samples for the uncertainty estimate; 0 leaves dropout off.

    Raises:
        UsageError: If the model has no operating point for *aim*, no temperature, or no dropout to sample from.
        JobError: If the folder is no model, or its weights are missing, altered or of another network.
    """
    description = read_description(folder)
    point_for(description, aim)  # refuses an unknown word before the weights are read
    temperature = _temperature(description) if calibrated else 1.0
    networks = [
        place(load_member(folder, description, member), device).eval() for member in description.members
    ]
    model = Model(
        folder,
        description,
        tuple(networks),
        precision_of_model(description.precision, device),
        aim=aim,
        tta=description.tta if tta is None else tuple(tta),
        temperature=temperature,
        dropout_passes=dropout_passes,
    )
    _ = model.predictor  # refuses dropout samples of networks without dropout before any image is read
    return model


def _temperature(description: ModelDescription) -> float:
    decision = description.decision
    if decision is None or decision.temperature is None:
        raise UsageError("--calibrated: the model has no temperature; training fits one where it can")
    return decision.temperature


def point_for(description: ModelDescription, aim: str | None) -> OperatingPoint:
    """The operating point of a model for an aim.

    Args:
        description: Of the model.
        aim: None takes the model's own. ``challenge``, ``specificity`` and ``screening`` are searched by training;
            ``specificity=0.9`` takes the highest sensitivity, and ``sensitivity=0.9`` the highest specificity, that
            the search has found beside at least that.

    Raises: UsageError: If the model knows no such point.
    """
    if aim is None:
        return description.operating_point.as_point()
    decision = description.decision
    if decision is None:
        raise UsageError(
            f"--aim {aim}: the model has one operating point, and no search to choose others from"
        )
    if aim in decision.aims:
        return decision.aims[aim].point.as_point()
    held, _, least = aim.partition("=")
    try:
        if held not in {"sensitivity", "specificity"} or not 0 <= float(least) <= 1:
            raise ValueError
    except ValueError:
        raise UsageError(
            f"--aim {aim}: {', '.join(decision.aims)}, specificity=0.9 or sensitivity=0.9 would fit"
        ) from None
    other = "specificity" if held == "sensitivity" else "sensitivity"
    rows = [
        row
        for row in decision.frontier or decision.curve
        if (value := getattr(row, held)) is not None and value >= float(least)
    ]
    if not rows:
        raise UsageError(f"--aim {aim}: the search of this model found no point like that")
    best = max(rows, key=lambda row: (getattr(row, other) or 0, row.dice))
    drawn = description.operating_point.as_point()
    bottom = None if drawn.bottom_threshold is None else min(drawn.bottom_threshold, best.threshold)
    return replace(
        drawn,
        threshold=best.threshold,
        min_area_fraction=best.min_area_fraction,
        image_threshold=best.image_threshold,
        bottom_threshold=bottom,
    )


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


@dataclass(frozen=True)
class InitialWeights:
    """Weights for a training to start from.

    Attributes:
        state: State dict of the network.
        sha256: SHA-256 of the weights file.
        seen: Digests of the images that they were trained on.
        encoder_origin: Initial weights of their encoder.
    """

    state: dict[str, Tensor]
    sha256: str
    seen: frozenset[str]
    encoder_origin: EncoderOrigin | None


def load_initial_weights(
    folder: Path, network: NetworkConfig, *, held_out: frozenset[str] = frozenset()
) -> InitialWeights:
    """Read the weights of one member of a model, for a training to start from.

    Args:
        folder: Model folder.
        network: Network that is to be trained.
        held_out: Digests of the held-out images; of several members, the one that has seen fewest of them is taken.

    Raises:
        UsageError: If the model is of another network.
        JobError: If the folder is no model.
    """
    description = read_description(folder)
    initial_only = {"encoder_weights", "head_prior"}  # they say how weights start, not what they belong to
    theirs, wanted = (each.model_dump(exclude=initial_only) for each in (description.network, network))
    if theirs != wanted:
        other = ", ".join(f"{key} is {theirs[key]}" for key in theirs if theirs[key] != wanted[key])
        raise UsageError(f"--init {folder}: is of another network: {other}; set network to the same values")
    member = initial_member(description, held_out)
    state = load_member(folder, description, member).state_dict()
    seen = description.seen_digests([member])
    return InitialWeights(state, member.sha256, seen, description.encoder_origin)


def initial_member(description: ModelDescription, held_out: frozenset[str]) -> Member:
    """Choose the member that has seen fewest of the held-out images, and among equals the first."""
    return min(description.members, key=lambda member: len(held_out & description.seen_digests([member])))


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
    members = len(description.members)
    together = "" if members == 1 else f"; the mean of the probabilities of {members} networks"
    crossed = description.decision.cross_fitted if description.decision else None
    seen = (
        f"\n\n**{training.held_out_seen} of the {description.validation.get('images')} held-out images were seen by "
        "the initial weights**: these scores say nothing about new images."
        if training.held_out_seen
        else ""
    )
    honest = (
        f": at cross-fitted operating points, each tuned on other patients, Dice is {crossed.dice:.4f}"
        if crossed
        else ""
    )
    return f"""# Pneumothorax segmentation model

Research software. **Not a medical device; not for diagnosis.**

- **Task**: outline pneumothorax on frontal chest radiographs (PA or AP).
- **Network**: Attention U-Net, features {list(description.network.features)}, seen at \
{description.preprocessing.image_size} x {description.preprocessing.image_size} pixels{together}.{_encoder(description)}
- **Trained on**: {markdown(training.manifest)}: {training.cases} images, {training.positive} with a \
pneumothorax. {leak}
- **Operating point**: an image is positive when more than {point.min_area_fraction:.4%} of its pixels exceed \
{point.threshold:.3f}{_image_criterion(point)}; {_how_drawn(point)}

## Scores on the held-out fold

Dice is the challenge's: 1 where label and mask are both empty, 0 where exactly one is. To be read beside what an
empty mask for every image would score. Epoch and operating point were chosen on this same fold: these are in-sample
scores, and somewhat too high{honest}.{seen}

| score | value |
| --- | --- |
{scores}

## Limits

Lateral views, children, other devices and other hospitals than those trained on were not measured. A small
pneumothorax is often missed. Chest tubes, skin folds and bullae may be taken for one.
"""


def _encoder(description: ModelDescription) -> str:
    if description.network.encoder is None:
        return ""
    origin = description.encoder_origin
    started = "trained from scratch"
    if origin is not None:
        started = (
            f"pretrained ({markdown(origin.weights)}; licence {origin.licence or 'unknown'}; "
            f"sha256 {origin.sha256})"
        )
    return f"\n- **Encoder**: {description.network.encoder}, {started}."


def _image_criterion(point: TunedPoint) -> str:
    return f" and its image probability exceeds {point.image_threshold:.3f}" if point.image_threshold else ""


def _how_drawn(point: TunedPoint) -> str:
    if point.bottom_threshold is None:
        text = "these pixels are its mask"
    else:
        text = f"the pixels above {point.bottom_threshold:.3f} are its mask"
    if point.min_component_fraction:
        text += f", without components of {point.min_component_fraction:.4%} of the image or less"
    return text + (", with holes filled." if point.fill_holes else ".")
