"""Picture of the network: its blocks on the levels of the U, each with its output shape."""

import re
from collections.abc import Sequence
from html import escape
from math import log2
from pathlib import Path

import graphviz

from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.core.files import written_atomically
from pneumoseg.pipeline.model.layer_table import Layer

FORMATS = (".png", ".svg", ".pdf")
COLUMN_INCHES, LEVEL_INCHES = 2.0, 1.8

# Where a block stands: its column, and how far above (-) or below (+) its level, in levels.
PLACES = {
    "image": (-1.0, 0.0),
    "encoder": (0.0, 0.0),
    "pool": (0.0, -0.5),
    "bottleneck": (1.0, 0.0),
    "up": (2.0, 0.5),
    "gate": (1.0, 0.0),
    "concatenate": (2.0, 0.0),
    "decoder": (3.0, 0.0),
    "head": (4.0, 0.0),
    "mean": (1.0, 0.5),
    "image_head": (2.0, 0.75),
}
COLOURS = {
    "encoder": "#cfe2f3",
    "bottleneck": "#cfe2f3",
    "decoder": "#cfe2f3",
    "gate": "#fce5cd",
    "head": "#d9ead3",
    "image_head": "#d9ead3",
}
PLAIN = "#f3f3f3"  # blocks without parameters


def draw_layers(layers: Sequence[Layer], path: Path) -> None:
    """Render the blocks of a network as the figure of a U-Net.

    Args:
        layers: Layers of an Attention U-Net, as `describe_network` lists them.
        path: Picture to write; its suffix .png, .svg or .pdf selects the format.

    Raises:
        UsageError: If the suffix is another one.
        JobError: If Graphviz is missing or fails; no file is written then.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path.name}: a picture ends in one of {', '.join(FORMATS)}")
    try:
        picture = _blocks(layers).pipe(format=path.suffix.lower()[1:], engine="neato", quiet=True)
    except graphviz.ExecutableNotFound as error:
        raise JobError(
            "the picture needs the program `dot` of Graphviz, which is not on the PATH; "
            "install it (apt install graphviz, brew install graphviz) or leave -o out"
        ) from error
    except graphviz.CalledProcessError as error:
        raise JobError(
            f"Graphviz could not draw the picture: {error.stderr.decode(errors='replace').strip()}"
        ) from error
    with written_atomically(path) as temporary:
        temporary.write_bytes(picture)


def _blocks(layers: Sequence[Layer]) -> graphviz.Digraph:
    """Lay out one box for each block, with the edges between blocks."""
    graph = graphviz.Digraph(
        graph_attr={"dpi": "120", "splines": "line"},
        node_attr={
            "shape": "box",
            "style": "filled,rounded",
            "color": "#888888",
            "fontname": "Helvetica",
            "fontsize": "12",
            "width": "1.65",
            "height": "0.65",
        },
        edge_attr={"color": "#555555", "arrowsize": "0.7"},
    )
    outputs = {layer.block: layer for layer in layers}  # the last layer of a block is its output
    full_size = layers[0].output_shape[-1]
    deepest = min(layer.output_shape[-1] for layer in layers if len(layer.output_shape) == 3)
    for block, output in outputs.items():
        title = re.sub(r"_\d+$", "", block)  # concatenate_2
        kind = title.rstrip("12345")
        column, offset = PLACES[kind]
        size = output.output_shape[-1] if len(output.output_shape) == 3 else deepest
        row = log2(full_size / size) + offset
        parameters = sum(layer.parameters for layer in layers if layer.block == block)
        lines = [f"<b>{escape(title)}</b>", "×".join(map(str, output.output_shape))]
        if parameters:
            lines.append(f'<font point-size="9" color="#555555">{parameters:,} parameters</font>')
        graph.node(
            block,
            label=f"<{'<br/>'.join(lines)}>",
            pos=f"{column * COLUMN_INCHES},{-row * LEVEL_INCHES}!",
            fillcolor=COLOURS.get(kind, PLAIN),
        )
    block_of = {layer.name: layer.block for layer in layers}
    edges = {(block_of[source], layer.block): None for layer in layers for source in layer.inputs}
    for tail, head in edges:
        if tail != head:
            graph.edge(tail, head)
    return graph
