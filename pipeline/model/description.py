"""Schema of ``model.json``: networks, use, training and scores of a model folder, and its operating points by name."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pneumoseg.pipeline.core.config import ComputedPrecision, ImageSize, NetworkConfig, TTAName, check_size
from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.json_files import read_validated_json
from pneumoseg.transforms.masks import OperatingPoint

FORMAT_VERSION: Final = 2
DESCRIPTION: Final = "model.json"


Number = Annotated[int, Field(ge=0, le=10**9)]
Share = Annotated[float, Field(ge=0, le=1)]
Score = Annotated[int, Field(ge=-(10**9), le=10**9)] | Annotated[float, Field(ge=-1e9, le=1e9)]
Name = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00]*$")]
Digest = Annotated[str, Field(max_length=64, pattern=r"^[^\x00]*$")]
WeightsPath = Annotated[str, Field(max_length=255, pattern=r"^/?[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$")]


class _Part(BaseModel):
    """Part of the content, every number and text of which is bounded: the file may come from anywhere."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class Preprocessing(_Part):
    """Preprocessing of an image for the network."""

    image_size: ImageSize
    """The longest side is scaled to this many pixels, the rest padded with zeros."""


class TunedPoint(_Part):
    """Operating point as it was found by a search."""

    threshold: Annotated[float, Field(ge=0, lt=1, multiple_of=1 / 256)]
    """Classification threshold of the pixels, a multiple of 1/256."""
    min_area_fraction: Annotated[float, Field(ge=0, lt=1)]
    """An image in which no larger share of the pixels exceeds the threshold is predicted negative."""
    segmentation_threshold: Annotated[float, Field(ge=0, lt=1, multiple_of=1 / 256)] | None = None
    """Threshold of the mask of an image that is predicted positive; null stands for the classification threshold."""
    image_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """An image whose image probability does not exceed this is predicted negative, whatever its pixels are."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.as_point()
        return self

    @classmethod
    def of(cls, point: OperatingPoint) -> Self:
        """Convert an operating point.

        Args:
            point: Operating point whose pixel thresholds are multiples of 1/256.
        """
        return cls(**asdict(point))

    def as_point(self) -> OperatingPoint:
        """Convert to the operating point that `to_mask` applies."""
        return OperatingPoint(**self.model_dump())


class ObjectivePoint(_Part):
    """The best operating point for an objective, with its scores on the cases of the search."""

    point: TunedPoint
    dice: Share
    """Challenge score."""
    sensitivity: Share | None
    """Share of the positives that are predicted positive."""
    specificity: Share | None
    """Share of the negatives that are predicted negative."""


class CurvePoint(_Part):
    """Scores of a classification threshold, a minimum area and an image threshold."""

    threshold: Share
    min_area_fraction: Share
    image_threshold: Share = 0.0
    dice: Share
    sensitivity: Share | None
    specificity: Share | None


class CrossFittedPoints(_Part):
    """Operating points that were each searched without one inner fold, in order to score that fold."""

    points: Annotated[tuple[TunedPoint, ...], Field(min_length=2)]
    """For each inner fold, the point found on the others; `inner_fold_of` gives the inner fold of a patient."""
    dice: Share
    """Challenge score, with each case at the point of its inner fold."""


class Calibration(_Part):
    """Calibration of the image probability: its logit times the slope, plus the intercept."""

    slope: Annotated[float, Field(gt=0, le=1e6)]
    intercept: Annotated[float, Field(ge=-1e6, le=1e6)]


class OperatingPointSearch(_Part):
    """Record of the search of the operating point, on cases that the networks were not trained on."""

    cases: Number
    """Number of cases of the search."""
    objectives: dict[Name, ObjectivePoint]
    """Operating points by name."""
    curve: tuple[CurvePoint, ...]
    """Scores of each classification threshold, with the minimum area of the best challenge score."""
    frontier: tuple[CurvePoint, ...] = ()
    """Pareto frontier of sensitivity and specificity over all classification thresholds, minimum areas and image
    thresholds."""
    cross_fitted: CrossFittedPoints | None
    """Cross-fitted operating points; null with too few patients."""
    calibration: Calibration | None = None
    """Calibration of the image probability, fitted to these cases; null where it could not be fitted."""
    image_digests: tuple[Digest, ...] = ()
    """Digest of the image of each case: see `image_digest`; empty where an earlier release wrote the file."""


class Member(_Part):
    """One network of the model."""

    weights: WeightsPath
    """Path of the weights file, relative to the model folder."""
    sha256: Digest
    """SHA-256 of the weights file."""
    held_out_fold: Number | None
    """Fold of the manifest that these weights were not trained on; null where no image was held out, so that operating
    points, calibration and validation are those of a cross-validation of the same configuration."""
    unseen_digests: tuple[Digest, ...] = ()
    """Digests among `trained_on.image_digests` that only other members of the model were trained on."""


class Training(_Part):
    """Data that the weights were trained on."""

    manifest: Name
    """Name of the collection."""
    manifest_sha256: Digest
    """SHA-256 of the manifest's content."""
    cases: Number
    """Number of training cases."""
    positive: Number
    """Number of positive training cases."""
    image_digests: tuple[Digest, ...]
    """Digest of each image that the weights were trained on, in this run or before it: see `image_digest`."""
    initial_images: Number = 0
    """Number of these images that the initial weights were trained on."""
    held_out_seen: Number = 0
    """Number of images that were held out, in this run or in the cross-validation before it, although the initial
    weights were trained on them; unless it is 0, the validation scores are not valid for new images."""
    epoch_chosen: bool = True
    """Whether the epochs were chosen by their scores on the held-out images."""
    grouped_by: Name
    """Source of the patients of the folds: a groups file, PatientID, or nothing."""
    unknown_patients: Number = 0
    """Number of training and held-out images whose patient is unknown, which may be on both sides of the split."""


