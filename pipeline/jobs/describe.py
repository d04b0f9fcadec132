"""Describe a network by the table of its layers and the picture of its blocks."""

from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.model.block_picture import draw_layers
from pneumoseg.pipeline.model.layer_table import Layer, describe_network


def describe_model(
    network: AttentionUNet, *, image_size: tuple[int, int] = (160, 160), output: str | Path | None = None
) -> str:
    """Make the table of layers as text and, if *output* is given, draw the picture of the blocks.

    Args:
        network: Network to describe; it is not changed.
        image_size: (rows, columns) of the image that the shapes are computed for, in pixels.
        output: Path of the block picture: .png, .svg or .pdf.

    Raises:
        UsageError: If the network refuses the image size, or the picture is of another kind.
        JobError: If Graphviz is missing.
    """
    output = None if output is None else Path(output)
    layers = describe_network(network, image_size=image_size)
    if output is not None:
        draw_layers(layers, output)
    return layer_table(layers)


def layer_table(layers: Sequence[Layer]) -> str:
    """Format the layers like the table of the article: name, output shape, parameters, inputs from.

    The text fits a terminal of 80 columns and is the same everywhere, so it may be piped into a file.
    A layer with several inputs has one of them on each line.
    """
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, show_footer=True, padding=0)
    table.add_column("Layer", footer="Total", no_wrap=True)
    table.add_column("Kind", no_wrap=True)
    table.add_column("Output shape", no_wrap=True)
    table.add_column(
        "Parameters", footer=f"{sum(layer.parameters for layer in layers):,}", justify="right", no_wrap=True
    )
    table.add_column("Inputs from", no_wrap=True)
    for layer in layers:
        table.add_row(
            layer.name,
            layer.kind,
            "×".join(map(str, layer.output_shape)),
            f"{layer.parameters:,}" if layer.parameters else "",
            "\n".join(layer.inputs),
        )
    text = StringIO()
    Console(file=text, width=120, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
