"""Inference on a stream of radiograph files, in order and in batches."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import Final, TypeVar, cast

import torch
from torch import Tensor
from torch.nn import functional

from pneumoseg.pipeline.inference.model import Model
from pneumoseg.pipeline.inference.predictor import Prediction
from pneumoseg.pipeline.inference.segmentation import Segmentation, postprocess
from pneumoseg.pipeline.reading.readers import Readers
from pneumoseg.transforms.network_input import network_input
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.radiograph import Radiograph, read_radiograph
from pneumoseg.transforms.reader.reasons import RadiographError

_END: Final = object()
_Item = TypeVar("_Item")
Refuse = Callable[[Path, Radiograph], RadiographError | None]
_MOST_FILES: Final = 16  # files per image of a batch, so that the reasons of unreadable files are not delayed


@dataclass(frozen=True)
class NotRead:
    """A file that was not read, with the reason."""

    path: Path
    error: RadiographError


def segment_files(
    model: Model,
    paths: Sequence[Path],
    *,
    acceptance: AcceptanceFilters | None = None,
    batch_size: int = 4,
    workers: int = 1,
    readers: Readers[Radiograph] | None = None,
    even_batches: bool = False,
    attention: bool = False,
    refused: Mapping[Path, RadiographError] | None = None,
    refuse: Refuse | None = None,
) -> Generator[Segmentation | NotRead]:
    """Apply a model to files; each gives one result, in the order of *paths*.

    Three stages run in parallel: files are read into batches; the networks run on the previous batch; and the caller
    uses the results of the batch before, resized to their images. Close the generator to stop early.

    Args:
        model: Model whose preprocessing, predictor and operating point are used; nothing else may run it meanwhile.
        paths: Paths of the radiographs; a file that is not read gives its reason, and the others continue.
        acceptance: Which files are accepted as frontal chest radiographs.
        batch_size: Images per batch; it determines the memory, which does not depend on the number of files.
        workers: Number of decoding processes; 0 decodes in this process, without protection from damaged files.
        readers: Decoding processes to use, with their own filters; None starts *workers* of them, and ends them.
        even_batches: Whether to pad each batch to a multiple of the images that are computed at once, so that a result
            is bit-exact whatever other files there are.
        attention: Whether to include the attention maps.
        refused: Errors of files that are not to be read.
        refuse: Function that is called with each radiograph, in order, and returns an error for one not to be used.
    """
    batches = ahead(
        _read_batches(
            paths,
            refused or {},
            refuse,
            readers or Readers(read_radiograph, acceptance=acceptance, workers=workers),
            image_size=model.image_size,
            batch_size=batch_size,
            ends_readers=readers is None,
            at_once=model.images_at_once(batch_size) if even_batches else 1,
            pin_memory=model.precision.device.type == "cuda",
        )
    )
    with closing(ahead(_predict(model, batches, attention=attention))) as predicted:
        for batch in predicted:
            cases = batch.cases()
            for path, read in batch.files:
                yield (
                    postprocess(model, read, next(cases), path=path)
                    if isinstance(read, Radiograph)
                    else NotRead(path, read)
                )


_Read = tuple[Path, Radiograph | RadiographError]


@dataclass(frozen=True)
class _Batch:
    """Files, and the network's input for those that were read.

    Attributes:
        files: As many radiographs as there are images, and the unreadable files among them.
        images: (B, 1, size, size), B at least the number of radiographs; None without radiographs.
        content: (B, 1, size, size), True for the pixels that are not padding.
    """

    files: Sequence[_Read]
    images: Tensor | None = None
    content: Tensor | None = None


def _read_batches(
    paths: Sequence[Path],
    refused: Mapping[Path, RadiographError],
    refuse: Refuse | None,
    readers: Readers[Radiograph],
    *,
    image_size: int,
    batch_size: int,
    ends_readers: bool,
    at_once: int,
    pin_memory: bool,
) -> Generator[_Batch]:
    with (
        readers if ends_readers else nullcontext(),
        closing(readers.read(path for path in paths if path not in refused)) as read,
    ):
        results = ((path, refused[path] if path in refused else next(read)) for path in paths)
        if refuse is not None:
            results = ((path, _used(path, result, refuse)) for path, result in results)
        while files := list(_take(results, radiographs=batch_size)):
            inputs = [network_input(read, image_size) for _, read in files if isinstance(read, Radiograph)]
            if not inputs:
                yield _Batch(files)
                continue
            images, content = map(torch.stack, zip(*inputs, strict=True))
            if missing := -len(images) % at_once:
                images = functional.pad(images, (0, 0) * 3 + (0, missing))
                content = functional.pad(content, (0, 0) * 3 + (0, missing))
            if pin_memory:
                images, content = images.pin_memory(), content.pin_memory()
            yield _Batch(files, images, content)


def _used(path: Path, read: Radiograph | RadiographError, refuse: Refuse) -> Radiograph | RadiographError:
    return read if isinstance(read, RadiographError) else refuse(path, read) or read


def _take(results: Iterator[_Read], *, radiographs: int) -> Iterator[_Read]:
    """Take files up to the number of radiographs; unreadable files do not make a batch smaller."""
    for path, read in islice(results, _MOST_FILES * radiographs):
        yield path, read
        radiographs -= isinstance(read, Radiograph)
        if radiographs == 0:
            return


@dataclass(frozen=True)
class _Predicted:
    """Batch with its prediction, while it is copied to the host.

    Attributes:
        files: Files of the batch.
        prediction: Prediction on the CPU; None without radiographs.
        arrived: CUDA event to wait for before the prediction is read.
    """

    files: Sequence[_Read]
    prediction: Prediction | None = None
    arrived: torch.cuda.Event | None = None

    def cases(self) -> Iterator[Prediction]:
        """Yield the prediction of each image.

        Raises: JobError: If logits are non-finite.
        """
        if self.arrived is not None:
            self.arrived.synchronize()
        if self.prediction is not None:
            self.prediction.check()
            yield from self.prediction.images()


def _predict(model: Model, batches: Generator[_Batch], *, attention: bool) -> Generator[_Predicted]:
    with closing(batches):
        for batch in batches:
            if batch.images is None:
                yield _Predicted(batch.files)
                continue
            prediction = model.predictor.predict_batch(
                batch.images, batch.content, attention=attention, check=False
            )
            yield _Predicted(batch.files, *_fetch(prediction))


def _fetch(prediction: Prediction) -> tuple[Prediction, torch.cuda.Event | None]:
    """Copy a prediction to the host, asynchronously and once per batch."""
    device = prediction.probabilities.device
    if device.type != "cuda":
        return prediction, None
    fetched = prediction.map(
        lambda tensor: torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(
            tensor, non_blocking=True
        )
    )
    return fetched, torch.cuda.current_stream(device).record_event()


def ahead(source: Generator[_Item], *, depth: int = 1) -> Generator[_Item]:
    """Run a generator in a thread ahead of its consumer; the items keep their order.

    An exception of the generator is raised here after the items that precede it. Closing this generator early waits
    until the current item is complete, and then closes *source* in the thread in which it has run.

    Args:
        source: Generator, used by this function only.
        depth: Largest number of items that are in memory, complete or being made.
    """
    room, left = Semaphore(depth), Event()
    ready: SimpleQueue[tuple[object, BaseException | None]] = SimpleQueue()

    def work() -> None:
        try:
            with closing(source):
                item: object = None
                while item is not _END:
                    room.acquire()
                    if left.is_set():
                        return
                    item = next(source, _END)
                    ready.put((item, None))
        except BaseException as error:  # noqa: BLE001  (it is raised where somebody waits)
            ready.put((_END, error))

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is _END:
                return
            room.release()
            yield cast("_Item", item)
    finally:
        left.set()
        room.release()
        thread.join()
