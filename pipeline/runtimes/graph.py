"""Graphs of modules in ONNX format, and the graph of one network."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from pneumoseg.models import AttentionUNet, NetworkOutputs
from pneumoseg.models.inference_rewrite import rewrite_for_inference
from pneumoseg.pipeline.core.files import written_atomically
from pneumoseg.pipeline.runtimes.libraries import extra, quiet

OPSET: Final = 20
IMAGE: Final = "image"


def to_onnx(module: nn.Module, *, stride: int, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    """Trace a module into an ONNX graph for batches and images of any size.

    Args:
        module: Module whose inputs are all (B, 1, H, W), float32.
        stride: Number that H and W are multiples of.
        inputs: Names of the inputs.
        outputs: Names of the outputs.

    Returns: A ``torch.onnx.ONNXProgram``, which can be saved.
    Raises: UsageError: If the extra ``onnx`` is not installed.
    """
    with extra("onnx"):
        import onnxscript  # noqa: F401, PLC0415  (the exporter needs it)

    rows, columns = torch.export.Dim("rows"), torch.export.Dim("columns")
    sizes = {0: torch.export.Dim("batch"), 2: stride * rows, 3: stride * columns}
    example = torch.rand(2, 1, 2 * stride, 3 * stride)
    with quiet("torch.onnx"):  # it warns about the names of axes
        program = torch.onnx.export(
            module.eval(),
            tuple(example if index == 0 else torch.ones_like(example) for index in range(len(inputs))),
            dynamo=True,
            dynamic_shapes=(sizes,) * len(inputs),
            input_names=inputs,
            output_names=outputs,
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None  # noqa: S101  (dynamo=True returns one)
    return program


class NetworkGraph(nn.Module):
    """The forward pass of a network with flat outputs, for exporters that trace a module.

    Args:
        network: Network on the CPU; its weights are used as they are.

    Shape:
        image: (B, 1, H, W), float32, standardised
        returns: logits, image logits where there is a head, and the maps of the gates
    """

    def __init__(self, network: AttentionUNet) -> None:
        super().__init__()
        self.network = network

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs in their order."""
        image_logits = [] if self.network.image_head is None else ["image_logits"]
        return ["logits", *image_logits, *(f"map{index}" for index in range(4))]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Compute all outputs.

        Args:
            image: (B, 1, H, W), float32
        """
        found = self.network.outputs(image)
        return found.logits, *([] if found.image_logits is None else [found.image_logits]), *found.maps


def write_graph(network: AttentionUNet, path: Path, *, rewrites: bool = True) -> None:
    """Write the ONNX graph of a network.

    Args:
        network: Network, on any device.
        path: Path of the file.
        rewrites: Whether to rewrite the network for inference: see `rewrite_for_inference`.

    Raises: UsageError: If the extra ``onnx`` is not installed.
    """
    network = deepcopy(network).cpu().eval()
    graph = NetworkGraph(rewrite_for_inference(network) if rewrites else network)
    program = to_onnx(graph, stride=network.stride, inputs=[IMAGE], outputs=graph.outputs)
    with written_atomically(path) as temporary:
        program.save(temporary)


def as_outputs(found: Mapping[str, Tensor]) -> NetworkOutputs:
    """Bring the outputs of a network's graph back to the form of `AttentionUNet.outputs`.

    Args:
        found: Outputs by name.
    """
    maps = [tensor for name, tensor in found.items() if name.startswith("map")]
    return NetworkOutputs(found["logits"], found.get("image_logits"), maps)
