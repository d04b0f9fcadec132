"""Clean-up of an exported ONNX graph: weights once and optionally in bfloat16, and no traces of the exporter."""

from typing import Any, Final

import numpy as np

LEAST_SIZE: Final = 64
"""Smaller arrays, such as biases, are not worth a number format of their own."""


def share_weights(model: Any) -> None:
    """Keep one of several equal arrays; the exporter repeats those of a network that runs on a mirrored image too.

    Args:
        model: An ``onnx_ir.Model``, which is changed.
    """
    from onnx_ir.passes import common  # noqa: PLC0415  (an extra)

    common.DeduplicateInitializersPass(size_limit=2**31)(model)


def remove_traces(model: Any) -> None:
    """Remove the exporter's notes on each node, which quote the source code with its paths and fill megabytes.

    Args:
        model: An ``onnx_ir.Model``, which is changed.
    """
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.graph.metadata_props.clear()


def store_in_bfloat16(model: Any) -> None:
    """Store weights in bfloat16; runtimes convert them to float32 when they load the file, and compute in that.

    No runtime computes convolutions of bfloat16 on CPUs from ONNX, which allows them since opset 22 only.

    Args:
        model: An ``onnx_ir.Model``, which is changed.
    """
    import ml_dtypes  # noqa: PLC0415  (an extra)
    import onnx_ir as ir  # noqa: PLC0415

    graph = model.graph
    for weights in list(graph.initializers.values()):
        if weights.dtype != ir.DataType.FLOAT or weights.const_value.size < LEAST_SIZE:
            continue
        short = np.asarray(weights.const_value.numpy()).astype(ml_dtypes.bfloat16)
        stored = ir.val(f"{weights.name}_bfloat16", const_value=ir.tensor(short))
        cast = ir.node("Cast", [stored], {"to": ir.DataType.FLOAT.value})
        weights.replace_all_uses_with(cast.outputs[0])
        graph.initializers.pop(weights.name)
        graph.register_initializer(stored)
        graph.insert_before(graph[0], cast)
