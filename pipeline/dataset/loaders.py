"""Data loaders of training and validation."""

import signal

from monai.data import set_track_meta
from torch.utils.data import DataLoader

from pneumoseg.pipeline.dataset.cases import CachedCases, PhasedCases, Sample
from pneumoseg.pipeline.dataset.sampling import BatchPlan


def make_training_loader(
    cases: PhasedCases, batches: BatchPlan, *, workers: int, pin_memory: bool
) -> DataLoader[Sample]:
    """Make the loader of a whole training run, for all epochs.

    Args:
        cases: Cases at the resolutions of all phases.
        batches: Batches of the run.
        workers: Number of loader processes; 0 loads in this process.
        pin_memory: Whether to load into pinned memory for a CUDA device.
    """
    return DataLoader(
        cases,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=pin_memory,
        multiprocessing_context="forkserver" if workers else None,  # fork is not safe beside threads
        worker_init_fn=_start_worker,
    )


def _start_worker(_: int) -> None:
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole group; the run ends its workers itself
    set_track_meta(False)  # as in the training process: MONAI's tracking of metadata costs time per transform


def make_validation_loader(cases: CachedCases, *, batch_size: int, pin_memory: bool) -> DataLoader[Sample]:
    """Make a loader of each case once, in order; reading a memory map needs no workers.

    Args:
        cases: Cases to load.
        batch_size: Images per batch.
        pin_memory: Whether to load into pinned memory for a CUDA device.
    """
    return DataLoader(cases, batch_size=batch_size, shuffle=False, pin_memory=pin_memory)
