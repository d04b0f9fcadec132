"""Example cases of an evaluation, with their pictures, for the gallery of its report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pneumoseg.pipeline.dataset.cases import ACCEPT_ALL_KINDS
from pneumoseg.pipeline.dataset.manifest import Case, Manifest, image_path
from pneumoseg.pipeline.inference.examine import examine_files
from pneumoseg.pipeline.inference.segment import NotRead
from pneumoseg.pipeline.inference.segmentation import Segmentation
from pneumoseg.pipeline.jobs.measure_cases import MeasuredCases, Parts
from pneumoseg.pipeline.reporting.content import Shown
from pneumoseg.pipeline.reporting.panels import case_panels
from pneumoseg.pipeline.scoring.challenge import dice_from_counts
from pneumoseg.pipeline.scoring.examples import Example, choose_examples
from pneumoseg.pipeline.scoring.headline import ScoredImages
from pneumoseg.transforms.labels.rle import decode_rle
from pneumoseg.transforms.masks import OperatingPoint, to_mask
from pneumoseg.transforms.measurements import probability_text


@dataclass(frozen=True, kw_only=True)
class ExampleCase:
    """A case that the report shows, and its scores at the operating point whose scores are quoted.

    Attributes:
        kind: Why it is shown.
        point: Operating point that its mask is made with.
        dice: Dice of its mask.
        area_px: Pixels of its mask.
        image_probability: Image probability as the model outputs it.
    """

    kind: Example
    point: OperatingPoint
    dice: float
    area_px: int
    image_probability: float


def choose_cases(
    measured: MeasuredCases,
    quoted: ScoredImages,
    *,
    point_of: Callable[[Case], OperatingPoint],
    each: int,
) -> dict[int, ExampleCase]:
    """Choose example cases of each kind: best, median, worst, missed, false alarm.

    Args:
        measured: The scored cases.
        quoted: The same cases with the masks whose scores are quoted.
        point_of: Gives the operating point that the mask of a case is made with.
        each: Largest number of cases of each kind.

    Returns: The examples by the index of the case in the manifest, in the order in which the report shows them.
    """
    dices = dice_from_counts(quoted.pred_px, quoted.true_px, quoted.shared_px)
    return {
        measured.indices[place]: ExampleCase(
            kind=kind,
            point=point_of(measured.cases[place]),
            dice=float(dices[place]),
            area_px=int(quoted.pred_px[place]),
            image_probability=float(measured.probabilities[place]),
        )
        for place, kind in choose_examples(quoted.true_px, quoted.pred_px, dices, each=each)
    }


def make_exhibits(
    parts: Parts,
    manifest: Manifest,
    manifest_path: Path,
    examples: Mapping[int, ExampleCase],
    *,
    workers: int,
) -> list[Shown]:
    """Run the chosen cases again, each by the model that has scored it, and make their pictures.

    Args:
        parts: Which models have scored which cases.
        manifest: The manifest.
        manifest_path: Path of the manifest file, which image paths are relative to.
        examples: The chosen cases: see `choose_cases`.
        workers: Processes that decode; 0 decodes in this process, without protection from damaged files.

    Returns: One exhibit for each example, in their order.
    """
    exhibits: dict[int, Shown] = {}
    for model, part in parts:
        indices = [index for index in part if index in examples]
        paths = [image_path(manifest_path, manifest.training[index]) for index in indices]
        results = examine_files(model, paths, acceptance=ACCEPT_ALL_KINDS, workers=workers)
        for index, result in zip(indices, results, strict=True):
            exhibits[index] = _exhibit(
                manifest.training[index], examples[index], result, gates=model.networks[0].gate_names
            )
    return [exhibits[index] for index in examples]


def _exhibit(
    case: Case, example: ExampleCase, result: Segmentation | NotRead, *, gates: Sequence[str]
) -> Shown:
    numbers = {
        "Dice": f"{example.dice:.3f}",
        "image probability": probability_text(example.image_probability, digits=3),
        "truth": f"{case.area_px} px",
        "mask": f"{example.area_px} px",
        "view": case.view,
        "sex": case.sex,
        "age": None if case.age is None else str(case.age),
    }
    facts = {name: value for name, value in numbers.items() if value is not None}
    if isinstance(result, NotRead):
        return Shown(example.kind, case.id, {**facts, "no picture": str(result.error.reason)}, ())
    radiograph = result.radiograph
    if radiograph.burned_in:  # it may be a name
        return Shown(example.kind, case.id, {**facts, "no picture": "text is burned into the image"}, ())
    panels = case_panels(
        image=radiograph.image,
        label=decode_rle(case.label, case.shape),
        pred=to_mask(result.probabilities, example.point, example.image_probability),
        probabilities=result.probabilities,
        uncertainty=result.pixel_std,
        attention=dict(zip(gates, result.attention or (), strict=True)),
    )
    return Shown(example.kind, case.id, facts, panels)
