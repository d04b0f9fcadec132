"""Challenge metric as Ignite metrics and MONAI postprocessing."""

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
from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.dataset.manifest import Case
from pneumoseg.pipeline.model.weights import non_finite_outputs
from pneumoseg.pipeline.scoring.case_curves import CaseCurves, count_levels, score_point
from pneumoseg.pipeline.scoring.distances import outline_distances
from pneumoseg.pipeline.scoring.search import Search
from pneumoseg.transforms.labels.rle import decode_rle
from pneumoseg.transforms.masks import OperatingPoint, to_mask
from pneumoseg.transforms.network_input import to_original_size

CURVES = "curves"


@dataclass(frozen=True, kw_only=True)
class PendingCurves:
    """Curves of a case that the host has not read yet.

    Attributes:
        index: Index of the case in the manifest.
        levels: What `count_levels` returns, on the device of the networks.
        image_probability: (1,), on the same device.
        finite: (1,), whether all logits are finite.
    """

    index: int
    levels: Tensor
    image_probability: Tensor
    finite: Tensor

    @property
    def is_positive(self) -> Tensor:
        """1 where the label has a pixel, else 0; without dimensions, on the device of the networks."""
        return self.levels[1].sum().clamp(max=1)


def read_curves(pending: Sequence[PendingCurves]) -> list[CaseCurves]:
    """Read the curves of cases from a device, all at once.

    Args:
        pending: Cases.

    Raises: JobError: If logits were non-finite.
    """
    if not pending:
        return []
    levels, probabilities, finite = (
        torch.stack([getattr(case, name) for case in pending]).cpu()
        for name in ("levels", "image_probability", "finite")
    )
    if not finite.all():
        raise non_finite_outputs(finite)
    return [
        CaseCurves.from_levels(counts, index=case.index, image_probability=probability)
        for case, counts, probability in zip(
            pending, levels.numpy(), probabilities[:, 0].tolist(), strict=True
        )
    ]


