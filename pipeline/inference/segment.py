"""Radiograph files to probability maps, in order, a batch at a time."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from pneumoseg.pipeline.devices import Precision
from pneumoseg.pipeline.inference.ahead import ahead
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

_FINEST_GATE: Final = -1
_MOST_FILES: Final = 16  # looked at for one image of a batch: who waits for results gets reasons meanwhile


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
        attention: Coefficients of the finest gate, shape ``(rows, columns)``; None where they were not asked for.
    """

    path: Path
    radiograph: Radiograph
    probability: float
    probabilities: npt.NDArray[np.float32]
    mask: npt.NDArray[np.uint8]
    uncertainty: float | None = None
    deviations: npt.NDArray[np.float32] | None = None
    attention: npt.NDArray[np.float32] | None = None

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
    attention: bool = False,
) -> Generator[Segmented | NotRead]:
    """Apply a model to files; each gives one result, in the order of *paths*.

    Three things go on at a time: files are read and become batches; the network is called on the batch before; and
    whoever takes the results has those of the batch before that, brought to the size of their images. Close the
    generator to leave early.

    Args:
        model: Its preprocessing and its operating point are used; nobody else may call it meanwhile.
        paths: Radiographs; a bad one gives its reason and stops nothing.
        precision: In which the network computes, and where.
        gates: Which files count as frontal chest radiographs.
        batch_size: Images at a time; memory grows with it, not with the number of files.
        workers: Processes that decode; none decodes in this one, without protection from damaged files.
        even_batches: Fill each batch up, so that what is said of a file does not depend, not even in its last bit,
            on how many others go with it.
        attention: Whether to tell what the finest gate lets through.
    """
    batches = ahead(
        _read_batches(
            paths,
            image_size=model.image_size,
            gates=gates,
            batch_size=batch_size,
            workers=workers,
            even=even_batches,
            pin_memory=precision.device.type == "cuda",
        )
    )
    with closing(ahead(_ask(model, batches, precision=precision, attention=attention))) as answered:
        for batch in answered:
            answers = iter(batch.answers())
            for path, read in batch.files:
                yield (
                    _finish(model, path, read, *next(answers))
                    if isinstance(read, Radiograph)
                    else NotRead(path, read)
                )


@dataclass(frozen=True)
class _Batch:
    """Files, and what the network is shown of those that could be read.

    Args:
        files: As many radiographs as there are images, and files that could not be read anywhere among them.
        images: Shape (B, 1, size, size), B not less than the radiographs; None without any.
    """

    files: Sequence[tuple[Path, Radiograph | RadiographError]]
    images: Tensor | None


def _read_batches(
    paths: Sequence[Path],
    *,
    image_size: int,
    gates: Gates | None,
    batch_size: int,
    workers: int,
    even: bool,
    pin_memory: bool,
) -> Generator[_Batch]:
    chain = inference_chain(image_size=image_size)
    with Readers(read_radiograph, gates=gates, workers=workers) as readers:
        results = zip(paths, readers.read(paths), strict=True)
        while files := list(_take(results, radiographs=batch_size)):
            samples = [chain({"image": read}) for _, read in files if isinstance(read, Radiograph)]
            images = torch.stack([sample["image"] for sample in samples]) if samples else None
            if images is not None and even:
                images = functional.pad(images, (0, 0) * 3 + (0, batch_size - len(images)))
            yield _Batch(files, images.pin_memory() if pin_memory and images is not None else images)


_Read = tuple[Path, Radiograph | RadiographError]


def _take(results: Iterator[_Read], *, radiographs: int) -> Iterator[_Read]:
    """Files until there are so many radiographs among them; those that are none do not make a batch smaller."""
    for path, read in islice(results, _MOST_FILES * radiographs):
        yield path, read
        radiographs -= isinstance(read, Radiograph)
        if radiographs == 0:
            return


