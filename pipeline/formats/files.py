"""Files of a model for ONNX Runtime and OpenVINO, and their comparison with the model.

The exporters are extras: ``pip install 'pneumoseg[onnx]'``, ``pip install 'pneumoseg[onnx,openvino]'``.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from pneumoseg.pipeline.core.files import written_atomically
from pneumoseg.pipeline.formats.cleaning import remove_traces, share_weights, store_in_bfloat16
from pneumoseg.pipeline.formats.graph import INPUTS, OUTPUTS, InferenceGraph
from pneumoseg.pipeline.inference.model import Model
from pneumoseg.pipeline.phantom.pneumothorax import PneumothoraxPlan
from pneumoseg.pipeline.phantom.rendering import render_phantom
from pneumoseg.pipeline.runtimes.graph import to_onnx
from pneumoseg.pipeline.runtimes.libraries import compile_openvino, extra, open_onnx, open_openvino

Arrays = Mapping[str, npt.NDArray[np.float32]]
Run = Callable[[Arrays], list[npt.NDArray[np.float32]]]
"""Function that runs a file on the inputs by name, and returns the outputs in their order."""
Check = Callable[[Run], None]
"""Function that raises where the outputs of a file are wrong; it is called before the file gets its name."""

_PHANTOM_SIZE: Final = 256
_PNEUMOTHORAX: Final = PneumothoraxPlan(area_px=60_000)
"""Large, so that probabilities are far from 0."""
_NOTICE: Final = "Research software, not a medical device."


def write_onnx(
    graph: InferenceGraph,
    path: Path,
    *,
    metadata: Mapping[str, str],
    check: Check,
    weights_in_bfloat16: bool = False,
) -> None:
    """Write an ONNX file for batches and images of any size.

    Args:
        graph: Graph of the model.
        path: Path of the file.
        metadata: Texts by key for the file's ``metadata_props``.
        check: Check of the outputs.
        weights_in_bfloat16: Whether to store the weights in bfloat16; see `store_in_bfloat16`.

    Raises: UsageError: If the extra ``onnx`` is not installed.
    """
    program = to_onnx(graph, stride=graph.stride, inputs=INPUTS, outputs=OUTPUTS)
    remove_traces(program.model)
    share_weights(program.model)
    if weights_in_bfloat16:
        store_in_bfloat16(program.model)
    program.model.metadata_props.update(metadata)
    with written_atomically(path) as temporary:
        program.save(temporary)
        check(onnx_runner(temporary))


def write_openvino(onnx_file: Path, path: Path, *, check: Check) -> None:
    """Convert an ONNX file to OpenVINO's format.

    Args:
        onnx_file: Path of the ONNX file.
        path: Path of the ``.xml`` file; the weights are written beside it as ``.bin``.
        check: Check of the outputs.

    Raises: UsageError: If the extra ``openvino`` is not installed.
    """
    with extra("openvino"):
        import openvino  # noqa: PLC0415  (an extra)

    converted = openvino.convert_model(onnx_file)
    with written_atomically(path.with_suffix(".bin")) as weights, written_atomically(path) as temporary:
        openvino.serialize(converted, temporary, weights)
        check(openvino_runner(temporary, weights))


def describe(model: Model, graph: InferenceGraph) -> dict[str, str]:
    """Describe a model for the metadata of its file.

    Args:
        model: Model.
        graph: Its graph.

    Returns: Texts by key; ``operating_point`` is JSON.
    """
    image = (
        "greys in [0, 1]"
        if graph.standardizes
        else "standardised by the mean and standard deviation of its own pixels"
    )
    return {
        "pneumoseg": version("pneumoseg"),
        "labels": json.dumps(["pneumothorax"]),
        "image": f"{image}; the longest side scaled to image_size, centred, the rest padded with 0",
        "content": "1 for the pixels of the image, 0 for padding",
        "image_size": str(model.image_size),
        "stride": str(graph.stride),
        "operating_point": json.dumps(asdict(model.operating_point)),
        "tta": json.dumps(model.tta),
        "notice": _NOTICE,
    }


def onnx_runner(path: Path) -> Run:
    """Open an ONNX file in ONNX Runtime.

    Args:
        path: Path of the file.

    Raises: UsageError: If the extra ``onnx`` is not installed.
    """
    session = open_onnx(path)
    return lambda inputs: session.run(list(OUTPUTS), dict(inputs))


def openvino_runner(path: Path, weights: Path) -> Run:
    """Open an OpenVINO file on the CPU.

    Args:
        path: Path of the ``.xml`` file.
        weights: Path of the ``.bin`` file.

    Raises: UsageError: If the extra ``openvino`` is not installed.
    """
    compiled = compile_openvino(open_openvino(path, weights))

    def run(inputs: Arrays) -> list[npt.NDArray[np.float32]]:
        outputs = compiled(dict(inputs))
        return [outputs[index] for index in range(len(OUTPUTS))]

    return run


def largest_difference(graph: InferenceGraph, run: Run, *, image_size: int) -> float:
    """Compare a file with its graph on phantoms with padding, of the model's size and of another.

    Args:
        graph: Graph that the file was made from.
        run: Runner of the file.
        image_size: Side of the model's input in pixels.

    Returns: Largest absolute difference of any probability.
    """
    other = graph.stride * max(2, image_size // graph.stride // 2)
    largest = 0.0
    # the probabilities of the reference model reach 0.9 and more on these phantoms: where all are near 0, files agree
    for seeds, size in (((3, 4), (image_size, image_size)), ((1, 2), (other, other + graph.stride))):
        inputs = phantoms(seeds, size, standardised=not graph.standardizes)
        expected: tuple[Tensor, Tensor] = graph(**inputs)
        found = run({name: tensor.numpy() for name, tensor in inputs.items()})
        for tensor, array in zip(expected, found, strict=True):
            largest = max(largest, float(np.abs(tensor.numpy() - array).max()))
    return largest


def phantoms(seeds: Sequence[int], size: tuple[int, int], *, standardised: bool) -> dict[str, Tensor]:
    """Render phantoms with a pneumothorax, and prepare them as the inputs of a graph.

    Args:
        seeds: Seed of each phantom.
        size: Rows and columns.
        standardised: Whether the graph takes standardised images; otherwise greys in [0, 1].

    Returns: ``image`` and ``content``, each (B, 1, rows, columns), with an eighth of the columns as padding.
    """
    pictures = [render_phantom(seed, size=_PHANTOM_SIZE, pneumothorax=_PNEUMOTHORAX).image for seed in seeds]
    greys = torch.from_numpy(np.stack(pictures))[:, None]
    image = functional.interpolate(greys, size, mode="bilinear", antialias=True)
    content = torch.ones_like(image)
    content[..., : size[1] // 8] = 0
    if standardised:
        own = [grey[inside > 0] for grey, inside in zip(image, content, strict=True)]
        image = torch.stack(
            [(grey - pixels.mean()) / pixels.std() for grey, pixels in zip(image, own, strict=True)]
        )
    return {"image": image * content, "content": content}
