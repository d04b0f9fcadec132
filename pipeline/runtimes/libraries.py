"""Libraries of the runtimes, which are extras: ``pneumoseg[onnx]`` and ``pneumoseg[openvino]``."""

import importlib.util
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch

from pneumoseg.pipeline.core.config import RuntimeName
from pneumoseg.pipeline.core.errors import UsageError

RUNTIMES: Final[tuple[RuntimeName, ...]] = ("torch", "torch.compile", "onnx", "openvino")
TO_INSTALL: Final[dict[RuntimeName, str]] = {
    "torch.compile": "needs a C++ compiler",
    "onnx": "pip install 'pneumoseg[onnx]'",
    "openvino": "pip install 'pneumoseg[onnx,openvino]'",
}
"""What a runtime needs where it is not installed."""
_MODULES: Final[dict[RuntimeName, tuple[str, ...]]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),  # which reads the ONNX graph
}


def is_installed(runtime: RuntimeName, device: torch.device | None = None) -> bool:
    """Check whether the libraries of a runtime, or the compiler of ``torch.compile``, are installed.

    Nothing is loaded, except for a GPU: ONNX Runtime has a package of the same name for it.

    Args:
        runtime: Name of the runtime.
        device: Device that has to be supported by them; None is a processor.
    """
    if runtime == "torch.compile":
        compilers = {"win32": "cl", "darwin": "clang++"}  # as torch finds them
        return shutil.which(os.environ.get("CXX") or compilers.get(sys.platform, "g++")) is not None
    is_there = all(importlib.util.find_spec(module) for module in _MODULES.get(runtime, ()))
    if is_there and runtime == "onnx" and device is not None and device.type == "cuda":
        import onnxruntime  # noqa: PLC0415  (an extra)

        return "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    return is_there


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Tell which extra to install where a library is missing.

    Args:
        name: Name of the extra.

    Raises: UsageError: If the block cannot import a module.
    """
    try:
        yield
    except ImportError as error:
        raise UsageError(
            f"{error.name or 'a library'} is not installed; pip install 'pneumoseg[{name}]'"
        ) from None


@contextmanager
def quiet(*names: str) -> Iterator[None]:
    """Keep warnings, and the log lines of libraries, off the terminal.

    Args:
        names: Names of the loggers.
    """
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def open_onnx(path: Path, device: torch.device | None = None) -> Any:
    """Open an ONNX file in ONNX Runtime, with as many threads as torch uses.

    Args:
        path: Path of the file.
        device: Device to run on; None is the CPU. CUDA needs a build of ONNX Runtime for it.

    Returns: An ``onnxruntime.InferenceSession``.
    Raises: UsageError: If the extra ``onnx`` is not installed, or this build of ONNX Runtime lacks CUDA.
    """
    with extra("onnx"):
        import onnxruntime  # noqa: PLC0415  (an extra)

    providers: list[Any] = ["CPUExecutionProvider"]
    if device is not None and device.type == "cuda":
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise UsageError(
                "--runtime onnx on cuda: this build of onnxruntime lacks CUDA; onnxruntime-gpu would fit, or torch"
            )
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(path, options, providers=providers)


def open_openvino(path: Path, weights: Path | None = None) -> Any:
    """Read a file into OpenVINO without compiling it.

    Args:
        path: Path of an ONNX file, or of OpenVINO's ``.xml`` file.
        weights: Path of the ``.bin`` file; None for ONNX.

    Returns: An ``openvino.Model``.
    Raises: UsageError: If the extra ``openvino`` is not installed.
    """
    with extra("openvino"):
        import openvino  # noqa: PLC0415  (an extra)

    core = openvino.Core()
    return core.read_model(path) if weights is None else core.read_model(path, weights)


def compile_openvino(model: Any, *, precision: str = "f32", cache_folder: Path | None = None) -> Any:
    """Compile a model for the CPU, with as many threads as torch uses.

    Args:
        model: An ``openvino.Model``.
        precision: Number format of the operations that are not quantised: ``f32`` or ``bf16``.
        cache_folder: Folder for what has been compiled; None compiles anew.

    Returns: An ``openvino.CompiledModel``.
    """
    import openvino  # noqa: PLC0415  (an extra, which the caller has loaded)

    properties: Mapping[str, Any] = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        **({} if cache_folder is None else {"CACHE_DIR": str(cache_folder)}),
    }
    return openvino.Core().compile_model(model, "CPU", dict(properties))
