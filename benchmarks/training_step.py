"""Time of a training step: precisions, MONAI's engine relative to a bare loop, and the loader.

    python benchmarks/training_step.py [--size 256] [--batch 4] [--rounds 7] [--device auto]

Both sides of each comparison alternate in one process and their medians are compared, since machines are noisy: compare
the ratios, not the times.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from monai.data import set_track_meta
from monai.losses import DiceCELoss
from torch import nn

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.core.config import DataConfig, OptimizationConfig, TrainConfig
from pneumoseg.pipeline.core.devices import Precision, resolve_device, resolve_precision
from pneumoseg.pipeline.dataset.manifest import Case
from pneumoseg.pipeline.model.weights import place
from pneumoseg.pipeline.training.fitting import fit
from pneumoseg.pipeline.training.history import History, HistoryFiles
from pneumoseg.pipeline.training.tracking import TensorBoard, TrackerHandler
from pneumoseg.pipeline.training.training_run import TrainingRun

CASES = 32
LOSS = DiceCELoss(sigmoid=True, batch=True)
MAX_BF16_SHARE, MAX_ENGINE_OVERHEAD, MAX_LOADER_SHARE = 0.5, 0.05, 1 / 3


def main() -> None:
    """Print both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    words = parser.parse_args()
    set_track_meta(False)
    device = resolve_device(words.device)
    pixels, cases = make_cases(words.size)
    print(
        f"{words.size} x {words.size} pixels, batch {words.batch}, {device}, {torch.get_num_threads()} threads"
    )

    auto = resolve_precision("auto", device)
    plain = Precision(device, torch.float32)
    image = torch.rand(words.batch, 1, words.size, words.size, device=device)
    label = (torch.rand_like(image) > 0.9).float()
    seconds = take_turns(
        {
            "float32, contiguous": make_step(plain, image, label, channels_last=False),
            f"{auto.name}, channels_last": make_step(auto, image, label, channels_last=True),
        },
        rounds=3 * words.rounds,
    )
    report("training step", seconds, limit=MAX_BF16_SHARE if auto.name == "bf16" else None)

    def engine() -> float:
        return run_engine(pixels, cases, auto, words.batch)

    def bare() -> float:
        return run_bare_loop(pixels, cases, auto, words.batch)

    seconds = take_turns({"bare loop": bare, "engine, all handlers": engine}, rounds=words.rounds)
    report("the same batches", seconds, limit=1 + MAX_ENGINE_OVERHEAD)

    step = make_step(auto, image, label, channels_last=True)
    seconds = take_turns(
        {
            "the network, a batch": step,
            "the loader, a batch": lambda: run_loader(pixels, cases, auto, words.batch),
        },
        rounds=words.rounds,
    )
    report("loading with all augmentations, in one process", seconds, limit=MAX_LOADER_SHARE)


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


def run_loader(pixels: Any, cases: tuple[Case, ...], precision: Precision, batch: int) -> float:
    """Measure the seconds per batch of loading and augmentation alone.

    Args:
        pixels: Cache of images and labels.
        cases: Cases of the cache.
        precision: Number format and device.
        batch: Images per batch.
    """
    run = make_run(pixels, cases, precision, batch)
    batches = run.make_batches()
    started = time.perf_counter()
    for _ in batches:
        pass
    return (time.perf_counter() - started) / run.plan.steps


def make_step(
    precision: Precision, image: torch.Tensor, label: torch.Tensor, *, channels_last: bool
) -> Callable[[], float]:
    """A training step of the article's network on one batch; called, it gives the seconds it took."""
    network = place(AttentionUNet(), precision.device, channels_last=channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters())

    def step() -> float:
        synchronize(precision.device)
        started = time.perf_counter()
        update(network, optimizer, precision, image, label)
        synchronize(precision.device)
        return time.perf_counter() - started

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


def take_turns(sides: dict[str, Callable[[], float]], *, rounds: int) -> dict[str, float]:
    """Measure the median seconds of each side, after one unmeasured round.

    Args:
        sides: Functions to measure, by name.
        rounds: Number of measured rounds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, measure in sides.items():
            taken = measure()
            if number:
                seconds[name].append(taken)
    return {name: statistics.median(times) for name, times in seconds.items()}


def report(what: str, seconds: dict[str, float], *, limit: float | None) -> None:
    """Print the medians, their ratio, and what it may be."""
    (first, one), (second, two) = seconds.items()
    print(f"{what}: {first} {one * 1e3:.0f} ms, {second} {two * 1e3:.0f} ms")
    print(f"  ratio {two / one:.3f}" + ("" if limit is None else f", limit {limit:.2f}"))


if __name__ == "__main__":
    main()
