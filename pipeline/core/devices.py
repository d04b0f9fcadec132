"""Devices, processes and precision that a network runs with."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeVar, cast

import torch
from torch import nn

from pneumoseg.pipeline.core.config import ComputedPrecision, InferencePrecision, PrecisionName
from pneumoseg.pipeline.core.console import warn
from pneumoseg.pipeline.core.errors import UsageError

Network = TypeVar("Network", bound=nn.Module)


def resolve_device(name: str = "auto") -> torch.device:
    """Find a device by its name, and make a GPU that is named by its number the current one.

    Args:
        name: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises: UsageError: If this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise UsageError(f"--device {name}: auto, cpu or cuda:N would fit")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"--device {name}: {torch.cuda.device_count()} CUDA devices are visible here; "
            "use -d auto, or look at nvidia-smi and at which torch build is installed"
        )
    if device.index is not None:
        # libraries that allocate on the current device would otherwise also occupy the first GPU
        torch.cuda.set_device(device)
    return device


def own_device(name: str = "auto") -> torch.device:
    """Find the device of this process; under ``torchrun``, each process of a machine has its own GPU.

    Args:
        name: Device of all processes: ``auto``, ``cpu`` or ``cuda``; ``cuda:N`` only for a single process.

    Raises: UsageError: If this machine has no such device or too few, or several processes would share one.
    """
    processes = process_count()
    if processes > 1 and name.startswith("cuda:"):
        raise UsageError(
            f"--device {name}: {processes} processes were started, and each needs its own GPU; "
            "use -d cuda or -d auto"
        )
    device = resolve_device(name)
    if processes > 1 and device.type == "cuda":
        return resolve_device(f"cuda:{os.environ['LOCAL_RANK']}")
    return device


def process_count() -> int:
    """Count the processes that ``torchrun`` started, whether or not they have joined a group yet."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def world_size() -> int:
    """Count the processes of the group that this process has joined; 1 without a group."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


@contextmanager
def process_group(device: str = "auto") -> Iterator[torch.device]:
    """Join the processes that ``torchrun`` started, if there are several, and yield the device of this process.

    Args:
        device: Device of all processes: see `own_device`.

    Raises: UsageError: As `own_device` does.
    """
    own = own_device(device)
    if process_count() == 1:
        yield own
        return
    import ignite.distributed as idist  # noqa: PLC0415  (takes seconds, and most commands have one process)

    backend = "nccl" if own.type == "cuda" else "gloo"
    # the other processes may have to wait while the first one decodes a data set or trains a fold;
    # `idist.initialize` would take a GPU for each process, for gloo as well
    torch.distributed.init_process_group(backend, timeout=timedelta(days=7))
    idist.sync()
    try:
        yield own
    except BaseException:
        # NCCL ends a group together: a process that fails would wait for others that wait for it, and say nothing.
        # When this process ends, torch aborts its group, and torchrun ends the other processes.
        if backend == "gloo":
            idist.finalize()
        raise
    idist.finalize()


def synchronise_norm(network: Network, device: torch.device) -> Network:
    """Let batch normalization use the statistics of the whole batch where several GPUs share it.

    Keys and values of the state dict stay the same. PyTorch implements this for CUDA only; on processors each process
    normalizes its own share.

    Args:
        network: Network before it is wrapped in `DistributedDataParallel`; its layers are replaced in place.
        device: Device of this process.
    """
    if world_size() > 1 and device.type == "cuda":
        # torch has no annotations there
        return cast("Network", nn.SyncBatchNorm.convert_sync_batchnorm(network))  # type: ignore[no-untyped-call]
    return network


@torch.no_grad()
def broadcast_buffers(*networks: nn.Module) -> None:
    """Copy the buffers of the first process to all others.

    Each process updates the running statistics of batch normalization from its own share of a batch. Before a
    validation they have to agree, or each process would evaluate a different network.

    Args:
        networks: Networks whose buffers are overwritten in all processes but the first.
    """
    if world_size() == 1:
        return
    for network in networks:
        for buffer in network.buffers():
            torch.distributed.broadcast(buffer, src=0)


