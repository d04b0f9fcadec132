"""Rendering of one phantom chest radiograph from a seed to an image and its masks."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pneumoseg.pipeline.phantom.attenuation import attenuation
from pneumoseg.pipeline.phantom.exposure import expose, sample_technique
from pneumoseg.pipeline.phantom.lines_and_tubes import render_details, write_markers
from pneumoseg.pipeline.phantom.patient import View
from pneumoseg.pipeline.phantom.pneumothorax import PneumothoraxPlan
from pneumoseg.pipeline.phantom.projection import Array, Projection
from pneumoseg.pipeline.phantom.scene import Scene, Seed, make_scene

COARSE = 512  # all but thin lines and noise is rendered at this size at most: nothing else is finer


@dataclass(frozen=True)
class Phantom:
    """Synthetic chest radiograph.

    Attributes:
        image: Image in [0, 1], bright where tissue is thick; float32, shape ``(rows, columns)``.
        masks: One mask of zeros and ones for each row of the label; empty without pneumothorax.
        scene: Patient, pose and collapsed lungs.
    """

    image: Array
    masks: tuple[NDArray[np.uint8], ...]
    scene: Scene

    @property
    def spacing_mm(self) -> float:
        """Pixel spacing in the mid-plane of the patient in mm."""
        return self.scene.pose.field / len(self.image)


def render_phantom(
    seed: Seed,
    *,
    patient_seed: Seed | None = None,
    size: int = 1024,
    pneumothorax: PneumothoraxPlan | Literal[False] | None = None,
    view: View | None = None,
) -> Phantom:
    """Render a synthetic chest radiograph.

    Args:
        seed: Seed of everything that is not given; the same seed gives the same image.
        patient_seed: Seed of the patient; the same one with another *seed* gives another image of the same patient.
        size: Rows and columns, a power of two from 128. Another size shows the same scene.
        pneumothorax: Pneumothorax to render, or ``False`` for none; None samples the prevalence and sizes of the
            challenge.
        view: ``PA`` (upright) or ``AP`` (in bed); None samples one.

    Raises:
        ValueError: If *size* is not a power of two from 128.
    """
    if size < 128 or size & (size - 1):
        raise ValueError(f"a phantom of {size} x {size} pixels; the size must be a power of two from 128")
    scene = make_scene(seed, patient_seed=patient_seed, pneumothorax=pneumothorax, view=view)
    # streams of their own, so that one more electrode does not change the noise
    texture, devices, exposure, noise = np.random.default_rng(seed).spawn(7)[3:]
    portable = scene.pose.view == "AP"
    technique = sample_technique(exposure, portable=portable)
    fine = Projection(scene.pose, size)
    coarse = Projection(scene.pose, min(size, COARSE))

    thick = attenuation(scene, coarse, texture, bone=technique.bone)
    thin = render_details(scene, fine, devices)
    picture = expose(thick, thin, technique, noise)
    picture = write_markers(picture, portable=portable, rng=devices)
    return Phantom(picture, scene.masks(size), scene)
