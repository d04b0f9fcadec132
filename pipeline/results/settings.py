"""All settings that decide the results of a file, and no others: runs with equal settings may share results."""

import re
from collections.abc import Collection
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any, Final

from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.inference.model import Model
from pneumoseg.pipeline.results.receipts import digest_of
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters

KINDS: Final = (
    "csv", "json", "png", "nifti", "seg", "sr", "sc", "gsps", "fhir", "overlay", "attention", "probability",
    "uncertainty",
)  # fmt: skip
DEFAULT_KINDS: Final = ("csv", "json", "png", "nifti", "overlay")
_PLURALS: Final = {"png": "masks", "overlay": "overlays", "probability": "probabilities"}
FOLDERS: Final = {kind: _PLURALS.get(kind, kind) for kind in KINDS if kind not in ("csv", "json")}
"""Folder of each kind of files."""
DICOM_KINDS: Final = ("seg", "sr", "sc", "gsps")
SUFFIXES: Final = {"nifti": ".nii.gz", **dict.fromkeys(DICOM_KINDS, ".dcm"), "fhir": ".json"}
"""Suffix of each kind of files; all others are PNG."""
CLINICAL_KINDS: Final = (*DICOM_KINDS, "fhir")
"""Kinds that carry the identity of a DICOM source, and are made of no other one."""
_WITHOUT_EFFECT: Final = frozenset({"kinds", "acceptance"})  # on the content of a DICOM result
_UID_ROOT: Final = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")
_LONGEST_UID_ROOT: Final = 40  # which leaves 23 of 64 characters to tell UIDs apart


@dataclass(frozen=True)
class Settings:
    """Settings of a run.

    Attributes:
        kinds: Requested kinds of results, in the order of `KINDS`.
        acceptance: Which files are accepted as frontal chest radiographs.
        research: Whether everything that identifies a person is left out.
        batch_size: Images per batch.
        runtime: Runtime that computes the networks.
        precision: Number format in which the networks compute, and the kind of device.
        model_sha256: Hash of the model and of the four settings that follow: see `model_sha256`.
        objective: Name of the requested operating point; None stands for the model's own.
        tta: Test-time augmentations.
        calibrated: Whether the image probability is calibrated; the model holds by which numbers.
        dropout_passes: Monte-Carlo dropout samples.
        uid_root: Root of the UIDs of DICOM results; None stands for 2.25.
    """

    kinds: tuple[str, ...]
    acceptance: AcceptanceFilters
    research: bool
    batch_size: int
    runtime: str
    precision: str
    model_sha256: str
    objective: str | None
    tta: tuple[str, ...]
    calibrated: bool
    dropout_passes: int
    uid_root: str | None = None

    @cached_property
    def analysis_sha256(self) -> str:
        """SHA-256 of the settings that decide the content of a DICOM result, and of the release."""
        return digest_of(
            {name: value for name, value in self.as_json().items() if name not in _WITHOUT_EFFECT}
        )

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of all settings and the release."""
        return digest_of(self.as_json())

    def as_json(self) -> dict[str, Any]:
        """Give all settings and the release, as JSON takes them."""
        return {"pneumoseg": version("pneumoseg"), **asdict(self)}


def make_settings(
    kinds: Collection[str],
    *,
    acceptance: AcceptanceFilters,
    research: bool,
    batch_size: int,
    model: Model,
    uid_root: str | None = None,
) -> Settings:
    """Collect the settings of a run.

    Args:
        kinds: Requested kinds of results.
        acceptance: Which files are accepted as frontal chest radiographs.
        research: Whether everything that identifies a person is left out.
        batch_size: Images per batch.
        model: Model, with its operating point, augmentations, calibration and dropout samples.
        uid_root: Root of the UIDs of DICOM results; None stands for 2.25.
    """
    return Settings(
        kinds=tuple(kind for kind in KINDS if kind in kinds),
        acceptance=acceptance,
        research=research,
        batch_size=batch_size,
        runtime=model.runtime,
        precision=f"{model.precision.name} on {model.precision.device.type}",
        model_sha256=model_sha256(model),
        objective=model.objective,
        tta=model.tta,
        calibrated=model.calibration is not None,
        dropout_passes=model.dropout_passes,
        uid_root=uid_root,
    )


def check_kinds(kinds: Collection[str], *, dropout_passes: int = 0) -> None:
    """Refuse unknown kinds of results, and uncertainty without dropout samples.

    Args:
        kinds: Requested kinds of results.
        dropout_passes: Monte-Carlo dropout samples.

    Raises: UsageError: If a kind is unknown or needs dropout samples.
    """
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise UsageError(f"--type {unknown[0]}: {', '.join(KINDS)} would fit")
    if "uncertainty" in kinds and not dropout_passes:
        raise UsageError("--type uncertainty needs --dropout-passes, which it is measured with; 20 would fit")


def algorithm_parameters(model: Model) -> dict[str, str]:
    """Give the settings of a model that decide a mask or a probability, by name, for a reader.

    Args:
        model: Model, with its operating point, augmentations, calibration and dropout samples.
    """
    values = {
        "operating point": model.objective or "default",
        **{name.replace("_", " "): value for name, value in asdict(model.operating_point).items()},
        "TTA": ", ".join(model.tta) or "none",
        **{f"calibration {name}": value for name, value in model.calibration or ()},
        "dropout samples": model.dropout_passes,
    }
    return {
        name: f"{value:.6g}" if isinstance(value, float) else str(value)
        for name, value in values.items()
        if value is not None
    }


def check_uid_root(root: str | None) -> None:
    """Refuse a text that is no root of UIDs.

    Args:
        root: Root as an organisation has registered it, without a dot at its end; None stands for 2.25.

    Raises: UsageError: If it is not made of numbers and dots, or is too long.
    Source: DICOM PS3.5 9.1.
    """
    if root is not None and not (len(root) <= _LONGEST_UID_ROOT and _UID_ROOT.fullmatch(root)):
        raise UsageError(
            f"--uid-root {root[:80]}: a root is made of numbers and dots and has at most {_LONGEST_UID_ROOT} "
            "characters; 1.2.826.0.1.3680043.10.1 would fit"
        )


def model_sha256(model: Model) -> str:
    """Hash all that decides a mask or a probability: network, weights, preprocessing, operating point, TTA, ..."""
    informative = {"format_version", "trained_on", "validation", "versions"}  # without effect on results
    description = model.description.model_dump(mode="json", exclude=informative)
    return digest_of(
        [description, model.objective, model.tta, model.calibration is not None, model.dropout_passes]
    )
