"""The challenge's metric inside Ignite's and MONAI's engines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced
from monai.transforms import Transform
from monai.utils import CommonKeys as Keys
from torch import Tensor

from pneumoseg.pipeline.core.devices import gather
from pneumoseg.pipeline.dataset.manifest import Case
from pneumoseg.pipeline.scoring.case_curves import CaseCurves, score_point, search_thresholds
from pneumoseg.pipeline.scoring.distances import outline_distances
from pneumoseg.transforms.geometry import to_original_size
from pneumoseg.transforms.labels.rle import decode_rle
from pneumoseg.transforms.masks import OperatingPoint, to_mask

CURVES = "curves"
MASKS = "masks"


class MeasureCurves(Transform):
    """Postprocessing of one case: its prediction to `CaseCurves`, at the size of the original image.

    Args:
        cases: All cases of the manifest; the item ``index`` of a sample is the place of its case.
    """

    def __init__(self, cases: Sequence[Case]) -> None:
        self.cases = cases

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Measure ``pred``, the `Prediction` of the case as a dictionary."""
        return {**data, CURVES: self._measure(data)[0]}

    def _measure(self, data: dict[str, Any]) -> tuple[CaseCurves, Tensor, npt.NDArray[np.uint8]]:
        """Give curves, probabilities and label at the size of the original image."""
        index = int(data["index"])
        case = self.cases[index]
        prediction = data[Keys.PRED]
        probabilities = to_original_size(prediction["probabilities"], case.shape)[0]
        label = decode_rle(case.label, case.shape)
        curves = CaseCurves.measure(
            probabilities,
            torch.from_numpy(label).to(probabilities.device),
            index=index,
            image_probability=float(prediction["image_probability"]),
        )
        return curves, probabilities, label


@dataclass(frozen=True, kw_only=True)
class MaskScores:
    """The scores of one mask, at the size of the original image.

    Attributes:
        area_px: Pixels of the mask.
        overlap_px: Pixels of the mask that are in the label.
        surface_dice: NaN where it is not known.
        hausdorff95_mm: Distance of the outlines; NaN where it is not known.
    """

    area_px: int
    overlap_px: int
    surface_dice: float
    hausdorff95_mm: float


@dataclass(frozen=True, kw_only=True)
class CaseMasks:
    """The scores of the masks of one case.

    Attributes:
        index: The case's place in the manifest.
        own: At the operating point of the model.
        cross_fitted: At the operating point that was searched without the patient; None where there is none.
        uncertainty: Standard deviation of the image probability; None where dropout was off.
    """

    index: int
    own: MaskScores
    cross_fitted: MaskScores | None = None
    uncertainty: float | None = None


class MeasureMasks(MeasureCurves):
    """Postprocessing of one case: its prediction to its curves and to the scores of its masks.

    Args:
        cases: All cases of the manifest.
        point: The operating point of the model.
        cross_fitted: Gives the operating point that was searched without the patient of a case, where there is one.
        on_uncertainty: Called with the standard deviation of each pixel's probability, at the size of the original
            image, where dropout is on.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        point: OperatingPoint,
        cross_fitted: Callable[[Case], OperatingPoint | None] = lambda _: None,
        on_uncertainty: Callable[[Case, npt.NDArray[np.float32]], None] = lambda *_: None,
    ) -> None:
        super().__init__(cases)
        self.on_uncertainty = on_uncertainty
        self.point = point
        self.cross_fitted = cross_fitted

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Measure ``pred``, the `Prediction` of the case as a dictionary."""
        curves, on_device, label = self._measure(data)
        case, probabilities = self.cases[curves.index], on_device.cpu().numpy()
        mask = to_mask(probabilities, self.point, curves.image_probability)
        own = _score(mask, label, case)
        cross_fitted, other = None, self.cross_fitted(case)
        if other is not None:
            other_mask = to_mask(probabilities, other, curves.image_probability)
            # distances take their time, and most masks are the same at both points
            cross_fitted = own if np.array_equal(other_mask, mask) else _score(other_mask, label, case)
        prediction = data[Keys.PRED]
        if "pixel_std" in prediction:
            self.on_uncertainty(case, to_original_size(prediction["pixel_std"], case.shape)[0].cpu().numpy())
        found = CaseMasks(
            index=curves.index,
            own=own,
            cross_fitted=cross_fitted,
            uncertainty=float(prediction["image_std"]) if "image_std" in prediction else None,
        )
        return {**data, CURVES: curves, MASKS: found}


def _score(mask: npt.NDArray[np.uint8], label: npt.NDArray[np.uint8], case: Case) -> MaskScores:
    surface_dice, hausdorff = outline_distances(mask, label, case.spacing_mm)
    return MaskScores(
        area_px=int(np.count_nonzero(mask)),
        overlap_px=int(np.count_nonzero(mask & label)),
        surface_dice=surface_dice,
        hausdorff95_mm=hausdorff,
    )


class CollectMasks(Metric):
    """The `CaseMasks` of all cases that were seen, in the order of the manifest."""

    def __init__(self) -> None:
        self.masks: list[CaseMasks] = []
        super().__init__(output_transform=lambda output: [item[MASKS] for item in output])

    @reinit__is_reduced
    def reset(self) -> None:
        """Forget all cases."""
        self.masks = []

    @reinit__is_reduced
    def update(self, output: list[CaseMasks]) -> None:
        """Take in the cases of a batch."""
        self.masks.extend(output)

    def compute(self) -> list[CaseMasks]:
        """Give all of them."""
        everywhere = (masks for shard in gather(self.masks) for masks in shard)
        return sorted(everywhere, key=lambda masks: masks.index)


class ChallengeMetric(Metric):
    """Dice of the challenge at the original size, and its parts.

    Args:
        point: The operating point; None takes the best one for the cases at hand, which shows what a network has
            learned before its probabilities are calibrated: an in-sample operating point, whose score is too high.
    """

    def __init__(self, point: OperatingPoint | None = None) -> None:
        self.point = point
        self.curves: list[CaseCurves] = []
        super().__init__(output_transform=lambda output: [item[CURVES] for item in output])

    @reinit__is_reduced
    def reset(self) -> None:
        """Forget all cases."""
        self.curves = []

    @reinit__is_reduced
    def update(self, output: list[CaseCurves]) -> None:
        """Take in the cases of a batch."""
        self.curves.extend(output)

    def compute(self) -> dict[str, float | None]:
        """Score the cases seen since the last reset.

        Returns: The parts of the `ChallengeScore`, the ``auc`` of the image probabilities, ``dice_positive_fixed``
            (the mean Dice of the positives at a threshold of 0.5 and without any other criterion, which no search has
            touched), and the operating point.
        """
        curves = self.all_curves()
        point = self.point or search_thresholds(curves)
        found = score_point(curves, point)
        return {
            **found.score.as_dict(),
            "auc": found.auc,
            "dice_positive_fixed": score_point(curves, OperatingPoint()).score.dice_positive,
            "threshold": point.threshold,
            "min_area_fraction": point.min_area_fraction,
            "image_threshold": point.image_threshold,
        }

    def all_curves(self) -> list[CaseCurves]:
        """The cases of all processes, in the order of the manifest."""
        everywhere = (curves for shard in gather(self.curves) for curves in shard)
        return sorted(everywhere, key=lambda curves: curves.index)