class MeasureCurves(Transform):
    """Count the levels of the prediction for one case at the size of the original image: see `PendingCurves`.

    Args:
        cases: All cases of the manifest; the item ``index`` of a sample is the index of its case.
    """

    def __init__(self, cases: Sequence[Case]) -> None:
        self.cases = cases

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Measure ``pred``, the `Prediction` of the case as a dictionary."""
        return {**data, CURVES: self._measure(data)[0]}

    def _measure(self, data: dict[str, Any]) -> tuple[PendingCurves, Tensor, npt.NDArray[np.uint8]]:
        """Compute curves, probabilities and label at the size of the original image."""
        index = int(data["index"])
        case = self.cases[index]
        prediction = data[Keys.PRED]
        probabilities = to_original_size(prediction["probabilities"], case.shape, case.orientation)[0]
        label = decode_rle(case.label, case.shape)
        on_host = torch.from_numpy(label)
        if probabilities.is_cuda:
            on_host = on_host.pin_memory()
        curves = PendingCurves(
            index=index,
            levels=count_levels(probabilities, on_host.to(probabilities.device, non_blocking=True)),
            image_probability=prediction["image_probability"],
            finite=prediction["finite"],
        )
        return curves, probabilities, label


@dataclass(frozen=True, kw_only=True)
class MaskScores:
    """Scores of one mask at the size of the original image.

    Attributes:
        area_px: Number of pixels of the mask.
        overlap_px: Number of pixels of the mask that are in the label.
        surface_dice: Surface Dice; NaN where it is undefined.
        hausdorff95_mm: 95 % Hausdorff distance in mm; NaN where it is undefined.
    """

    area_px: int
    overlap_px: int
    surface_dice: float
    hausdorff95_mm: float


@dataclass(frozen=True, kw_only=True)
class CaseMasks:
    """Scores of the masks of one case.

    Attributes:
        index: Index of the case in the manifest.
        own: Scores at the operating point of the model.
        cross_fitted: Scores at the cross-fitted operating point; None where there is none.
        uncertainty: Standard deviation of the image probability; None where dropout was off.
    """

    index: int
    own: MaskScores
    cross_fitted: MaskScores | None = None
    uncertainty: float | None = None


class MeasureMasks(MeasureCurves):
    """Convert the prediction of one case to its curves and to the scores of its masks.

    Args:
        cases: All cases of the manifest.
        point: Operating point of the model.
        cross_fitted: Function that returns the cross-fitted operating point of a case; None where there is none.
        on_uncertainty: Callback for the standard deviation of each pixel's probability, shape ``(rows, columns)`` at
            the size of the original image, where dropout is on.

    Attributes:
        masks: Scores of the cases that were measured, in this order.
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
        self.masks: list[CaseMasks] = []

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Measure ``pred``, the `Prediction` of the case as a dictionary."""
        pending, on_device, label = self._measure(data)
        (curves,) = read_curves([pending])
        case, probabilities = self.cases[curves.index], on_device.cpu().numpy()
        mask = to_mask(probabilities, self.point, curves.image_probability)
        own = _score(mask, label, case)
        cross_fitted, other = None, self.cross_fitted(case)
        if other is not None:
            other_mask = to_mask(probabilities, other, curves.image_probability)
            # distances are expensive, and most masks are equal at both points
            cross_fitted = own if np.array_equal(other_mask, mask) else _score(other_mask, label, case)
        prediction = data[Keys.PRED]
        if "pixel_std" in prediction:
            pixel_std = to_original_size(prediction["pixel_std"], case.shape, case.orientation)
            self.on_uncertainty(case, pixel_std[0].cpu().numpy())
        self.masks.append(
            CaseMasks(
                index=curves.index,
                own=own,
                cross_fitted=cross_fitted,
                uncertainty=float(prediction["image_std"]) if "image_std" in prediction else None,
            )
        )
        return {**data, CURVES: pending}


def _score(mask: npt.NDArray[np.uint8], label: npt.NDArray[np.uint8], case: Case) -> MaskScores:
    surface_dice, hausdorff = outline_distances(mask, label, case.spacing_mm)
    return MaskScores(
        area_px=int(np.count_nonzero(mask)),
        overlap_px=int(np.count_nonzero(mask & label)),
        surface_dice=surface_dice,
        hausdorff95_mm=hausdorff,
    )


class ChallengeMetric(Metric):
    """Compute the challenge's Dice at the original size, and its parts.

    The host reads the curves of all cases at once, so that it does not wait for a GPU in between.

    Args:
        point: Operating point; None searches the best one on the same cases, which measures a network before its
            probabilities are calibrated. That in-sample operating point has a score that is too high.
    """

    def __init__(self, point: OperatingPoint | None = None) -> None:
        self.point = point
        super().__init__(output_transform=lambda output: [item[CURVES] for item in output])

    @reinit__is_reduced
    def reset(self) -> None:
        """Forget all cases."""
        self._pending: list[PendingCurves] = []
        self._read: list[CaseCurves] = []

    @reinit__is_reduced
    def update(self, output: list[PendingCurves]) -> None:
        """Add the cases of a batch.

        Args:
            output: Curves of each case.
        """
        self._pending += output

    @property
    def items(self) -> list[CaseCurves]:
        """Curves of the cases of this process, in the order in which they were seen.

        Raises: JobError: If logits were non-finite.
        """
        self._read += read_curves(self._pending)
        self._pending = []
        return self._read

    def everywhere(self) -> list[CaseCurves]:
        """Return the curves of all processes in the order of the manifest.

        Raises: JobError: In all processes, if logits of one were non-finite; the others would wait for it.
        """
        try:
            own: list[CaseCurves] | JobError = self.items
        except JobError as error:
            own = error
        cases: list[CaseCurves] = []
        for shard in gather(own):
            if isinstance(shard, JobError):
                raise shard
            cases += shard
        return sorted(cases, key=lambda case: case.index)

    def compute(self) -> dict[str, float | None]:
        """Score the cases seen since the last reset.

        Returns: The parts of the `ChallengeScore`, the ``auc`` of the image probabilities, ``dice_positive_fixed`` (the
            mean Dice of the positives at a threshold of 0.5 without any other criterion, independent of the search),
            and the operating point.
        """
        curves = self.everywhere()
        point = self.point or Search(curves).best_thresholds()
        found = score_point(curves, point)
        return {
            **found.as_dict(),
            "dice_positive_fixed": score_point(curves, OperatingPoint()).score.dice_positive,
            "threshold": point.threshold,
            "min_area_fraction": point.min_area_fraction,
            "image_threshold": point.image_threshold,
        }
