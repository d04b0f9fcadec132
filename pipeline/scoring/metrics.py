"""The challenge's metric inside Ignite's and MONAI's engines."""

from collections.abc import Sequence
from typing import Any

import torch
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced
from monai.transforms import Transform
from monai.utils import CommonKeys as Keys

from pneumoseg.pipeline.dataset.manifest import Case
from pneumoseg.pipeline.devices import gather
from pneumoseg.pipeline.scoring.decision import CaseCurves, decide, search
from pneumoseg.transforms.geometry import to_original_size
from pneumoseg.transforms.masks import OperatingPoint
from pneumoseg.transforms.rle import decode_rle

CURVES = "curves"


class MeasureCurves(Transform):
    """Postprocessing of one case: logits to its `CaseCurves`, at the size of the original image.

    Args:
        cases: All cases of the manifest; a sample's ``index`` says which one it is.
    """

    def __init__(self, cases: Sequence[Case]) -> None:
        self.cases = cases

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Measure ``pred``, the logits of shape ``(1, size, size)``."""
        index = int(data["index"])
        case = self.cases[index]
        probabilities = to_original_size(torch.sigmoid(data[Keys.PRED].float()), case.shape)[0]
        label = torch.from_numpy(decode_rle(case.label, case.shape)).to(probabilities.device)
        return {**data, CURVES: CaseCurves.measure(probabilities, label, index=index)}


class ChallengeMetric(Metric):
    """Dice of the challenge at the original size, and its parts.

    Args:
        point: The operating point; None takes the best one for the cases at hand, which shows what a network
            has learned before its probabilities mean anything, and is too high by a little.
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
        """Score the cases seen since the last reset."""
        curves = self.all_curves()
        point = self.point or search(curves)
        found = decide(curves, point)
        return {
            **found.score.as_dict(),
            "auc": found.auc,
            "threshold": point.threshold,
            "min_area_fraction": point.min_area_fraction,
        }

    def all_curves(self) -> list[CaseCurves]:
        """The cases of all processes, in the order of the manifest."""
        everywhere = (curves for shard in gather(self.curves) for curves in shard)
        return sorted(everywhere, key=lambda curves: curves.index)
