"""Plan of a set of phantoms: its patients and findings, before rendering."""

from dataclasses import dataclass

import numpy as np

from pneumoseg.pipeline.phantom.dicom_files import Encoding, instance_uid
from pneumoseg.pipeline.phantom.pneumothorax import PneumothoraxPlan, area_at
from pneumoseg.pipeline.phantom.scene import PREVALENCE, Scene, make_scene

DEFAULT_COUNT, DEFAULT_TEST_COUNT, DEFAULT_SEED = 300, 60, 0
UNLABELLED = 2  # training images without a row, as the challenge has some


@dataclass(frozen=True)
class PhantomCase:
    """One planned image of a set."""

    name: str
    seed: tuple[int, ...]
    patient_seed: tuple[int, ...]
    group: str
    test: bool
    labelled: bool
    pneumothorax: PneumothoraxPlan | None
    encoding: Encoding

    @property
    def id(self) -> str:
        """File name without suffix, and name in the CSV files."""
        return instance_uid(self.name)

    def scene(self) -> Scene:
        """Patient, pose and findings, without rendering."""
        return make_scene(self.seed, patient_seed=self.patient_seed, pneumothorax=self.pneumothorax or False)


def plan_cases(
    *, count: int = DEFAULT_COUNT, test_count: int = DEFAULT_TEST_COUNT, seed: int = DEFAULT_SEED
) -> list[PhantomCase]:
    """Plan patients and findings; prevalence and mask areas follow the challenge.

    Args:
        count: Number of labelled training images.
        test_count: Number of test images.
        seed: Seed of the patients.
    """
    training = _plan_part("train", count + UNLABELLED, seed, unlabelled=UNLABELLED)
    return training + _plan_part("test", test_count, seed, unlabelled=0)


def _plan_part(part: str, count: int, seed: int, *, unlabelled: int) -> list[PhantomCase]:
    """Plan the images of one folder: some patients have several images, and findings recur in the same patients."""
    stream = (seed, 0 if part == "train" else 1)
    rng = np.random.default_rng(stream)
    patients: list[int] = []
    while len(patients) < count:
        images = int(rng.choice([1, 2, 3, 5], p=[0.6, 0.2, 0.12, 0.08]))
        patients += [patients[-1] + 1 if patients else 0] * min(images, count - len(patients))

    bare = set(range(count - unlabelled, count))
    ill = _choose_ill(patients, round(PREVALENCE * (count - unlabelled)), bare, rng)
    plans = dict(zip(ill, _plan_findings(len(ill), rng), strict=True))
    return [
        PhantomCase(
            name=f"{seed}-{part}-{index:04d}",
            seed=(*stream, 0, index),
            patient_seed=(*stream, 1, patient),
            group=f"{part}-{patient:04d}",
            test=part == "test",
            labelled=index not in bare,
            pneumothorax=plans.get(index),
            encoding=_encoding(index),
        )
        for index, patient in enumerate(patients)
    ]


def _choose_ill(patients: list[int], wanted: int, bare: set[int], rng: np.random.Generator) -> list[int]:
    """Choose images with a pneumothorax: those of some patients, nine in ten of each."""
    order = {patient: place for place, patient in enumerate(rng.permutation(sorted(set(patients))).tolist())}
    spared = rng.random(len(patients)) < 0.1
    usable = [index for index in range(len(patients)) if index not in bare]
    return sorted(sorted(usable, key=lambda index: (spared[index], order[patients[index]], index))[:wanted])


def _plan_findings(count: int, rng: np.random.Generator) -> list[PneumothoraxPlan]:
    """Sample areas over the challenge's quantiles; one in five has two label rows, some of which overlap."""
    areas = [area_at((place + 0.5) / count) for place in rng.permutation(count).tolist()]
    large = [place for place, area in enumerate(areas) if area > 3_000]
    overlapping, both = set(large[::15]), set(large[4::5])
    return [
        PneumothoraxPlan(
            area, "overlapping" if place in overlapping else "each-side" if place in both else "whole"
        )
        for place, area in enumerate(areas)
    ]


def _encoding(index: int) -> Encoding:
    """Choose the encoding: four in five are JPEG, the others occur only in hospitals."""
    kinds: dict[int, Encoding] = {3: "monochrome1", 7: "native8", 13: "monochrome1", 17: "native16"}
    return kinds.get(index % 20, "jpeg")
