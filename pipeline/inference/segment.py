"""Radiograph files to probability maps, in order, a batch at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from pneumoseg.pipeline.devices import Precision
from pneumoseg.pipeline.inference.inferer import PaddedInferer
from pneumoseg.pipeline.inference.model_folder import Model
from pneumoseg.pipeline.reading.readers import Readers
from pneumoseg.pipeline.scoring.calibration import calibrate
from pneumoseg.transforms.chains import inference_chain
from pneumoseg.transforms.gates import Gates
from pneumoseg.transforms.geometry import to_original_size
from pneumoseg.transforms.masks import image_probability, to_mask
from pneumoseg.transforms.radiograph import Radiograph, read_radiograph
from pneumoseg.transforms.reasons import RadiographError


@dataclass(frozen=True)
class Segmented:
    """What the model says of one radiograph.

    Args:
        path: Of the file.
        radiograph: What was read.
        probability: That there is a pneumothorax, by the model's operating point, and at its temperature.
        probabilities: Of each pixel of the original image, shape ``(rows, columns)``, as masks are drawn from them:
            not at the temperature.
        mask: Zeros and ones of the same shape.
        uncertainty: Standard deviation of the image's probability; None where dropout was off, as the next.
        deviations: That of each pixel's probability, shape ``(rows, columns)``. Neither is at the temperature.
    """

    path: Path
    radiograph: Radiograph
    probability: float
    probabilities: npt.NDArray[np.float32]
    mask: npt.NDArray[np.uint8]
    uncertainty: float | None = None
    deviations: npt.NDArray[np.float32] | None = None

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
    workers: int = 1,
    even_batches: bool = False,
) -> Iterator[Segmented | NotRead]:
    """Apply a model to files; each gives one result, in the order of *paths*.

    Args:
        model: Its preprocessing and its operating point are used.
        paths: Radiographs; a bad one gives its reason and stops nothing.
        precision: In which the network computes, and where.
        gates: Which files count as frontal chest radiographs.
        batch_size: Images at a time; memory grows with it, not with the number of files.
        workers: Processes that decode while the network computes; none decodes in this one, without protection
            from damaged files.
        even_batches: Fill each batch up, so that what is said of a file does not depend, not even in its last bit,
            on how many others go with it.
    """
    chain = inference_chain(image_size=model.image_size)
    infer = PaddedInferer(precision)
    with Readers(read_radiograph, gates=gates, workers=workers) as readers:
        results = zip(paths, readers.read(paths), strict=True)
        while batch := list(islice(results, batch_size)):
            samples = [chain({"image": read}) for _, read in batch if isinstance(read, Radiograph)]
            logits = iter(())
            if samples:
                images = torch.stack([sample["image"] for sample in samples])
                if even_batches:
                    images = functional.pad(images, (0, 0) * 3 + (0, batch_size - len(images)))
                logits = iter(infer(images.to(precision.device, non_blocking=True), model.network))
            for path, read in batch:
                yield (
                    _finish(model, path, read, next(logits))
                    if isinstance(read, Radiograph)
                    else NotRead(path, read)
                )


def attention_maps(
    model: Model, image: Path | Radiograph, *, precision: Precision, gates: Gates | None = None
) -> list[npt.NDArray[np.float32]]:
    """The coefficients of the four attention gates on one radiograph, deepest first.

    A path is read in this process; give a radiograph that `segment_files` has read where it may be damaged.

    Returns: Each of shape ``(rows, columns)``, the size of the original image.
    Raises: RadiographError: If the file cannot be used.
    """
    sample = inference_chain(image_size=model.image_size, gates=gates)({"image": image})
    batch = sample["image"][None].to(precision.device)
    with torch.no_grad(), precision.autocast():
        maps = model.network.attention(batch)  # type: ignore[operator]
    size = (
        model.image_size,
        model.image_size,
    )  # a map is of its level's size, which cannot be cropped evenly
    squares = [functional.interpolate(map_.float(), size=size, mode="nearest")[0] for map_ in maps]
    return [to_original_size(square, sample["shape"])[0].cpu().numpy() for square in squares]


def _finish(model: Model, path: Path, radiograph: Radiograph, logits: torch.Tensor) -> Segmented:
    probabilities = to_original_size(torch.sigmoid(logits[:1]), radiograph.shape)[0].cpu().numpy()
    deviations = logits[1:]  # none, or of pixels and image: see `MonteCarloDropout`
    point = model.operating_point
    return Segmented(
        path=path,
        radiograph=radiograph,
        probability=float(calibrate(image_probability(probabilities, point), model.temperature)),
        probabilities=probabilities,
        mask=to_mask(probabilities, point),
        uncertainty=float(deviations[1].mean()) if len(deviations) else None,
        deviations=to_original_size(deviations[:1], radiograph.shape)[0].cpu().numpy()
        if len(deviations)
        else None,
    )
