"""Forward pass of the article's network in each runtime and precision, against eager torch and plain ONNX Runtime.

``python benchmarks/runtimes.py`` measures 512 px, a batch of 1 and as many threads as torch uses. The bound in bf16 is
the rate of one large convolution of the network in bf16, with which all its work would be done.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from benchmarks.comparison import Comparison, Setting, relate, run, take_turns
from pneumoseg.models import AttentionUNet
from pneumoseg.models.inference_rewrite import rewrite_for_inference
from pneumoseg.pipeline.core.devices import Precision, computes_in_bf16
from pneumoseg.pipeline.model.weights import place
from pneumoseg.pipeline.runtimes.forward import make_forward
from pneumoseg.pipeline.runtimes.graph import write_graph
from pneumoseg.pipeline.runtimes.libraries import is_installed
from pneumoseg.pipeline.runtimes.quantization import quantize_network

CPU = torch.device("cpu")
FLOAT32, BF16, INT8 = (Precision(CPU, dtype) for dtype in (torch.float32, torch.bfloat16, torch.int8))
NCHW, ONNX, BOUND = "eager float32 NCHW", "onnxruntime float32, plain graph", "bf16 bound"


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
    torch.manual_seed(0)
    network = AttentionUNet().eval()
    image = torch.randn(1, 1, size, size)
    with TemporaryDirectory() as folder, torch.no_grad():
        plain, rewritten, quantized = (Path(folder) / f"{name}.onnx" for name in ("plain", "fast", "int8"))
        write_graph(network, plain, rewrites=False)
        write_graph(network, rewritten)
        quantize_network(network, [image], quantized)
        channels_last = place(AttentionUNet().eval(), CPU)
        forwards = {
            NCHW: make_forward(network, "torch", FLOAT32),
            "torch float32": make_forward(channels_last, "torch", FLOAT32),
            ONNX: make_forward(network, "onnx", FLOAT32, graph=plain),
            "onnx float32": make_forward(network, "onnx", FLOAT32, graph=rewritten),
            "openvino float32, plain graph": make_forward(network, "openvino", FLOAT32, graph=plain),
            "openvino float32": make_forward(network, "openvino", FLOAT32, graph=rewritten),
            "openvino int8": make_forward(network, "openvino", INT8, graph=quantized),
        }
        if has_bf16 := computes_in_bf16(CPU):
            forwards["torch bf16"] = make_forward(channels_last, "torch", BF16)
            forwards["openvino bf16"] = make_forward(network, "openvino", BF16, graph=rewritten)
        sides: dict[str, Callable[[], object]] = {
            name: partial(forward, image) for name, forward in forwards.items()
        }
        work = 1.0
        if has_bf16:
            sides[BOUND], work = _bound(rewrite_for_inference(network), image)
        turns = take_turns(sides, rounds=setting.rounds(7))
    name = f"forward, {size} px".__add__
    lines = [
        relate(name(", openvino float32, eager NCHW"), turns["openvino float32"], turns[NCHW], limit=2.4),
        relate(
            name(", openvino float32, onnxruntime plain"), turns["openvino float32"], turns[ONNX], limit=1.1
        ),
        relate(name(", openvino int8, eager NCHW"), turns["openvino int8"], turns[NCHW], limit=7),
        *(
            relate(name(f", {side}, eager NCHW"), turns[side], turns[NCHW], limit=None)
            for side in ("torch float32", "onnx float32")
        ),
        relate(
            name(", openvino float32, the same without the rewrite"),
            turns["openvino float32"],
            turns["openvino float32, plain graph"],
            limit=None,
        ),
    ]
    if not has_bf16:
        return [
            *lines,
            Comparison.unmeasured(name(", bf16"), limit=4.5, note="this processor does not compute in bf16"),
        ]
    bound = Comparison(
        name(", openvino bf16, share of the bf16 bound"),
        turns["openvino bf16"].seconds,
        turns[BOUND].seconds * work,
        limit=0.75,
        quiet=turns[BOUND].quiet,
    )
    return [
        *lines,
        relate(name(", openvino bf16, eager NCHW"), turns["openvino bf16"], turns[NCHW], limit=4.5),
        relate(name(", torch bf16, eager NCHW"), turns["torch bf16"], turns[NCHW], limit=None),
        bound,
    ]


def _bound(network: nn.Module, image: Tensor) -> tuple[Callable[[], object], float]:
    """Make a large convolution in bf16, and count how often its work fits into that of a network.

    Args:
        network: Network, as it is computed.
        image: Its input.

    Returns: The convolution, and the number of products of the network divided by that of the convolution.
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
    convolution = nn.Conv2d(256, 256, kernel_size=3, padding=1).bfloat16()
    convolution = convolution.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    features = torch.randn(1, 256, 64, 64, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    own = convolution.weight.numel() * features.shape[-2] * features.shape[-1]
    return partial(convolution, features), sum(products) / own


if __name__ == "__main__":
    run(measure, __doc__ or "")
