"""Time of a training step: precisions, MONAI's engine relative to a bare loop, and the loader.

    python -m benchmarks.training_step [--quick] [--json FILE]

The peer of a step is the same network as stock torch trains it: float32 in NCHW, with torch's own dropout and an
optimizer that is not fused. A GPU is used where there is one.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from monai.data import set_track_meta
from monai.losses import DiceCELoss
from torch import nn

from benchmarks.comparison import Comparison, Setting, Timing, relate, run, take_turns
from benchmarks.peers import Peer
from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.core.config import DataConfig, OptimizationConfig, TrainConfig
from pneumoseg.pipeline.core.devices import Precision, resolve_device, resolve_precision
from pneumoseg.pipeline.core.memory import keep_freed_memory
from pneumoseg.pipeline.dataset.manifest import Case
from pneumoseg.pipeline.model.weights import place
from pneumoseg.pipeline.training.fitting import fit
from pneumoseg.pipeline.training.history import History, HistoryFiles
from pneumoseg.pipeline.training.initial import StartingWeights
from pneumoseg.pipeline.training.tracking import TensorBoard, TrackerHandler
from pneumoseg.pipeline.training.training_run import TrainingRun

CASES = 32
LOSS = DiceCELoss(sigmoid=True, batch=True)
BF16_LIMIT, FLOAT32_LIMIT, ENGINE_LIMIT, CACHE_LIMIT = 2.5, 1.3, 0.95, 20.0


def measure(setting: Setting) -> list[Comparison]:
    """Compare steps in bf16 and float32, the engine with a bare loop, and the loader with the network.

    Args:
        setting: Number of rounds, and small images for a quick run.
    """
    set_track_meta(False)
    keep_freed_memory()  # as the command does
    size, batch = (64, 2) if setting.quick else (256, 4)
    device = resolve_device("auto")
    auto, plain = resolve_precision("auto", device, training=True), Precision(device, torch.float32)
    image = torch.rand(batch, 1, size, size, device=device)
    label = (torch.rand_like(image) > 0.9).float()
    pixels, cases = make_cases(size)
    rounds = setting.rounds(9)

    steps: dict[str, Callable[[], object]] = {
        "stock": Peer(make_stock_step, plain, image.cpu(), label.cpu()),
        "float32": make_step(plain, image, label),
        auto.name: make_step(auto, image, label),
    }
    turns = take_turns(steps, rounds=rounds)
    lines = [
        relate(
            f"training step, {size} px, {name}, float32 NCHW",
            turns[name],
            turns["stock"],
            limit=BF16_LIMIT if name == "bf16" else FLOAT32_LIMIT,
        )
        for name in dict.fromkeys(("float32", auto.name))
    ]

    whole = make_run(pixels, cases, auto, batch)
    seconds = [
        [run_loop(pixels, cases, auto, batch) for run_loop in (run_engine, run_bare_loop)]
        for _ in range(setting.rounds(5))
    ]
    engine, bare = (
        Timing(statistics.median(each), len(each), quiet=False) for each in zip(*seconds, strict=True)
    )
    name = f"training, {size} px, engine with all handlers, bare loop"
    lines.append(relate(name, engine, bare, limit=ENGINE_LIMIT))

    sides: dict[str, Callable[[], object]] = {
        "step": steps[auto.name],
        "cache": batches_of(lambda: whole.make_batches().loader),
        "augmented": batches_of(whole.make_batches, auto.device),
    }
    turns = take_turns(sides, rounds=rounds)
    lines.append(relate(f"warm cache, {size} px, a step", turns["cache"], turns["step"], limit=CACHE_LIMIT))
    lines.append(
        relate(f"cache and augmentation, {size} px, a step", turns["augmented"], turns["step"], limit=None)
    )
    return lines


def batches_of(make: Callable[[], Any], device: torch.device | None = None) -> Callable[[], object]:
    """Make a function that fetches the next batch, from a new loader after the last one.

    Args:
        make: Makes the loader.
        device: Device that has to complete the batch; None for a batch of the host.
    """
    batches: Iterator[Any] = iter(())

    def fetch() -> object:
        nonlocal batches
        batch: Any = next(batches, None)
        if batch is None:
            batches = iter(make())
            batch = next(batches)
        if device is not None:
            synchronize(device)
        return batch

    return fetch


def make_cases(size: int) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], tuple[Case, ...]]:
    """Make noise with square labels, since the time of a step does not depend on the images.

    Args:
        size: Side of the images in pixels.
    """
    pixels = np.random.default_rng(0).integers(0, 255, (CASES, 2, size, size), dtype=np.uint8)
    pixels[:, 1] = 0
    pixels[::4, 1, : size // 8, : size // 8] = 255
    cases = tuple(
        Case(
            image=f"{index}.dcm",
            label=("0 1",) if index % 4 == 0 else (),
            id=str(index),
            group=str(index),
            fold=0,
            shape=(size, size),
            area_px=int(index % 4 == 0),
            sha256="0" * 64,
        )
        for index in range(CASES)
    )
    return pixels, cases


def make_run(pixels: Any, cases: tuple[Case, ...], precision: Precision, batch: int) -> TrainingRun:
    """One epoch over all cases, with the validation of a single one."""
    config = TrainConfig(
        data=DataConfig(image_size=pixels.shape[-1], batch_size=batch),
        optimization=OptimizationConfig(epochs=1, warmup_epochs=0),
    )
    return TrainingRun(
        cases,
        {pixels.shape[-1]: pixels},
        training=list(range(CASES)),
        validation=[0],
        config=config,
        precision=precision,
        workers=0,
        weights=StartingWeights(origin={}),
    )


def run_engine(pixels: Any, cases: tuple[Case, ...], precision: Precision, batch: int) -> float:
    """Measure the seconds per step in MONAI's engine, as recorded by the run.

    Args:
        pixels: Cache of images and labels.
        cases: Cases of the cache.
        precision: Number format and device.
        batch: Images per batch.
    """
    run = make_run(pixels, cases, precision, batch)
    with TemporaryDirectory() as name:
        tracker = TensorBoard(Path(name))
        history = History()
        reports = [HistoryFiles(history, Path(name)), TrackerHandler([tracker])]
        fit(run, history, Path(name), origin={}, reports=reports)
        tracker.close()
    return float(history.rows[0]["seconds"]) / run.plan.steps


def run_bare_loop(pixels: Any, cases: tuple[Case, ...], precision: Precision, batch: int) -> float:
    """Measure the seconds per step in a loop without an engine, on the same batches.

    Args:
        pixels: Cache of images and labels.
        cases: Cases of the cache.
        precision: Number format and device.
        batch: Images per batch.
    """
    run = make_run(pixels, cases, precision, batch)
    batches = run.make_batches()
    started = time.perf_counter()
    for samples in batches:
        image = samples["image"].to(precision.device)
        label = samples["label"].to(precision.device)
        update(run.network.train(), run.optimizer, precision, image, label)
    synchronize(precision.device)
    return (time.perf_counter() - started) / run.plan.steps


def make_step(precision: Precision, image: torch.Tensor, label: torch.Tensor) -> Callable[[], None]:
    """Make a training step of the article's network on one batch.

    Args:
        precision: Number format and device.
        image: (B, 1, H, W)
        label: (B, 1, H, W)
    """
    network = place(AttentionUNet(), precision.device)
    return _step(network, torch.optim.AdamW(network.parameters(), fused=True), precision, image, label)


def make_stock_step(precision: Precision, image: torch.Tensor, label: torch.Tensor) -> Callable[[], None]:
    """Make a training step as torch does it without further options.

    Args:
        precision: Number format and device.
        image: (B, 1, H, W), on any device.
        label: (B, 1, H, W), on any device.
    """
    network = place(AttentionUNet(), precision.device, channels_last=False)
    for part in network.modules():
        if isinstance(getattr(part, "dropout", None), nn.Dropout):
            part.dropout = nn.Dropout(0.2)
    image, label = image.to(precision.device), label.to(precision.device)
    return _step(network, torch.optim.AdamW(network.parameters(), fused=False), precision, image, label)


def _step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    precision: Precision,
    image: torch.Tensor,
    label: torch.Tensor,
) -> Callable[[], None]:
    network.train()

    def step() -> None:
        update(network, optimizer, precision, image, label)
        synchronize(precision.device)

    return step


def update(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    precision: Precision,
    image: torch.Tensor,
    label: torch.Tensor,
) -> None:
    """Run the minimal training step.

    Args:
        network: Network to train.
        optimizer: Optimizer of the network.
        precision: Number format and device.
        image: (B, C, H, W)
        label: (B, 1, H, W)
    """
    optimizer.zero_grad(set_to_none=True)
    with precision.autocast():
        logits = network(image)
    loss = LOSS(logits.float(), label)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    loss.item()


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has completed its work.

    Args:
        device: Device of the network.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    run(measure, __doc__ or "")
