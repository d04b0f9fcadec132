"""Patient and pose of a phantom: the sampled parameters in millimetres.

Patient coordinates are those of the mid-coronal plane: x to the patient's left (right in the image), y down from the
lung apices, z towards the chest. Sizes are those of adults in anatomy atlases, rounded.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

View = Literal["AP", "PA"]
Sex = Literal["F", "M"]


@dataclass(frozen=True)
class Patient:
    """Parameters that stay the same in all images of a patient; lengths in mm."""

    sex: Sex
    age: int
    half_width: float  # of the rib cage inside, at its widest
    half_depth: float
    lung_height: float  # apex to right hemidiaphragm at full inspiration
    flare: float  # how much wider the cage is at the bottom than in the middle
    wall: float  # muscle and fat outside of the ribs
    breast: float  # radius; 0 where it casts no shadow
    heart: float  # size relative to an average heart
    aorta: float  # size of the aortic knob
    left_lower: float  # by how much the left hemidiaphragm is lower than the right one
    dome: float  # height of the diaphragm's arch
    bubble: float  # size of the air in the stomach; 0 for none
    rib_spacing: float
    rib_slope: float
    clavicle_rise: float  # from the sternal to the acromial end
    bone: float  # mineral content relative to a young adult's
    lung_density: float  # in g/ml
    vessel_seed: int


@dataclass(frozen=True)
class PatientPose:
    """Parameters that differ between images of a patient; lengths in mm, angles in radians."""

    view: View
    inspiration: float  # fraction of the full lung height
    field: float  # width of the square picture in the mid-plane
    centre: tuple[float, float]  # what lies in the middle of the picture, x and y
    roll: float  # the picture is turned
    yaw: float  # one shoulder is nearer to the detector
    tilt: float  # the patient leans back
    shoulders: float  # how far the scapulae are turned out of the lungs, 0 to 1
    source: float  # tube to mid-plane; negative where it stands before the chest (AP)


def sample_patient(rng: np.random.Generator) -> Patient:
    """Sample an adult patient.

    Args:
        rng: Random generator.
    """
    sex: Sex = "M" if rng.random() < 0.55 else "F"
    size = rng.normal(1.0 if sex == "M" else 0.92, 0.045)
    age = int(np.clip(rng.normal(48, 17), 18, 90))
    girth = rng.normal(0, 1)
    return Patient(
        sex=sex,
        age=age,
        half_width=size * rng.normal(133, 5) + 3 * girth,
        half_depth=size * rng.normal(88, 5) + 3 * girth,
        lung_height=size * rng.normal(208, 13) - 5 * girth,
        flare=rng.uniform(0.0, 1.0),
        wall=float(np.clip(27 + 8 * girth, 17, 50)),
        breast=float(np.clip(rng.normal(62, 11), 40, 85)) if sex == "F" else 0.0,
        heart=rng.normal(1.0, 0.07) + 0.002 * (age - 48) + 0.02 * girth,
        aorta=rng.normal(0.95, 0.08) + 0.006 * (age - 48),
        left_lower=rng.uniform(4, 16),
        dome=rng.uniform(26, 40),
        bubble=rng.uniform(0.5, 1.2) if rng.random() < 0.7 else 0.0,
        rib_spacing=size * rng.normal(22.5, 0.7),
        rib_slope=rng.normal(1.0, 0.13),
        clavicle_rise=rng.normal(34, 9),
        bone=float(np.clip(rng.normal(1.0, 0.1) - 0.004 * (age - 48), 0.6, 1.3)),
        lung_density=rng.uniform(0.22, 0.30),
        vessel_seed=int(rng.integers(2**31)),
    )


def sample_pose(rng: np.random.Generator, patient: Patient, view: View | None = None) -> PatientPose:
    """Sample the pose of a patient: upright with a deep breath (PA), or in bed (AP).

    Args:
        rng: Random generator.
        patient: Patient.
        view: View; None samples one.
    """
    view = view or ("PA" if rng.random() < 0.6 else "AP")
    upright = view == "PA"
    inspiration = rng.uniform(0.9, 1.03) if upright else rng.uniform(0.7, 0.95)
    field = 2 * patient.half_width * rng.uniform(1.16, 1.34)
    middle = 0.5 * patient.lung_height * inspiration
    return PatientPose(
        view=view,
        inspiration=inspiration,
        field=field,
        centre=(rng.normal(0, 7), middle + rng.normal(22, 10)),
        roll=rng.normal(0, 0.013 if upright else 0.035),
        yaw=rng.normal(0, 0.03 if upright else 0.08),
        tilt=rng.normal(0, 0.05) if upright else rng.normal(-0.03, 0.05),
        shoulders=rng.uniform(0.55, 1.0) if upright else rng.uniform(0.0, 0.5),
        source=1700.0 if upright else -1000.0,
    )
