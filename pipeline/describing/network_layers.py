"""The layers of a network, and what feeds each of them, as they are really computed."""

from dataclasses import dataclass, replace
from itertools import count

import torch
from torch import fx, nn

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.errors import UsageError

KINDS = {"add": "Add", "cat": "Concatenate", "mul": "Multiply", "relu": "ReLU", "sigmoid": "Sigmoid"}


@dataclass(frozen=True)
class Layer:
    """One layer, a row of the table.

    Attributes:
        name: Unique; what stands before the dot is the block that the layer belongs to.
        kind: What it computes, with the size of its kernel and the ReLU that follows at once.
        output_shape: (channels, rows, columns).
        parameters: How many weights and biases it has.
        inputs: Names of the layers whose outputs it takes, in the order in which it takes them.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    inputs: tuple[str, ...]

    @property
    def block(self) -> str:
        """The block of the figure that the layer is a part of."""
        return self.name.split(".")[0]


def describe_network(network: AttentionUNet, *, image_size: tuple[int, int] = (160, 160)) -> list[Layer]:
    """List the layers in the order in which they are computed.

    The list is read from the graph that ``torch.export`` traces: it says what the network does, not what its
    constructor promises. As in a Keras summary, a ReLU that follows a convolution is a part of it.

    Args:
        network: Stays as it is; nothing is computed, only shapes are.
        image_size: (rows, columns) in pixels of the image that the shapes are worked out for.

    Raises:
        UsageError: If the network refuses an image of this size.
    """
    image = torch.zeros(1, network.in_channels, *image_size, device=next(network.parameters()).device)
    try:
        exported = torch.export.export(network, (image,))
    except ValueError as error:
        raise UsageError(str(error)) from error

    parameters = exported.graph_signature.inputs_to_parameters
    layers: dict[str, Layer] = {}
    name_of: dict[fx.Node, str] = {}
    for node in exported.graph.nodes:
        if node.op == "output" or node.name in parameters:
            continue
        inputs = tuple(name_of[source] for source in node.all_input_nodes if source in name_of)
        name, kind = _name_and_kind(node, network)
        if kind == "ReLU" and layers[inputs[0]].kind.startswith("Conv2d"):
            name = inputs[0]
            layers[name] = replace(layers[name], kind=f"{layers[name].kind}, ReLU")
        else:
            numbered = (f"{name}_{number}" if number else name for number in count())
            name = next(candidate for candidate in numbered if candidate not in layers)
            shape = tuple(node.meta["val"].shape[1:])
            learned = [source for source in node.all_input_nodes if source.name in parameters]
            size = sum(parameter.meta["val"].numel() for parameter in learned)
            layers[name] = Layer(name, kind, shape, size, inputs)
        name_of[node] = name
    return list(layers.values())


def _name_and_kind(node: fx.Node, network: nn.Module) -> tuple[str, str]:
    """Name a step of the graph after its module, or after the block that does it between its modules."""
    if node.op == "placeholder":
        return node.name, "Input"
    path, _ = list(node.meta["nn_module_stack"].values())[-1]
    module = network.get_submodule(path)
    if any(module.children()):
        operation = str(node.target).split(".")[1]  # of "aten.relu.default"
        kind = KINDS.get(operation, operation)
        return f"{path}.{kind.lower()}".lstrip("."), kind
    if isinstance(module, nn.Conv2d):
        return path, "Conv2d {}×{}".format(*module.kernel_size)
    return path, type(module).__name__
