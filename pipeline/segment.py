"""Radiograph files to probability maps, in order, a batch at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pneumoseg.pipeline.devices import Precision
from pneumoseg.pipeline.inference import PaddedInferer
from pneumoseg.pipeline.model_folder import Model
from pneumoseg.transforms.chains import inference_chain
from pneumoseg.transforms.gates import Gates
from pneumoseg.transforms.geometry import to_original_size
from pneumoseg.transforms.masks import image_probability, to_mask
from pneumoseg.transforms.reasons import RadiographError
from pneumoseg.transforms.record import Radiograph


@dataclass(frozen=True)
class Segmented:
    """What the model says of one radiograph.

    Args:
        path: Of the file.
        radiograph: What was read.
        probability: That there is a pneumothorax, by the model's operating point.
        probabilities: Of each pixel of the original image, shape ``(rows, columns)``.
        mask: Zeros and ones of the same shape.
    """

    path: Path
    radiograph: Radiograph
    probability: float
    probabilities: npt.NDArray[np.float32]
    mask: npt.NDArray[np.uint8]

    @property
    def area_px(self) -> int:
        """Pixels of the mask."""
        return int(np.count_nonzero(self.mask))

    @property
    def area_mm2(self) -> float | None:
        """Area of the mask in the plane of the detector; None where the spacing is not known."""
        spacing = self.radiograph.spacing_mm
        return None if spacing is None else self.area_px * spacing[0] * spacing[1]


@dataclass(frozen=True)
class NotRead:
    """A file that the model says nothing of, and why."""

    path: Path
    error: RadiographError


def segment_files(
    model: Model,
    paths: Sequence[Path],
    *,
    precision: Precision,
    gates: Gates | None = None,
    batch_size: int = 4,
) -> Iterator[Segmented | NotRead]:
    """Apply a model to files; each gives one result, in the order of *paths*.

    Args:
        model: Its preprocessing and its operating point are used.
        paths: Radiographs; a bad one gives its reason and stops nothing.
        precision: In which the network computes, and where.
        gates: Which files count as frontal chest radiographs.
        batch_size: Images at a time; memory grows with it, not with the number of files.
    """
    chain = inference_chain(image_size=model.image_size, gates=gates)
    infer = PaddedInferer(precision)
    for start in range(0, len(paths), batch_size):
        read = [_read(chain, path) for path in paths[start : start + batch_size]]
        samples = [item for item in read if not isinstance(item, NotRead)]
        logits = iter(())
        if samples:
            images = torch.stack([sample["image"] for sample in samples])
            logits = iter(infer(images.to(precision.device, non_blocking=True), model.network))
        for path, item in zip(paths[start : start + batch_size], read, strict=True):
            yield (
                item if isinstance(item, NotRead) else _finish(model, path, item["radiograph"], next(logits))
            )


def attention_maps(
    model: Model, path: Path, *, precision: Precision, gates: Gates | None = None
) -> list[npt.NDArray[np.float32]]:
    """The coefficients of the four attention gates on one radiograph, deepest first.

    Returns: Each of shape ``(rows, columns)``, the size of the original image.
    Raises: RadiographError: If the file cannot be used.
    """
    sample = inference_chain(image_size=model.image_size, gates=gates)({"image": path})
    image = sample["image"][None].to(precision.device)
    with torch.no_grad(), precision.autocast():
        maps = model.network.attention(image)
    return [to_original_size(map_[0].float(), sample["shape"])[0].cpu().numpy() for map_ in maps]


def _read(chain: Any, path: Path) -> dict[str, Any] | NotRead:
    try:
        sample: dict[str, Any] = chain({"image": path})
    except RadiographError as error:
        return NotRead(path, error)
    return sample


def _finish(model: Model, path: Path, radiograph: Radiograph, logits: torch.Tensor) -> Segmented:
    probabilities = to_original_size(torch.sigmoid(logits), radiograph.shape)[0].cpu().numpy()
    point = model.operating_point
    return Segmented(
        path=path,
        radiograph=radiograph,
        probability=image_probability(probabilities, point),
        probabilities=probabilities,
        mask=to_mask(probabilities, point),
    )
