"""Example cases of an evaluation, with their pictures, for the gallery of its report."""

from collections.abc import Callable, Sequence
from pathlib import Path

from pneumoseg.pipeline.dataset.cases import ACCEPT_ALL_KINDS
from pneumoseg.pipeline.dataset.manifest import Case, image_path
from pneumoseg.pipeline.inference.examine import examine_files
from pneumoseg.pipeline.inference.model import Model
from pneumoseg.pipeline.inference.segment import NotRead
from pneumoseg.pipeline.inference.segmentation import Segmentation
from pneumoseg.pipeline.jobs.measure_cases import MeasuredCases, Parts
from pneumoseg.pipeline.reporting.content import Picture, Shown
from pneumoseg.pipeline.reporting.panels import case_panels
from pneumoseg.pipeline.scoring.challenge import dice_from_counts
from pneumoseg.pipeline.scoring.examples import choose_examples
from pneumoseg.pipeline.scoring.headline import ScoredImages
from pneumoseg.transforms.labels.rle import decode_rle
from pneumoseg.transforms.masks import OperatingPoint, to_mask
from pneumoseg.transforms.measurements import probability_text


def make_exhibits(
    measured: MeasuredCases,
    quoted: ScoredImages,
    parts: Parts,
    manifest_path: Path,
    *,
    point_of: Callable[[Case], OperatingPoint],
    each: int,
    workers: int,
) -> list[Shown]:
    """Choose example cases of each kind, run them again by the model that has scored them, and make their pictures.

    Args:
        measured: The scored cases.
        quoted: The same cases with the masks whose scores are quoted.
        parts: Which models have scored which cases.
        manifest_path: Path of the manifest file, which image paths are relative to.
        point_of: Gives the operating point that the mask of a case is made with.
        each: Largest number of cases of each kind: best, median, worst, missed, false alarm.
        workers: Processes that decode; 0 decodes in this process, without protection from damaged files.

    Returns: One exhibit for each example, in the order in which the report shows them.
    """
    dices = dice_from_counts(quoted.pred_px, quoted.true_px, quoted.shared_px)
    kinds = dict(choose_examples(quoted.true_px, quoted.pred_px, dices, each=each))
    exhibits: dict[int, Shown] = {}
    for model, part in parts:
        scored_here = set(part)
        places = [place for place in kinds if measured.indices[place] in scored_here]
        paths = [image_path(manifest_path, measured.cases[place]) for place in places]
        results = examine_files(model, paths, acceptance=ACCEPT_ALL_KINDS, workers=workers)
        for place, result in zip(places, results, strict=True):
            case, probability = measured.cases[place], float(measured.probabilities[place])
            panels, why_none = _panels(model, result, case, point_of(case), probability)
            facts = {
                "Dice": f"{dices[place]:.3f}",
                "image probability": probability_text(probability, digits=3),
                "truth": f"{case.area_px} px",
                "mask": f"{quoted.pred_px[place]} px",
                "view": case.view,
                "sex": case.sex,
                "age": None if case.age is None else str(case.age),
                "no picture": why_none,
            }
            known = {name: value for name, value in facts.items() if value is not None}
            exhibits[place] = Shown(kinds[place], case.id, known, panels)
    return [exhibits[place] for place in kinds]


def _panels(
    model: Model, result: Segmentation | NotRead, case: Case, point: OperatingPoint, probability: float
) -> tuple[Sequence[Picture], str | None]:
    """Make the pictures of a case, or give the reason why there are none."""
    if isinstance(result, NotRead):
        return (), str(result.error.reason)
    if result.radiograph.burned_in:  # it may be a name
        return (), "text is burned into the image"
    panels = case_panels(
        image=result.radiograph.image,
        label=decode_rle(case.label, case.shape),
        pred=to_mask(result.probabilities, point, probability),
        probabilities=result.probabilities,
        uncertainty=result.pixel_std,
        attention=dict(zip(model.networks[0].gate_names, result.attention or (), strict=True)),
    )
    return panels, None
