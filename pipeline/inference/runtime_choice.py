"""Choice of the fastest installed runtime whose outputs were checked, for a number of images.

To prepare a runtime costs seconds; it saves a share of the time of each image. So each runtime is measured once for a
model and a machine, the measurement is kept in the cache folder, and a job takes the runtime that is done first with
its images. A runtime is only prepared and measured by a job for which that is expected to pay.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import torch

from pneumoseg.pipeline.core.config import RuntimeName
from pneumoseg.pipeline.core.console import say, warn
from pneumoseg.pipeline.core.errors import first_line
from pneumoseg.pipeline.core.files import write_json
from pneumoseg.pipeline.inference.model import AUTO, Model
from pneumoseg.pipeline.inference.passes import copies
from pneumoseg.pipeline.inference.runtime_check import Measured, make_check_images, measure_runtime
from pneumoseg.pipeline.runtimes.cache import cache_folder
from pneumoseg.pipeline.runtimes.forward import supports
from pneumoseg.pipeline.runtimes.libraries import RUNTIMES, is_installed
from pneumoseg.pipeline.runtimes.members import cache_key

FEWEST_IMAGES: Final = 64
"""With fewer images nothing is measured: even that would cost more than another runtime saves."""
EXPECTED_GAINS: Final[dict[RuntimeName, float]] = {"openvino": 0.3, "onnx": 0.15, "torch.compile": 0.1}
"""Share of the time of eager torch that a runtime is expected to save, before it has been measured."""
PREPARATION_S: Final[dict[RuntimeName, float]] = {"openvino": 20, "onnx": 20, "torch.compile": 90}
"""Seconds that the preparation of a runtime takes for each member."""
TOLERANCES: Final = {"float32": 1e-4, "bf16": 0.1, "fp16": 0.02}
"""Largest difference of a probability from eager float32 with which a runtime is chosen."""


def choose_runtime(model: Model, *, images: int, batch_size: int) -> Model:
    """Choose the runtime of a model whose runtime is ``auto``, and print the choice in one line.

    Args:
        model: Model as `load_model` returns it.
        images: Number of images of the job.
        batch_size: Images per batch.

    Returns: The model with the chosen runtime; the same model for torch, or if it had a runtime.
    """
    if model.requested_runtime != AUTO or model.dropout_passes:
        return model
    at_once = model.images_at_once(batch_size)
    path = cache_folder() / "runtimes" / f"{_key(model, at_once)}.json"
    measured = _read(path)
    passes = images * len(model.networks) * copies(model.tta)
    if images >= FEWEST_IMAGES and (new := _measure(model, measured, passes=passes, at_once=at_once)):
        measured = [*measured, *new]
        with suppress(OSError):  # a full disk costs the next job time, and nothing else
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, [asdict(each) for each in measured])
    chosen = fastest(measured, passes=passes, tolerance=TOLERANCES[model.precision.name])
    say(_reason(chosen, measured, images=images, precision=model.precision.name))
    if chosen is None or chosen.runtime == "torch":
        return model  # it computes in torch and is ready
    return replace(model, requested_runtime=chosen.runtime)


def fastest(measured: Sequence[Measured], *, passes: int, tolerance: float) -> Measured | None:
    """Select the runtime that is done first, of those whose outputs are right.

    Args:
        measured: Measurements, among them that of torch.
        passes: Number of forward passes of one image.
        tolerance: Largest difference of a probability from eager float32; torch itself may differ more.

    Returns: A measurement; None if there is none.
    """
    right = [
        each
        for each in measured
        if each.runtime == "torch" or (each.difference is not None and each.difference <= tolerance)
    ]
    return min(right, key=lambda each: each.total_s(passes), default=None)


def _reason(chosen: Measured | None, measured: Sequence[Measured], *, images: int, precision: str) -> str:
    """Say which runtime was chosen, and why."""
    if chosen is None or chosen.runtime == "torch":
        return (
            f"runtime torch in {precision}: preparing a faster one does not pay for {images} "
            f"image{'s' * (images != 1)}"
        )
    eager = next(each for each in measured if each.runtime == "torch")
    masks = (
        f"{chosen.differing_px} of {chosen.pixels} mask pixels differ"
        if chosen.differing_px
        else "equal masks"
    )
    return (
        f"runtime {chosen.runtime} in {precision}: {eager.pass_s / chosen.pass_s:.2f} times as fast as torch; "
        f"compared with torch in float32: {masks}"
    )


def _measure(model: Model, known: Sequence[Measured], *, passes: int, at_once: int) -> list[Measured]:
    """Measure the installed runtimes whose preparation is expected to pay for this many forward passes."""
    names = {each.runtime for each in known}
    candidates = [
        name
        for name in RUNTIMES
        if name not in names
        and is_installed(name, model.precision.device)
        and supports(name, model.precision)
    ]
    if not candidates:
        return []
    new: list[Measured] = []
    batches = make_check_images(model, at_once)
    # torch is the first; of others that take as long to prepare, the one that promises more
    for runtime in sorted(
        candidates, key=lambda name: (PREPARATION_S.get(name, 0), -EXPECTED_GAINS.get(name, 0))
    ):
        if runtime != "torch":
            best = fastest([*known, *new], passes=passes, tolerance=TOLERANCES[model.precision.name])
            eager = next(each for each in (*known, *new) if each.runtime == "torch")
            expected_s = (1 - EXPECTED_GAINS[runtime]) * passes * eager.pass_s
            if best is None or best.total_s(passes) - expected_s < _preparation_s(model, runtime):
                continue
            say(f"preparing runtime {runtime}, once for this model and machine")
        try:
            new.append(measure_runtime(model, runtime, batches))
        except Exception as error:  # noqa: BLE001  (of libraries; torch remains)
            reason = f"{type(error).__name__}: {first_line(error)[:200]}"
            warn(f"runtime {runtime} does not work here: {reason}")
            new.append(Measured(runtime, 0, 0, difference=None, differing_px=0, pixels=0))
    return new


def _preparation_s(model: Model, runtime: RuntimeName) -> float:
    return PREPARATION_S[runtime] * len(model.networks)


def _key(model: Model, at_once: int) -> str:
    """Hash what a measurement depends on: networks, operating point, sizes, precision, device, threads, versions."""
    device = model.precision.device
    is_cuda = device.type == "cuda"
    return cache_key(
        [member.sha256 for member in model.description.members],
        model.description.network.model_dump(mode="json"),
        asdict(model.operating_point),
        [model.image_size, at_once, model.precision.name, torch.get_num_threads()],
        torch.cuda.get_device_name(device) if is_cuda else torch.backends.cpu.get_cpu_capability(),
    )


def _read(path: Path) -> list[Measured]:
    """Read measurements; a missing or damaged file has none."""
    try:
        return [Measured(**each) for each in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        return []
