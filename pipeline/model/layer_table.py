"""Layers of a network and their inputs, read from the traced graph."""

from dataclasses import dataclass, replace
from itertools import count

import torch
from torch import fx, nn

from pneumoseg.models import AttentionUNet, TrainingForward
from pneumoseg.models.encoders.efficientnet_lite import InvertedBottleneck
from pneumoseg.pipeline.core.errors import UsageError

KINDS = {
    "add": "Add",
    "cat": "Concatenate",
    "mean": "Mean",
    "mul": "Multiply",
    "relu": "ReLU",
    "sigmoid": "Sigmoid",
}


@dataclass(frozen=True)
class Layer:
    """One layer, a row of the table.

    Attributes:
        name: Unique name: the path of the module, or of the block that computes the layer between its modules.
        kind: Operation, with the size of its kernel and the ReLU that follows it.
        output_shape: (channels, rows, columns), or (channels,) of the head for the whole image.
        parameters: Number of weights and biases.
        inputs: Names of the layers that provide its inputs, in order.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    inputs: tuple[str, ...]

    @property
    def block(self) -> str:
        """Name of the block of the figure that the layer is a part of: the encoder and the deep heads have several."""
        match self.name.split("."):
            case ["encoder", level, *_]:
                return level.replace("level", "encoder")
            case ["deep_heads", index]:
                return f"head{int(index) + 2}"  # the first one is on the second level
            case [block, *_]:
                return block
        return self.name


def describe_network(network: AttentionUNet, *, image_size: tuple[int, int] = (160, 160)) -> list[Layer]:
    """List the layers in the order in which they are computed in training, with all heads.

    The list is read from the graph that ``torch.export`` traces, not from the modules. As in a Keras summary, a ReLU
    that follows a convolution is a part of it. So are the layers of a block of a pretrained encoder: each block is one
    row.

    Args:
        network: Network to describe; it is not changed, and only shapes are computed.
        image_size: (rows, columns) in pixels of the image that the shapes are computed for.

    Raises:
        UsageError: If the network refuses an image of this size.
    """
    image = torch.zeros(1, network.in_channels, *image_size, device=next(network.parameters()).device)
    try:
        exported = torch.export.export(TrainingForward(network), (image,))
    except ValueError as error:
        raise UsageError(str(error)) from error

    signature = exported.graph_signature
    parameters, buffers = signature.inputs_to_parameters, signature.inputs_to_buffers
    layers: dict[str, Layer] = {}
    name_of: dict[fx.Node, str] = {}
    for node in exported.graph.nodes:
        if node.op == "output" or node.name in parameters or node.name in buffers:
            continue
        inputs = tuple(name_of[source] for source in node.all_input_nodes if source in name_of)
        if not inputs and node.op != "placeholder":
            continue  # a normalization counts its batches
        name, kind = _name_and_kind(node, network)
        shape = tuple(node.meta["val"].shape[1:])
        learned = [source for source in node.all_input_nodes if source.name in parameters]
        size = sum(parameter.meta["val"].numel() for parameter in learned)
        if name in layers and name.startswith("encoder."):
            block = layers[name]
            inputs = tuple(dict.fromkeys([*block.inputs, *(source for source in inputs if source != name)]))
            layers[name] = Layer(name, kind, shape, block.parameters + size, inputs)
        elif kind == "ReLU" and layers[inputs[0]].kind.startswith("Conv2d"):
            name = inputs[0]
            layers[name] = replace(layers[name], kind=f"{layers[name].kind}, ReLU")
        else:
            numbered = (f"{name}_{number}" if number else name for number in count())
            name = next(candidate for candidate in numbered if candidate not in layers)
            layers[name] = Layer(name, kind, shape, size, inputs)
        name_of[node] = name
    return list(layers.values())


def _name_and_kind(node: fx.Node, network: AttentionUNet) -> tuple[str, str]:
    """Name a step of the graph after its module, or after the block that does it between its modules."""
    if node.op == "placeholder":
        return node.name, "Input"
    path, _ = list(node.meta["nn_module_stack"].values())[-1]
    path = path.removeprefix("network").removeprefix(".")
    if path.startswith("encoder."):
        path = ".".join(path.split(".")[:3])
        block = network.get_submodule(path)
        if isinstance(block, InvertedBottleneck):
            return path, "InvertedBottleneck {}×{}".format(*block.depthwise.conv.kernel_size)
        return path, "Conv2d {}×{}, ReLU6".format(*_convolution(block).kernel_size)
    module = network.get_submodule(path)
    if any(module.children()):
        operation = str(node.target).split(".")[1]  # of "aten.relu.default"
        kind = KINDS.get(operation, operation)
        return f"{path}.{kind.lower()}".lstrip("."), kind
    if isinstance(module, nn.Conv2d):
        return path, "Conv2d {}×{}".format(*module.kernel_size)
    return path, type(module).__name__


def _convolution(block: nn.Module) -> nn.Conv2d:
    return next(module for module in block.modules() if isinstance(module, nn.Conv2d))
