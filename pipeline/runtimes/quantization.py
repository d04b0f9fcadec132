"""Static quantisation of a network's graph to int8, with QuantizeLinear and DequantizeLinear nodes (QDQ)."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.core.files import written_atomically
from pneumoseg.pipeline.runtimes.graph import IMAGE, write_graph
from pneumoseg.pipeline.runtimes.libraries import extra, quiet


def quantize_network(network: AttentionUNet, images: Iterable[Tensor], path: Path) -> None:
    """Write the graph of a network with weights and feature maps in int8.

    Weights have a scale for each output channel, feature maps one scale from the smallest to the largest value on the
    images. What costs little and loses most stays in float32: see `_exact_nodes`.

    Args:
        network: Network in evaluation mode.
        images: Images of the calibration, each (1, 1, H, W), standardised, all of one size.
        path: Path of the ONNX file.

    Raises: UsageError: If the extra ``onnx`` is not installed.
    """
    with extra("onnx"):
        from onnx import load  # noqa: PLC0415  (an extra)
        from onnxruntime import quantization  # noqa: PLC0415  (an extra)
        from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415  (an extra)

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc] # it has no annotations
        def __init__(self) -> None:
            self._inputs: Iterator[dict[str, npt.NDArray[np.float32]]] = (
                {IMAGE: image.numpy()} for image in images
            )

        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            return next(self._inputs, None)

    with TemporaryDirectory(prefix="pneumoseg-") as folder, quiet(""):
        exact, prepared = Path(folder) / "exact.onnx", Path(folder) / "prepared.onnx"
        write_graph(network, exact)
        quant_pre_process(exact, prepared, skip_symbolic_shape=True)
        with written_atomically(path) as temporary:
            quantization.quantize_static(
                prepared,
                temporary,
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                nodes_to_exclude=_exact_nodes(load(prepared)),
                extra_options={"ActivationSymmetric": False},
            )


def _exact_nodes(model: Any) -> list[str]:
    """List the names of the nodes that stay in float32.

    These are the first convolution, which reads the image, and the first depthwise one, if any: with few products for
    each output their rounding errors do not average out, and every later map depends on them. Convolutions to a single
    channel, the head and the last of each gate, and matrix products feed a sigmoid.
    """
    weights = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    depthwise = [node for node in convolutions if _is_depthwise(node)]
    single = [node for node in convolutions if weights[node.input[1]][0] == 1]
    products = [node for node in model.graph.node if node.op_type in {"Gemm", "MatMul"}]
    return [node.name for node in (*convolutions[:1], *depthwise[:1], *single, *products)]


def _is_depthwise(convolution: Any) -> bool:
    return any(attribute.name == "group" and attribute.i > 1 for attribute in convolution.attribute)
