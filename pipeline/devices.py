"""Where the network runs, and in which precision."""

import re
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from pneumoseg.pipeline.config import PrecisionName
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


@dataclass(frozen=True)
class Precision:
    """The number format in which the network computes; weights stay float32."""

    device: torch.device
    dtype: torch.dtype

    @property
    def name(self) -> str:
        """As in the configuration."""
        return {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "float32"}[self.dtype]

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
