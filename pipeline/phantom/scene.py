"""Scene of an exposure: patient, pose, and collapsed lungs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pneumoseg.pipeline.phantom.chest import LEFT, RIGHT, Chest
from pneumoseg.pipeline.phantom.patient import Patient, PatientPose, View, sample_patient, sample_pose
from pneumoseg.pipeline.phantom.pneumothorax import Collapse, PneumothoraxPlan, area_at, collapse_lung
from pneumoseg.pipeline.phantom.projection import Projection

Seed = int | Sequence[int]

PREVALENCE = 0.225  # of pneumothorax in the SIIM-ACR challenge


@dataclass(frozen=True)
class Scene:
    """Everything that determines image and masks, except devices, exposure and noise."""

    patient: Patient
    pose: PatientPose
    plan: PneumothoraxPlan | None
    collapses: tuple[Collapse, ...]

    @cached_property
    def chest(self) -> Chest:
        """Chest of the patient in this pose."""
        return Chest(self.patient, self.pose)

    def masks(self, size: int) -> tuple[NDArray[np.uint8], ...]:
        """Render one mask for each row of the label; their union is the pneumothorax.

        Args:
            size: Rows and columns.

        Returns: Masks of zeros and ones, each of shape ``(size, size)``.
        """
        regions = [collapse.region(*Projection(self.pose, size).grid) for collapse in self.collapses]
        if self.plan and self.plan.rows == "overlapping":
            regions = _cut_with_overlap(regions[0])
        return tuple(region.astype(np.uint8) for region in regions if region.any())


def make_scene(
    seed: Seed,
    *,
    patient_seed: Seed | None = None,
    pneumothorax: PneumothoraxPlan | Literal[False] | None = None,
    view: View | None = None,
) -> Scene:
    """Sample a patient and a pose, and collapse a lung where required.

    Args:
        seed: Seed of everything that is not given.
        patient_seed: Seed of the patient; None derives it from *seed*.
        pneumothorax: Pneumothorax to add, or ``False`` for none; None samples one.
        view: ``PA`` or ``AP``; None samples one.
    """
    whole, poses, collapses = np.random.default_rng(seed).spawn(3)
    patient = sample_patient(whole if patient_seed is None else np.random.default_rng(patient_seed))
    pose = sample_pose(poses, patient, view)
    if pneumothorax is None:
        ill, quantile = collapses.random(2)
        pneumothorax = PneumothoraxPlan(area_at(quantile)) if ill < PREVALENCE else False
    if not pneumothorax:
        return Scene(patient, pose, None, ())

    chest = Chest(patient, pose)
    first = RIGHT if collapses.random() < 0.55 else LEFT
    shares = [(first, 0.6), (-first, 0.4)] if pneumothorax.rows == "each-side" else [(first, 1.0)]
    area_mm2 = pneumothorax.area_px * (pose.field / 1024) ** 2
    lungs = tuple(collapse_lung(chest, side, share * area_mm2, collapses) for side, share in shares)
    return Scene(patient, pose, pneumothorax, lungs)


def _cut_with_overlap(region: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Divide a region into two halves that share a fifth of its height."""
    rows = np.flatnonzero(region.any(axis=1))
    top, height = rows[0], rows[-1] + 1 - rows[0]
    row = np.arange(region.shape[0])[:, None]
    return [region & (row < top + 0.6 * height), region & (row >= top + 0.4 * height)]