@dataclass(frozen=True)
class _Answered:
    """A batch, and what the network says of it, on its way into this computer's memory.

    Args:
        files: As in `_Batch`.
        outputs: Probabilities, and with dropout the deviations of pixels and image: shape (B, 1 or 3, size, size).
            Behind them the finest gate's map, where it was asked for.
        arrived: Of CUDA: what to wait for.
    """

    files: Sequence[_Read]
    outputs: Sequence[Tensor]
    arrived: torch.cuda.Event | None

    def answers(self) -> Iterator[tuple[Tensor, ...]]:
        """What is said of each image."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return zip(*self.outputs, strict=True)


def _ask(
    model: Model, batches: Generator[_Batch], *, precision: Precision, attention: bool
) -> Generator[_Answered]:
    infer = PaddedInferer(precision)
    with closing(batches):
        for batch in batches:
            outputs = []
            if batch.images is not None:
                images = batch.images.to(precision.device, non_blocking=True)
                logits = infer(images, model.network)
                outputs.append(torch.cat([torch.sigmoid(logits[:, :1]), logits[:, 1:]], dim=1))
                if attention:
                    outputs.append(_gate_maps(model, images, precision)[_FINEST_GATE])
            yield _Answered(batch.files, *_fetch(outputs))


def _fetch(outputs: Sequence[Tensor]) -> tuple[Sequence[Tensor], torch.cuda.Event | None]:
    """Bring what was computed into this computer's memory, once for a batch and without waiting for it."""
    if not outputs or outputs[0].device.type != "cuda":
        return outputs, None
    fetched = [torch.empty_like(output, device="cpu", pin_memory=True) for output in outputs]
    for here, there in zip(fetched, outputs, strict=True):
        here.copy_(there, non_blocking=True)
    return fetched, torch.cuda.current_stream(outputs[0].device).record_event()


def attention_maps(
    model: Model, image: Path | Radiograph, *, precision: Precision, gates: Gates | None = None
) -> list[npt.NDArray[np.float32]]:
    """The coefficients of the four attention gates on one radiograph, deepest first.

    A path is read in this process; give a radiograph that `segment_files` has read where it may be damaged.

    Returns: Each of shape ``(rows, columns)``, the size of the original image.
    Raises: RadiographError: If the file cannot be used.
    """
    sample = inference_chain(image_size=model.image_size, gates=gates)({"image": image})
    maps = _gate_maps(model, sample["image"][None].to(precision.device), precision)
    return [to_original_size(map_[0], sample["shape"])[0].cpu().numpy() for map_ in maps]


def _gate_maps(model: Model, images: Tensor, precision: Precision) -> list[Tensor]:
    """The coefficients of each gate, as large as the images: a map of its level's size could not be cropped evenly."""
    with torch.no_grad(), precision.autocast():
        maps = model.network.attention(images)  # type: ignore[operator]
    return [functional.interpolate(map_.float(), size=images.shape[-2:], mode="nearest") for map_ in maps]


def _finish(
    model: Model, path: Path, radiograph: Radiograph, answer: Tensor, gate_map: Tensor | None = None
) -> Segmented:
    def enlarged(map_: Tensor) -> npt.NDArray[np.float32]:
        array: npt.NDArray[np.float32] = to_original_size(map_, radiograph.shape)[0].numpy()
        return array

    probabilities = enlarged(answer[:1])
    deviations = answer[1:]  # none, or of pixels and image: see `MonteCarloDropout`
    point = model.operating_point
    return Segmented(
        path=path,
        radiograph=radiograph,
        probability=float(calibrate(image_probability(probabilities, point), model.temperature)),
        probabilities=probabilities,
        mask=to_mask(probabilities, point),
        uncertainty=float(deviations[1].mean()) if len(deviations) else None,
        deviations=enlarged(deviations[:1]) if len(deviations) else None,
        attention=None if gate_map is None else enlarged(gate_map),
    )