@contextmanager
def training_algorithms(*, deterministic: bool) -> Iterator[None]:
    """Choose the algorithms of a training inside a `with` block.

    Args:
        deterministic: Whether to restrict torch to deterministic algorithms; otherwise cuDNN measures which of its
            algorithms is fastest for each shape, since those of a training stay the same.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        # required for deterministic matrix products on CUDA
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


Item = TypeVar("Item")


def gather(item: Item) -> list[Item]:
    """Collect an object from each process of a run.

    Args:
        item: Object of this process, which can be pickled.

    Returns: The objects of all processes, in the order of their ranks.
    """
    gathered = [item] * world_size()
    if len(gathered) > 1:
        torch.distributed.all_gather_object(gathered, item)
    return gathered


DTYPES: Final[dict[InferencePrecision, torch.dtype]] = {
    "float32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "int8": torch.int8,
}
"""Number formats of inference by name."""
_OTHER_NAMES: Final = {"bfloat16": "bf16", "float16": "fp16"}  # as torch calls them


@dataclass(frozen=True)
class Precision:
    """Number format of the forward pass; weights are always float32, except in a quantised graph.

    Attributes:
        device: Device on which the network runs.
        dtype: Number format; int8 is that of a quantised graph, without which a network runs in float32.
    """

    device: torch.device
    dtype: torch.dtype

    @property
    def name(self) -> InferencePrecision:
        """Name of the precision in the configuration and of the option."""
        return next(name for name, dtype in DTYPES.items() if dtype == self.dtype)

    def autocast(self) -> torch.autocast:
        """Return the context, or decorator, in which to call the network."""
        return torch.autocast(
            self.device.type, self.dtype, enabled=self.dtype in (torch.bfloat16, torch.float16)
        )

    def make_scaler(self) -> torch.amp.GradScaler:
        """Make a scaler that keeps small gradients of fp16 from underflowing; it does nothing in other formats."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)


def resolve_precision(name: PrecisionName, device: torch.device, *, training: bool = False) -> Precision:
    """Find the precision called *name* on *device*.

    Args:
        name: Name of the precision in the configuration. ``auto`` is bf16 where the device has instructions for it;
            for training on other GPUs with tensor cores (V100, T4), fp16 with a gradient scaler; otherwise float32.
        device: Device on which the network runs.
        training: Whether the network is trained.

    Raises: UsageError: If the device does not support it.
    """
    if name == "auto":
        if computes_in_bf16(device):
            return Precision(device, torch.bfloat16)
        fast = training and computes_in_fp16(device)
        return Precision(device, torch.float16 if fast else torch.float32)
    if name == "fp16" and device.type != "cuda":
        raise UsageError(f"precision fp16 on {device.type}: needs CUDA; auto, bf16 or float32 would fit")
    return Precision(device, DTYPES[name])


def computes_in_fp16(device: torch.device) -> bool:
    """Check whether *device* is a GPU with tensor cores (compute capability 7.0, Volta, or higher)."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0)


def computes_in_bf16(device: torch.device) -> bool:
    """Check whether *device* has instructions for bf16, so that it is not merely emulated."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def precision_of_model(
    name: ComputedPrecision, device: torch.device, *, requested: str = "auto"
) -> Precision:
    """Resolve the precision for inference with a model.

    Args:
        name: Name of the precision in the model's description, in which it was validated.
        device: Device on which the model runs.
        requested: Value of ``--precision``: ``float32``, ``bf16`` or ``bfloat16``, ``fp16`` or ``float16``, ``int8``;
            ``auto`` is the precision of the validation, in which the operating point was tuned.

    Returns: That precision; for ``auto``, float32 with a warning if *device* does not support it.
    Raises: UsageError: If the name is unknown, or *device* does not support it.
    """
    wanted = _OTHER_NAMES.get(requested, requested)
    if wanted != "auto":
        if wanted not in DTYPES:
            fit = ", ".join(DTYPES)
            raise UsageError(f"--precision {requested}: auto, {fit} would fit")
        if wanted == "int8" and device.type != "cpu":
            raise UsageError(f"--precision int8 on {device.type}: needs -d cpu; auto or float32 would fit")
        if wanted == "int8":
            return Precision(device, torch.int8)
        return resolve_precision(cast("PrecisionName", wanted), device)
    if name == "float32" or (computes_in_bf16(device) if name == "bf16" else device.type == "cuda"):
        return resolve_precision(name, device)
    warn(f"the model was validated in {name}, which {device} does not support; it runs in float32")
    return resolve_precision("float32", device)
