from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pneumoseg.models import AttentionUNet, Encoder
from pneumoseg.models.encoders.efficientnet_lite import ConvolutionNorm, InvertedBottleneck
from pneumoseg.pipeline.runtimes.quantization import quantize_network

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


class _TinyEncoder(Encoder):
    """A convolution, a depthwise one, and two at once in each further level."""

    def __init__(self) -> None:
        super().__init__((8, 8, 8, 8, 8))
        first = ConvolutionNorm(3, 8, kernel_size=3, stride=2)
        others = [
            InvertedBottleneck(8, 8, kernel_size=3, stride=2 if level else 1, expansion=1)
            for level in range(5)
        ]
        self.levels = nn.ModuleList([nn.Sequential(first, others[0]), *others[1:]])

    def forward(self, image: Tensor) -> list[Tensor]:
        maps = [image]
        for level in self.levels:
            maps.append(level(maps[-1]))
        return maps[1:]


@pytest.mark.slow
def test_the_first_convolution_and_the_first_depthwise_one_stay_in_float32(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = AttentionUNet(encoder=_TinyEncoder(), features=(8, 8, 8, 8, 8), image_head=True).eval()
    quantize_network(network, [torch.randn(1, 1, 64, 64) for _ in range(2)], tmp_path / "int8.onnx")
    graph = onnx.load(tmp_path / "int8.onnx").graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    integer = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    exact = [shapes[node.input[1]] for node in convolutions if node.input[1] not in integer]
    # the kernels of 1 x 1 to a single channel are those of the four gates and of the head
    assert exact == [(8, 3, 3, 3), (8, 1, 3, 3)] + [(1, 8, 1, 1)] * 5
    assert len(convolutions) > 25
    assert (
        len([node for node in graph.node if node.op_type == "ConvTranspose" and node.input[1] in integer])
        == 5
    )
