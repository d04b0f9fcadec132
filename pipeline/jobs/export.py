"""Export a model for other runtimes, and compare each file with it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import torch

from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.core.files import claim_file
from pneumoseg.pipeline.formats.files import (
    Run,
    describe,
    largest_difference,
    write_onnx,
    write_openvino,
)
from pneumoseg.pipeline.formats.graph import InferenceGraph
from pneumoseg.pipeline.inference.model import ModelOptions, load_model

FORMATS: Final = ("onnx", "openvino")
TOLERANCE: Final = 1e-4
"""Largest difference of a probability with which a file is kept."""


@dataclass(frozen=True)
class Exported:
    """A file of a model.

    Attributes:
        path: Path of the file.
        difference: Largest difference of a probability from that of the model in float32.
    """

    path: Path
    difference: float


def export_model(
    model_folder: str | Path,
    output: str | Path,
    formats: Collection[str] = ("onnx",),
    *,
    tta: Sequence[str] | None = None,
    operating_point: str | None = None,
    standardizes: bool = True,
    overwrite: bool = False,
) -> list[Exported]:
    """Write a model with its ensemble and TTA as one graph, in float32 and for images of any size.

    Args:
        model_folder: Model folder written by `train_model`.
        output: Folder for ``model.onnx``, and ``model.xml`` with ``model.bin``.
        formats: Formats to write, of `FORMATS`. OpenVINO's is converted from ONNX, which is written too.
        tta: Test-time augmentations in the graph, ``flip`` or none; None selects the model's own.
        operating_point: Operating point to describe in the metadata; None selects the model's own.
        standardizes: Whether the graph standardises images, so that its input are greys in [0, 1].
        overwrite: Replace earlier files.

    Returns: The files, with their differences from the model on test images.

    Raises:
        UsageError: If a format is unknown, its extra is not installed, or the TTA resizes images.
        JobError: If the folder is no model, or a probability of a file differs by more than `TOLERANCE`.
    """
    if unknown := sorted(set(formats) - set(FORMATS)):
        raise UsageError(f"-t {unknown[0]}: {', '.join(FORMATS)} would fit")
    output = Path(output)
    onnx_file, openvino_file = output / "model.onnx", output / "model.xml"
    files = [onnx_file, *([openvino_file] if "openvino" in formats else [])]
    for path in files:
        claim_file(path, overwrite=overwrite)
    model = load_model(
        model_folder, torch.device("cpu"), ModelOptions(operating_point=operating_point, tta=tta)
    )
    graph = InferenceGraph(model, standardizes=standardizes)
    exported: list[Exported] = []

    def compare(path: Path, run: Run) -> None:
        difference = largest_difference(graph, run, image_size=model.image_size)
        if not difference <= TOLERANCE:
            raise JobError(
                f"{path}: a probability differs by {difference:.1e} from the model's, more than {TOLERANCE:.0e}; "
                "another version of the exporter's libraries may fit"
            )
        exported.append(Exported(path, difference))

    write_onnx(graph, onnx_file, metadata=describe(model, graph), check=partial(compare, onnx_file))
    if "openvino" in formats:
        write_openvino(onnx_file, openvino_file, check=partial(compare, openvino_file))
    return exported
