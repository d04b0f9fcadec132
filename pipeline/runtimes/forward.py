"""Forward passes of one network in each runtime, all with the same inputs and outputs."""

import os
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any, Final

import torch
from torch import Tensor

from pneumoseg.models import AttentionUNet, NetworkOutputs
from pneumoseg.models.inference_rewrite import rewrite_for_inference
from pneumoseg.pipeline.core.config import RuntimeName
from pneumoseg.pipeline.core.console import warn
from pneumoseg.pipeline.core.devices import Precision, computes_in_bf16
from pneumoseg.pipeline.core.errors import UsageError, first_line
from pneumoseg.pipeline.runtimes.cache import cache_folder
from pneumoseg.pipeline.runtimes.graph import IMAGE, as_outputs
from pneumoseg.pipeline.runtimes.libraries import (
    RUNTIMES,
    compile_openvino,
    open_onnx,
    open_openvino,
    quiet,
)

Forward = Callable[[Tensor], NetworkOutputs]
"""Maps images, (B, 1, H, W), to all outputs; H and W are multiples of the network's stride."""

_COMPILING: Final = Lock()
"""Held while OpenVINO compiles: it changes the locale of the process, and two threads could leave it changed."""

_COMPUTES: Final[dict[RuntimeName, tuple[str, ...]]] = {
    "torch": ("float32", "bf16", "fp16"),
    "torch.compile": ("float32", "bf16", "fp16"),
    "onnx": ("float32", "int8"),
    "openvino": ("float32", "bf16", "int8"),
}


def supports(runtime: RuntimeName, precision: Precision) -> bool:
    """Check whether a runtime computes in a precision on its device.

    Args:
        runtime: Name of the runtime.
        precision: Number format and device.
    """
    if precision.device.type != "cpu" and runtime == "openvino":
        return False
    if precision.name == "fp16" and precision.device.type != "cuda":
        return False
    emulated = runtime == "openvino" and precision.name == "bf16" and not computes_in_bf16(precision.device)
    return precision.name in _COMPUTES[runtime] and not emulated


def check_runtime(runtime: RuntimeName, precision: Precision) -> None:
    """Refuse a runtime that does not compute in a precision.

    Args:
        runtime: Name of the runtime.
        precision: Number format and device.

    Raises: UsageError: If it does not; the message names the runtimes that do.
    """
    if not supports(runtime, precision):
        fit = ", ".join(name for name in RUNTIMES if supports(name, precision))
        raise UsageError(
            f"--runtime {runtime} does not compute in {precision.name} on {precision.device.type}; {fit} would fit"
        )


def make_forward(
    network: AttentionUNet, runtime: RuntimeName, precision: Precision, *, graph: Path | None = None
) -> Forward:
    """Prepare the forward pass of a network.

    Args:
        network: Network in evaluation mode, on the device of *precision*.
        runtime: Name of the runtime.
        precision: Number format.
        graph: Path of the network's ONNX graph; torch needs none.

    Raises: UsageError: If an extra is not installed.
    """
    if runtime == "torch":
        return torch_forward(network, precision)
    if runtime == "torch.compile":
        return _CompiledForward(network, precision)
    assert graph is not None  # noqa: S101
    return _ONNXForward(graph, precision) if runtime == "onnx" else _OpenVINOForward(graph, precision)


def plain_forward(network: AttentionUNet, precision: Precision) -> Forward:
    """Make the forward pass of a network as it is, in eager mode.

    Args:
        network: Network on the device of *precision*.
        precision: Number format.
    """
    forward: Forward = precision.autocast()(network.outputs)
    return forward


def torch_forward(network: AttentionUNet, precision: Precision) -> Forward:
    """Make the forward pass of a network in eager mode, rewritten where that is faster.

    Args:
        network: Network in evaluation mode, on the device of *precision*. Its weights are copied in part, so that a
            network in training needs `plain_forward`: fused optimizers do not even count their changes of a tensor.
        precision: Number format.
    """
    return plain_forward(_prepared(network, precision), precision)


def _prepared(network: AttentionUNet, precision: Precision) -> AttentionUNet:
    """Rewrite a network where that is faster; whether it is on a GPU has not been measured."""
    return rewrite_for_inference(network) if precision.device.type == "cpu" else network


class _CompiledForward:
    """Forward pass through ``torch.compile``, whose kernels stay on the disk; eager mode where it fails."""

    def __init__(self, network: AttentionUNet, precision: Precision) -> None:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "inductor"))
        network = _prepared(network, precision)
        self._eager = plain_forward(network, precision)
        self._precision = precision
        with quiet():  # torch warns about itself
            # without symbolic sizes, which cost speed; a job has one size, or three with test-time augmentation
            self._compiled: Forward | None = torch.compile(network.outputs, dynamic=False)
        self._batch_size = 0

    def __call__(self, images: Tensor) -> NetworkOutputs:
        # the last batch of a job may be smaller: it is not worth a compilation
        self._batch_size = self._batch_size or len(images)
        if self._compiled is None or len(images) != self._batch_size:
            return self._eager(images)
        try:
            with quiet("torch._inductor", "torch._dynamo"), self._precision.autocast():
                return self._compiled(images)
        except Exception as error:  # noqa: BLE001  (the compiler raises errors of many kinds)
            self._compiled = None
            reason = f"{type(error).__name__}: {first_line(error)[:200]}"
            warn(f"torch.compile failed and eager mode is used: {reason}")
            return self._eager(images)


class _ONNXForward:
    """Forward pass in ONNX Runtime."""

    def __init__(self, graph: Path, precision: Precision) -> None:
        self._device = precision.device
        self._session = open_onnx(graph, precision.device)
        self._outputs = [output.name for output in self._session.get_outputs()]

    def __call__(self, images: Tensor) -> NetworkOutputs:
        arrays = self._session.run(self._outputs, {IMAGE: images.contiguous().cpu().numpy()})
        tensors = [torch.from_numpy(array).to(self._device) for array in arrays]
        return as_outputs(dict(zip(self._outputs, tensors, strict=True)))


class _OpenVINOForward:
    """Forward pass in OpenVINO, compiled once for each shape of the images: fixed shapes are faster."""

    def __init__(self, graph: Path, precision: Precision) -> None:
        self._graph = graph
        reduced = precision.name == "bf16" or (
            precision.name == "int8" and computes_in_bf16(precision.device)
        )
        self._hint = "bf16" if reduced else "f32"
        self._compiled: dict[tuple[int, ...], Any] = {}

    def __call__(self, images: Tensor) -> NetworkOutputs:
        compiled = self._compile(tuple(images.shape))
        # calling it would share one request, and thus its results, between threads
        found = compiled.infer_new_request({IMAGE: images.contiguous().numpy()})
        return as_outputs({port.any_name: torch.from_numpy(found[port]) for port in compiled.outputs})

    def _compile(self, shape: tuple[int, ...]) -> Any:
        with _COMPILING:
            if shape not in self._compiled:
                model = open_openvino(self._graph)
                model.reshape({IMAGE: list(shape)})
                self._compiled[shape] = compile_openvino(
                    model, precision=self._hint, cache_folder=cache_folder() / "openvino"
                )
            return self._compiled[shape]
