"""Process files on a Ray cluster: actors hold the model, and write results and receipts as they go.

Ray Data starts a killed actor again and repeats its block. That is harmless: a file gives the same bytes each time, and
results appear under their names only when they are complete.
"""

import logging
import os
import pickle
import signal
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch

from pneumoseg.pipeline.core.claims import remove_unfinished
from pneumoseg.pipeline.core.devices import resolve_device
from pneumoseg.pipeline.core.errors import JobError, UsageError, explain, first_line
from pneumoseg.pipeline.inference.model import Model, ModelOptions, load_model
from pneumoseg.pipeline.reading.readers import Readers
from pneumoseg.pipeline.results.planning import Part, Planned
from pneumoseg.pipeline.results.processing import process_files
from pneumoseg.pipeline.results.settings import make_settings
from pneumoseg.pipeline.results.writing import Writer
from pneumoseg.pipeline.runtimes.libraries import extra
from pneumoseg.transforms.reader.radiograph import read_radiograph
from pneumoseg.transforms.reader.reasons import RadiographError

LOCAL: Final = "local"
RAY: Final = "ray"
ENGINES: Final = (LOCAL, RAY)
_BATCHES_PER_BLOCK: Final = 4  # a killed actor loses a block; a small one costs an idle network at its ends
_MOST_BLOCKS: Final = 10_000  # the driver keeps track of each in memory


def check_engine(engine: str, part: Part | None) -> None:
    """Refuse an unknown engine, and parts of a run on a cluster.

    Args:
        engine: ``local`` or ``ray``.
        part: Part of the run; None for all of it.

    Raises: UsageError: If they do not fit.
    """
    if engine not in ENGINES:
        raise UsageError(f"--engine {engine}: {' or '.join(ENGINES)} would fit")
    if engine == RAY and part is not None:
        raise UsageError("--engine ray shares the files itself; leave --num-parts and --part-id out")


@contextmanager
def connected() -> Iterator[None]:
    """Connect to the cluster of ``RAY_ADDRESS`` or of this machine, or start one here, which ends with the context.

    Raises:
        UsageError: If Ray is not installed.
        JobError: If the cluster cannot be reached.
    """
    with extra("ray"):
        import ray  # noqa: PLC0415  (an extra)
        import ray.data  # noqa: PLC0415

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if ray.is_initialized():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(logging_level=logging.ERROR, log_to_driver=False)
    except Exception as error:  # noqa: BLE001  (of any library below)
        raise JobError(
            f"no Ray cluster can be used: {first_line(error)}; `ray status` and RAY_ADDRESS may show why"
        ) from None
    finally:
        with suppress(ValueError):  # outside the main thread nothing was changed
            signal.signal(signal.SIGTERM, handler)  # that of Ray would exit at once
    try:
        yield
    finally:
        ray.shutdown()


def process_on_ray(
    model: Model,
    options: ModelOptions,
    writer: Writer,
    files: Sequence[Planned],
    *,
    workers: int = 1,
    refused: Mapping[Path, RadiographError] | None = None,
) -> Generator[Path]:
    """Do on a cluster what `process_files` does in this process; call it inside `connected`.

    Each actor reserves as many processors as torch has threads here, and one GPU where *model* is on one.

    Args:
        model: Loaded model, whose folder all machines see under the same path.
        options: How it was loaded.
        writer: Writer of the results, into a folder that all machines see under the same path.
        files: Files to process, with the names of their results.
        workers: Number of decoding processes of each actor.
        refused: Errors of files that are not to be read.

    Returns: The paths of the files of a block, once all its receipts are written, in any order.
    Raises: JobError: If an actor fails, rather than dies.
    """
    import ray  # noqa: PLC0415  (an extra)
    from ray.data import ActorPoolStrategy, DataContext, from_items  # noqa: PLC0415

    context = DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    refused = refused or {}
    tasks = [  # other processes have another working directory
        pickle.dumps((index, replace(file, path=file.path.absolute()), refused.get(file.path)))
        for index, file in enumerate(files)
    ]
    per_block = max(_BATCHES_PER_BLOCK * writer.settings.batch_size, -(-len(files) // _MOST_BLOCKS))
    threads, is_cuda = torch.get_num_threads(), model.precision.device.type == "cuda"
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    room = int(resources.get("GPU" if is_cuda else "CPU", 1)) // (1 if is_cuda else threads)
    blocks = -(-len(files) // per_block)
    done = from_items([{"task": task} for task in tasks], override_num_blocks=max(1, blocks)).map_batches(
        _Actor,
        fn_constructor_kwargs={
            "folder": model.folder.absolute(),
            "options": replace(options, runtime=model.runtime, precision=model.precision.name),
            "device": model.precision.device.type,
            "writer": replace(writer, output=writer.output.absolute()),
            "threads": threads,
            "workers": workers,
        },
        batch_size=None,
        compute=ActorPoolStrategy(min_size=max(1, min(room, blocks)), max_size=max(1, blocks)),
        num_cpus=threads,
        num_gpus=1 if is_cuda else None,
    )
    try:
        for row in done.iter_rows():
            yield files[row["index"]].path
    except Exception as error:  # noqa: BLE001  (whatever an actor raises, and Ray itself)
        raise _reason(error) from None
    remove_unfinished(writer.output)  # files of actors that were killed


class _Actor:
    """A process of the cluster that holds the model."""

    def __init__(
        self, *, folder: Path, options: ModelOptions, device: str, writer: Writer, threads: int, workers: int
    ) -> None:
        torch.set_num_threads(threads)
        settings = writer.settings
        self.model = load_model(folder, resolve_device(device), options)
        self.writer = writer
        own = make_settings(
            settings.kinds,
            acceptance=settings.acceptance,
            research=settings.research,
            batch_size=settings.batch_size,
            model=self.model,
            uid_root=settings.uid_root,
        )
        if own.sha256 != settings.sha256:
            raise JobError(
                f"a worker has other settings than the driver: {own.precision}, model {own.model_sha256[:16]}, against "
                f"{settings.precision}, model {settings.model_sha256[:16]}; do all machines have the same release?"
            )
        self.readers = Readers(read_radiograph, acceptance=settings.acceptance, workers=workers)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[int]]:
        """Process the files of a block; returns their indices."""
        tasks = [pickle.loads(task) for task in batch["task"]]  # noqa: S301  (the driver wrote it)
        files = {file.path: file for _, file, _ in tasks}
        for _ in process_files(
            self.model,
            self.writer,
            list(files),
            lambda path, _uid, _sha256: files[path],
            readers=self.readers,
            refused={file.path: error for _, file, error in tasks if error is not None},
            refuse=lambda path, read: files[path].check(read),
        ):
            pass
        return {"index": [index for index, _, _ in tasks]}


def _reason(error: Exception) -> JobError:
    """Find what has happened in an actor in the errors that Ray wraps it in."""
    cause: BaseException | None = error
    while isinstance(cause, Exception):
        error = cause
        if isinstance(error, JobError):
            return error
        cause = getattr(error, "cause", None) or error.__cause__
    return JobError(f"the cluster gave up: {explain(error)}; the same command continues with the rest")
