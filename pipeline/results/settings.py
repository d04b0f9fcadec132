"""All that decides what is made of a file, and nothing else: two runs that agree in it may share their results."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, Final

from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.inference.model import Model
from pneumoseg.pipeline.results.receipts import digest_of
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters

KINDS: Final = (
    "csv", "json", "png", "nifti", "seg", "sr", "sc", "overlay", "attention", "probability", "uncertainty",
)  # fmt: skip
DEFAULT_KINDS: Final = ("csv", "json", "png", "nifti", "overlay")
FOLDERS: Final = {
    "png": "masks",
    "nifti": "nifti",
    "seg": "seg",
    "sr": "sr",
    "sc": "sc",
    "overlay": "overlays",
    "attention": "attention",
    "probability": "probabilities",
    "uncertainty": "uncertainty",
}
"""Where the files of each kind go."""
SUFFIXES: Final = {"nifti": ".nii.gz", "seg": ".dcm", "sr": ".dcm", "sc": ".dcm"}


@dataclass(frozen=True)
class Settings:
    """What was asked for.

    Attributes:
        kinds: Sorted as in `KINDS`.
        acceptance: What counts as a frontal chest radiograph.
        research: Whether everything that tells of a person stays out.
        batch_size: Images at a time.
        precision: Number format in which the networks compute, and on which kind of device.
        model_sha256: Hash of all that decides what a mask or a probability looks like; it covers what follows, too.
        aim: Operating point that was asked for.
        tta: Test-time augmentations.
        temperature: Temperature of the probabilities.
        dropout_passes: Monte-Carlo dropout samples.
    """

    kinds: tuple[str, ...]
    acceptance: AcceptanceFilters
    research: bool
    batch_size: int
    precision: str
    model_sha256: str
    aim: str | None
    tta: tuple[str, ...]
    temperature: float
    dropout_passes: int

    @property
    def sha256(self) -> str:
        """Of all of it, and of this release."""
        return digest_of(self.as_json())

    def as_json(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return {"pneumoseg": version("pneumoseg"), **asdict(self)}


def make_settings(
    kinds: Collection[str],
    *,
    acceptance: AcceptanceFilters,
    research: bool,
    batch_size: int,
    model: Model,
) -> Settings:
    """Put settings together."""
    return Settings(
        kinds=tuple(kind for kind in KINDS if kind in kinds),
        acceptance=acceptance,
        research=research,
        batch_size=batch_size,
        precision=f"{model.precision.name} on {model.precision.device.type}",
        model_sha256=model_sha256(model),
        aim=model.aim,
        tta=model.tta,
        temperature=model.temperature,
        dropout_passes=model.dropout_passes,
    )


def check_kinds(kinds: Collection[str], *, dropout_passes: int = 0) -> None:
    """Refuse kinds that there are not, or not without dropout.

    Raises: UsageError: Naming what would fit.
    """
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise UsageError(f"--type {unknown[0]}: {', '.join(KINDS)} would fit")
    if "uncertainty" in kinds and not dropout_passes:
        raise UsageError("--type uncertainty needs --dropout-passes, which it is measured with; 20 would fit")


def model_sha256(model: Model) -> str:
    """The hash of all that decides a mask or a probability: network, weights, preprocessing, operating point, ..."""
    telling = {"format_version", "trained_on", "validation", "versions"}  # and deciding nothing
    description = model.description.model_dump(mode="json", exclude=telling)
    return digest_of([description, model.aim, model.tta, model.temperature, model.dropout_passes])
