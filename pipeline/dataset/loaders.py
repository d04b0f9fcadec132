"""Data loaders of training and validation."""

import os
import signal
from collections.abc import Iterator
from typing import Any, Final

import torch
from monai.data import set_track_meta
from torch.utils.data import DataLoader

from pneumoseg.pipeline.dataset.cases import CachedCases, PhasedCases, Sample
from pneumoseg.pipeline.dataset.sampling import BatchPlan

GPU_WORKERS: Final = 2
"""Loader processes beside a GPU: one of them reads thousands of images a second from the cache."""


def loader_workers(device: torch.device) -> int:
    """Choose the number of loader processes; the processes that ``torchrun`` started share the cores of a machine.

    Args:
        device: Device of the network.

    Returns: 0 on a processor, which a loader process would take from the network; at most `GPU_WORKERS` beside a GPU.
    """
    if device.type == "cpu":
        return 0
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(GPU_WORKERS, max(0, (os.cpu_count() or 1) // processes - 1))


class AugmentedBatches:
    """Batches of a training run, augmented on the device of the network.

    Args:
        loader: Loader of batches of `PhasedCases`.
        cases: The cases of *loader*, with their augmentations.
        device: Device of the network.
    """

    def __init__(self, loader: DataLoader[Sample], cases: PhasedCases, device: torch.device) -> None:
        self.loader = loader
        self.augmenters = [phase.augmenter for phase in cases.phases]
        self.device = device

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield ``image``, ``label`` and ``positive`` on the device, and ``index`` on the host."""
        for batch in self.loader:
            augmenter = self.augmenters[int(batch["phase"][0])]  # all of a batch are of one phase
            if augmenter is None:
                raise ValueError("cases of a training loader need an augmenter, which may be empty")
            pixels = batch["pixels"].to(self.device, non_blocking=True)
            augmented = augmenter(pixels, batch["numbers"], batch["positive"])
            yield {**augmented._asdict(), "index": batch["index"]}


def make_training_loader(
    cases: PhasedCases, batches: BatchPlan, *, workers: int, device: torch.device
) -> AugmentedBatches:
    """Make the loader of a whole training run, for all epochs.

    Args:
        cases: Cases at the resolutions of all phases.
        batches: Batches of the run.
        workers: Number of loader processes; 0 loads in this process.
        device: Device of the network, on which batches are augmented; a CUDA device is loaded for in pinned memory.
    """
    loader = DataLoader(
        cases,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        multiprocessing_context="forkserver" if workers else None,  # fork is not safe beside threads
        worker_init_fn=_start_worker,
    )
    return AugmentedBatches(loader, cases, device)


def _start_worker(_: int) -> None:
    # Ctrl-C reaches the whole group; the run ends its workers itself
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_track_meta(False)  # as in the training process: MONAI's tracking of metadata costs time per transform


def make_validation_loader(cases: CachedCases, *, batch_size: int, pin_memory: bool) -> DataLoader[Sample]:
    """Make a loader of each case once, in order; reading a memory map needs no workers.

    Args:
        cases: Cases to load.
        batch_size: Images per batch.
        pin_memory: Whether to load into pinned memory for a CUDA device.
    """
    return DataLoader(cases, batch_size=batch_size, shuffle=False, pin_memory=pin_memory)
