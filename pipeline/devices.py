"""Where the network runs, in how many processes, and in which precision."""

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import ignite.distributed as idist
import torch

from pneumoseg.pipeline.config import ComputedPrecision, PrecisionName
from pneumoseg.pipeline.console import warn
from pneumoseg.pipeline.errors import UsageError


def resolve_device(name: str = "auto") -> torch.device:
    """The device called *name*: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises: UsageError: If there is no such device here.
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
    return device


@contextmanager
def process_group(device: str = "auto") -> Iterator[torch.device]:
    """Join the processes that ``torchrun`` started, or be alone; gives this process's device.

    Args:
        device: Of all processes: ``auto``, ``cpu`` or ``cuda``; each takes a GPU of its own.

    Raises: UsageError: If there is no such device here, or too few.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield resolve_device(device)
        return
    found = resolve_device(device)
    if found.type == "cuda":
        found = resolve_device(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(found)
    # the first process may decode a whole collection, or train a fold, before the others hear of it
    idist.initialize("nccl" if found.type == "cuda" else "gloo", timeout=timedelta(days=7))
    try:
        yield found
    finally:
        idist.finalize()


@contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """Let torch choose only algorithms that give the same bits again, where that is wanted."""
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what CUDA's matrix products need for it
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


Thing = TypeVar("Thing")


def gather(thing: Thing) -> list[Thing]:
    """What each process of a run has, in the order of their ranks; it must be something that can be pickled."""
    if idist.get_world_size() == 1:
        return [thing]
    things: Any = idist.all_gather([thing])  # in a list, for numbers and texts go other ways
    return [each[0] for each in things]


@dataclass(frozen=True)
class Precision:
    """The number format in which the network computes; weights stay float32."""

    device: torch.device
    dtype: torch.dtype

    @property
    def name(self) -> ComputedPrecision:
        """As in the configuration."""
        names: dict[torch.dtype, ComputedPrecision] = {
            torch.bfloat16: "bf16",
            torch.float16: "fp16",
            torch.float32: "float32",
        }
        return names[self.dtype]

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which to call the network."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def make_scaler(self) -> torch.amp.GradScaler:
        """Keeps the small gradients of fp16 from vanishing; passes everything else through."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)


def resolve_precision(name: PrecisionName, device: torch.device) -> Precision:
    """The precision called *name* on *device*.

    Raises: UsageError: If the device does not compute in it.
    """
    if name == "auto":
        return Precision(device, torch.bfloat16 if computes_in_bf16(device) else torch.float32)
    if name == "fp16" and device.type != "cuda":
        raise UsageError(f"precision fp16 on {device.type}: needs CUDA; auto, bf16 or float32 would fit")
    return Precision(device, {"bf16": torch.bfloat16, "fp16": torch.float16, "float32": torch.float32}[name])


def computes_in_bf16(device: torch.device) -> bool:
    """Whether *device* has instructions for bf16, so that it is faster there and not merely possible."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def precision_of_model(name: ComputedPrecision, device: torch.device) -> Precision:
    """Resolve the precision in which a model was validated.

    Args:
        name: As the model's description has it.
        device: Device that the model is used on.

    Returns: That precision, or float32 with a warning where *device* does not compute in it.
    """
    computes = {
        "float32": lambda: True,
        "bf16": lambda: computes_in_bf16(device),
        "fp16": lambda: device.type == "cuda",
    }
    if computes[name]():
        return resolve_precision(name, device)
    warn(f"the model was validated in {name}, in which {device} does not compute; it is used in float32")
    return resolve_precision("float32", device)