class EncoderOrigin(_Part):
    """Origin of the initial weights of the encoder."""

    weights: Name
    """Training data and package of the weights, or name of the file."""
    sha256: Digest
    """SHA-256 of the file."""
    licence: Name | None
    """SPDX identifier of the licence; null where it is unknown."""


class ModelDescription(_Part):
    """Content of ``model.json``."""

    format_version: Literal[2] = FORMAT_VERSION
    architecture: Literal["AttentionUNet"] = "AttentionUNet"
    network: NetworkConfig
    encoder_origin: EncoderOrigin | None = None
    """Pretrained initial weights of the encoder; null without such."""
    preprocessing: Preprocessing
    operating_point: TunedPoint
    operating_point_search: OperatingPointSearch | None = None
    """Record of the search of the operating point, with other points; null where the point was given."""
    members: Annotated[tuple[Member, ...], Field(min_length=1, max_length=1000)]
    """Networks of the model; their probabilities are averaged."""
    tta: tuple[TTAName, ...] = ()
    """Test-time augmentations, which were used in the search of the operating point too."""
    precision: ComputedPrecision = "float32"
    """Number format of the validation, and of inference where the device supports it."""
    trained_on: Training
    validation: dict[Name, Score | None]
    """Scores on the held-out fold at the in-sample operating point, which was tuned on that same fold."""
    versions: dict[Name, Name]
    """Versions of the libraries that trained the weights."""

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        check_size("preprocessing.image_size", self.preprocessing.image_size, stride=self.network.stride)
        return self

    @property
    def held_out_folds(self) -> tuple[int, ...]:
        """Folds that some member was not trained on, in ascending order; none after training on all images."""
        return tuple(sorted({each.held_out_fold for each in self.members if each.held_out_fold is not None}))

    def seen_digests(self, members: Sequence[Member] | None = None) -> frozenset[str]:
        """Collect the digests of all images that at least one member was trained on.

        Args:
            members: Members to consider; None selects all.
        """
        unseen = (frozenset(member.unseen_digests) for member in members or self.members)
        return frozenset(self.trained_on.image_digests) - frozenset.intersection(*unseen)


def image_digest(sha256: str) -> str:
    """Shorten the SHA-256 of an image file to the 16 digits that ``model.json`` stores.

    Args:
        sha256: SHA-256 of the file, 64 hexadecimal digits.
    """
    return sha256[:16]


def read_description(folder: Path) -> ModelDescription:
    """Read ``model.json``.

    Args:
        folder: Model folder.

    Raises: JobError: If the file is missing, damaged, or of another format version.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        if not folder.exists():
            raise JobError(
                f"{folder}: no such model folder, and no such name among those that `pneumoseg models` lists"
            )
        hint = f"; did you mean {folder / 'model'}?" if (folder / "model" / DESCRIPTION).is_file() else ""
        raise JobError(
            f"{folder}: holds no {DESCRIPTION}; give the model folder that `pneumoseg train` wrote{hint}"
        )
    return read_validated_json(path, ModelDescription, advice="copy the model folder anew")
