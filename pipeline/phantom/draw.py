"""One phantom chest radiograph, from a number to a picture and its masks."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pneumoseg.pipeline.phantom.attenuation import attenuation
from pneumoseg.pipeline.phantom.exposure import draw_technique, expose
from pneumoseg.pipeline.phantom.lines_and_tubes import draw_details, write_markers
from pneumoseg.pipeline.phantom.patient import View
from pneumoseg.pipeline.phantom.pneumothorax import PneumothoraxPlan
from pneumoseg.pipeline.phantom.projection import Array, Projection
from pneumoseg.pipeline.phantom.scene import Scene, Seed, make_scene

COARSE = 512  # all but thin lines and noise is drawn at this size at most: nothing else is finer


@dataclass(frozen=True)
class Phantom:
    """A synthetic chest radiograph.

    Attributes:
        image: The picture in [0, 1], bright where tissue is thick; float32, (rows, columns).
        masks: One for each row of the label, zeros and ones; none without pneumothorax.
        scene: The patient, the pose and the collapsed lungs.
    """

    image: Array
    masks: tuple[NDArray[np.uint8], ...]
    scene: Scene

    @property
    def spacing_mm(self) -> float:
        """Pixel size in the patient's mid-plane."""
        return self.scene.pose.field / len(self.image)


def draw_phantom(
    seed: Seed,
    *,
    patient_seed: Seed | None = None,
    size: int = 1024,
    pneumothorax: PneumothoraxPlan | Literal[False] | None = None,
    view: View | None = None,
) -> Phantom:
    """Draw a chest radiograph of somebody who does not exist.

    Args:
        seed: Decides everything that is not given; the same number gives the same picture.
        patient_seed: Decides who is imaged; the same number with another *seed* is another image of them.
        size: Rows and columns, a power of two from 128. Another size shows the same scene.
        pneumothorax: The pneumothorax wanted, or ``False`` for none; by default as often and as large
            as in the challenge.
        view: ``PA`` (upright) or ``AP`` (in bed); by default either.

    Raises:
        ValueError: If *size* is not a power of two from 128.
    """
    if size < 128 or size & (size - 1):
        raise ValueError(f"a phantom of {size} x {size} pixels; the size must be a power of two from 128")
    scene = make_scene(seed, patient_seed=patient_seed, pneumothorax=pneumothorax, view=view)
    # streams of their own, so that one more electrode does not change the noise
    texture, devices, exposure, noise = np.random.default_rng(seed).spawn(7)[3:]
    portable = scene.pose.view == "AP"
    technique = draw_technique(exposure, portable=portable)
    fine = Projection(scene.pose, size)
    coarse = Projection(scene.pose, min(size, COARSE))

    thick = attenuation(scene, coarse, texture, bone=technique.bone)
    thin = draw_details(scene, fine, devices)
    picture = expose(thick, thin, technique, noise)
    picture = write_markers(picture, portable=portable, rng=devices)
    return Phantom(picture, scene.masks(size), scene)
