"""Forward pass of the article's network in each runtime and precision, against eager torch and plain ONNX Runtime.

``python -m benchmarks.runtimes`` measures 512 px, a batch of 1 and as many threads as torch uses. The limits hold for
the fastest runtime of a precision, which ``--runtime auto`` chooses for many images. The bound of a precision is the
rate of one large convolution of the network, with which all its work would be done.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import torch
from torch import Tensor, nn

from benchmarks.comparison import Comparison, Setting, Timing, relate, run, take_turns
from benchmarks.peers import Peer
from pneumoseg.models import AttentionUNet
from pneumoseg.models.inference_rewrite import rewrite_for_inference
from pneumoseg.pipeline.core.devices import Precision, computes_in_bf16
from pneumoseg.pipeline.core.memory import keep_freed_memory
from pneumoseg.pipeline.model.weights import place
from pneumoseg.pipeline.runtimes.forward import make_forward, plain_forward
from pneumoseg.pipeline.runtimes.graph import write_graph
from pneumoseg.pipeline.runtimes.libraries import RUNTIMES, is_installed
from pneumoseg.pipeline.runtimes.quantization import quantize_network

CPU: Final = torch.device("cpu")
FLOAT32, BF16, INT8 = (Precision(CPU, dtype) for dtype in (torch.float32, torch.bfloat16, torch.int8))
NCHW: Final = "eager NCHW"
ONNX: Final = "onnxruntime plain"
BOUND: Final = "bound of the arithmetic in "
PLAIN: Final = ", the same without the rewrite"
_CHANNELS: Final = (256, 256)
_SIDE: Final = 64


def measure(setting: Setting) -> list[Comparison]:
    """Measure the forward passes.

    Args:
        setting: What to run on.
    """
    size = 128 if setting.quick else 512
    if not (is_installed("onnx") and is_installed("openvino")):
        return [
            Comparison.unmeasured(f"forward, {size} px", limit=2.4, note="needs the extras onnx and openvino")
        ]
    keep_freed_memory()  # as the command does
    has_bf16 = computes_in_bf16(CPU)
    torch.manual_seed(0)
    network = place(AttentionUNet().eval(), CPU)
    image = torch.randn(1, 1, size, size)
    with TemporaryDirectory() as folder, torch.no_grad():
        plain, rewritten, quantized = (Path(folder) / f"{name}.onnx" for name in ("plain", "fast", "int8"))
        write_graph(network, plain, rewrites=False)
        write_graph(network, rewritten)
        quantize_network(network, [image], quantized)
        forwards = {
            f"torch float32{PLAIN}": plain_forward(network, FLOAT32),
            "onnx float32": make_forward(network, "onnx", FLOAT32, graph=rewritten),
            f"openvino float32{PLAIN}": make_forward(network, "openvino", FLOAT32, graph=plain),
            "openvino int8": make_forward(network, "openvino", INT8, graph=quantized),
        }
        for precision in (FLOAT32, BF16) if has_bf16 else (FLOAT32,):
            forwards |= {
                f"{runtime} {precision.name}": make_forward(network, runtime, precision, graph=rewritten)
                for runtime in ("torch", "torch.compile", "openvino")
                if is_installed(runtime)
            }
        sides: dict[str, Callable[[], object]] = {
            NCHW: Peer(make_eager, size),
            ONNX: Peer(make_onnx, plain, size),
            **{name: partial(forward, image) for name, forward in forwards.items()},
        }
        for precision in (FLOAT32, BF16) if has_bf16 else (FLOAT32,):
            sides[BOUND + precision.name] = _convolution(precision.dtype)
        work = _count_convolutions(rewrite_for_inference(deepcopy(network)), image)
        turns = take_turns(sides, rounds=setting.rounds(7))
    return _lines(turns, size, work)


def make_eager(size: int) -> Callable[[], object]:
    """Make the forward pass of the article's network as stock torch computes it: eager, float32, NCHW.

    Args:
        size: Side of the image in pixels.
    """
    forward = plain_forward(AttentionUNet().eval(), FLOAT32)
    return torch.no_grad()(partial(forward, torch.randn(1, 1, size, size)))


def make_onnx(graph: Path, size: int) -> Callable[[], object]:
    """Make the forward pass of a graph in ONNX Runtime.

    Args:
        graph: Path of the ONNX file.
        size: Side of the image in pixels.
    """
    forward = make_forward(AttentionUNet(), "onnx", FLOAT32, graph=graph)
    return partial(forward, torch.randn(1, 1, size, size))


def _lines(turns: dict[str, Timing], size: int, work: float) -> list[Comparison]:
    """Relate the sides; *work* is how often the convolution of the bound fits into the network."""

    def line(side: str, peer: str, *, limit: float | None = None) -> Comparison:
        return relate(f"forward, {size} px, {side}, {peer}", turns[side], turns[peer], limit=limit)

    def best(precision: str, peer: str, *, limit: float | None, times: float = 1) -> Comparison:
        side = min(
            (f"{runtime} {precision}" for runtime in RUNTIMES if f"{runtime} {precision}" in turns),
            key=lambda name: turns[name].seconds,
        )
        theirs = replace(turns[peer], seconds=turns[peer].seconds * times)
        name = f"forward, {size} px, fastest runtime in {precision}, {peer}"
        return relate(name, turns[side], theirs, limit=limit, note=side.split()[0])

    lines = [
        best("float32", NCHW, limit=2.4),
        best("float32", ONNX, limit=1.1),
        best("float32", BOUND + "float32", limit=None, times=work),
        line("openvino int8", NCHW, limit=7),
        *(
            line(f"{runtime} {precision}", NCHW)
            for precision in ("float32", "bf16")
            for runtime in RUNTIMES
            if f"{runtime} {precision}" in turns
        ),
        *(
            relate(f"forward, {size} px, {side}", turns[side.removesuffix(PLAIN)], turns[side], limit=None)
            for side in turns
            if side.endswith(PLAIN)
        ),
    ]
    if BOUND + "bf16" not in turns:
        note = "this processor does not compute in bf16"
        return [*lines, Comparison.unmeasured(f"forward, {size} px, bf16", limit=4.5, note=note)]
    return [*lines, best("bf16", NCHW, limit=4.5), best("bf16", BOUND + "bf16", limit=0.75, times=work)]


def _convolution(dtype: torch.dtype) -> Callable[[], object]:
    """Make a large convolution: the middle one of the network at 512 px."""
    layer = nn.Conv2d(*_CHANNELS, kernel_size=3, padding=1).to(dtype)
    layer = layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    features = torch.randn(1, _CHANNELS[0], _SIDE, _SIDE, dtype=dtype).to(memory_format=torch.channels_last)
    return partial(layer, features)


def _count_convolutions(network: nn.Module, image: Tensor) -> float:
    """Count how often the work of `_convolution` fits into that of a network.

    Args:
        network: Network, as it is computed; it keeps the hooks that count.
        image: Its input.
    """
    products: list[float] = []

    def count(layer: nn.Module, _: Sequence[Tensor], output: Tensor) -> None:
        weight: Tensor = layer.weight  # type: ignore[assignment]
        pixels = output.shape[-2] * output.shape[-1]
        products.append(weight.numel() * pixels / (4 if isinstance(layer, nn.ConvTranspose2d) else 1))

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(count)
    network(image)
    return sum(products) / (9 * prod(_CHANNELS) * _SIDE**2)


if __name__ == "__main__":
    run(measure, __doc__ or "")
