"""A closer look at a few radiographs: besides the result, how unsure the network is and where it looked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from pneumoseg.pipeline.devices import Precision
from pneumoseg.pipeline.inference.inferer import PaddedInferer
from pneumoseg.pipeline.inference.model_folder import Model
from pneumoseg.pipeline.inference.segment import NotRead, Segmented, attention_maps, segment_files
from pneumoseg.pipeline.inference.uncertainty import has_dropout
from pneumoseg.transforms.chains import inference_chain
from pneumoseg.transforms.gates import Gates
from pneumoseg.transforms.geometry import to_original_size
from pneumoseg.transforms.radiograph import Radiograph

PASSES: Final = 8
"""Through the dropout: enough to see where the network is unsure."""


@dataclass(frozen=True)
class Examined:
    """One radiograph, looked at closely.

    Attributes:
        result: What the model says.
        uncertainty: Standard deviation of the probability of each pixel, shape ``(rows, columns)``; None where the
            network has no dropout.
        attention: Coefficients of the four gates, of the same shape, deepest first.
    """

    result: Segmented
    uncertainty: npt.NDArray[np.float32] | None
    attention: Sequence[npt.NDArray[np.float32]]


def examine_files(
    model: Model, paths: Sequence[Path], *, precision: Precision, gates: Gates, workers: int = 1
) -> Iterator[Examined | NotRead]:
    """Look closely at a few files, in their order; one that cannot be used gives its reason.

    All results are held at once: nobody may call the networks while others are made.
    """
    results = list(
        segment_files(model, paths, precision=precision, gates=gates, batch_size=1, workers=workers)
    )
    for result in results:
        yield result if isinstance(result, NotRead) else _look_at(model, result, precision)


def _look_at(model: Model, result: Segmented, precision: Precision) -> Examined:
    deviations = result.deviations
    if deviations is None and has_dropout(model.network):
        deviations = _deviations(replace(model, dropout_passes=PASSES), result.radiograph, precision)
    return Examined(result, deviations, attention_maps(model, result.radiograph, precision=precision))


def _deviations(model: Model, radiograph: Radiograph, precision: Precision) -> npt.NDArray[np.float32]:
    sample = inference_chain(image_size=model.image_size)({"image": radiograph})
    answer = PaddedInferer(precision)(sample["image"][None].to(precision.device), model.network)
    small = answer[0, 1:2].float()  # of each pixel: see `MonteCarloDropout`
    deviations: npt.NDArray[np.float32] = to_original_size(small, radiograph.shape)[0].cpu().numpy()
    return deviations
