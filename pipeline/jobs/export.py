"""Export a model for other programs, and compare each file with it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import torch

from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.core.files import claim_file
from pneumoseg.pipeline.formats.browser.libraries import read_libraries
from pneumoseg.pipeline.formats.browser.writing import PAGE, write_page
from pneumoseg.pipeline.formats.bundle.writing import METADATA, write_bundle
from pneumoseg.pipeline.formats.files import (
    Run,
    describe,
    largest_difference,
    write_onnx,
    write_openvino,
)
from pneumoseg.pipeline.formats.graph import InferenceGraph
from pneumoseg.pipeline.formats.keras import keras_files, write_keras
from pneumoseg.pipeline.inference.model import Model, ModelOptions, load_model

FORMATS: Final = ("onnx", "openvino", "browser", "bundle", "keras")
ONNX: Final = "model.onnx"
OPENVINO: Final = "model.xml"
BROWSER: Final = "browser"
BUNDLE: Final = "bundle"
TOLERANCE: Final = 1e-4
"""Largest difference of a probability with which a file is kept."""


@dataclass(frozen=True)
class Exported:
    """A file or folder of a model.

    Attributes:
        path: Path of the file or folder.
        difference: Largest difference of a probability from that of the model in float32; None for formats whose
            weights are the model's own.
    """

    path: Path
    difference: float | None = None


def export_model(
    model_folder: str | Path,
    output: str | Path,
    formats: Collection[str] = ("onnx",),
    *,
    tta: Sequence[str] | None = None,
    operating_point: str | None = None,
    standardizes: bool = True,
    libraries: str | Path | None = None,
    overwrite: bool = False,
) -> list[Exported]:
    """Write a model with its ensemble and TTA for other programs.

    Args:
        model_folder: Model folder written by `train_model`.
        output: Folder for ``model.onnx``; ``model.xml`` with ``model.bin``; ``browser/``, a page for a web server;
            ``bundle/``, a MONAI Bundle; and ``model.weights.h5``, or a numbered one for each member of an ensemble.
        formats: Formats to write, of `FORMATS`. OpenVINO's is converted from ONNX, which is written too. Both are one
            graph in float32 for images of any size.
        tta: Test-time augmentations in the graph, ``flip`` or none; None selects the model's own.
        operating_point: Operating point to describe in the metadata; None selects the model's own.
        standardizes: Whether the graph standardises images, so that its input are greys in [0, 1]; that of the browser
            always does.
        libraries: Folder with the archives of the page's libraries: see `read_libraries`; None fetches them by npm.
        overwrite: Replace earlier files.

    Returns: What was written, with the differences from the model on test images.

    Raises:
        UsageError: If a format is unknown, its extra is not installed, the TTA resizes images, or Keras weights are
            wanted of another network than the article's.
        JobError: If the folder is no model, the page's libraries cannot be fetched, or a probability of a file differs
            by more than `TOLERANCE`.
    """
    if unknown := sorted(set(formats) - set(FORMATS)):
        raise UsageError(f"-t {unknown[0]}: {', '.join(FORMATS)} would fit")
    output = Path(output)
    model = load_model(
        model_folder, torch.device("cpu"), ModelOptions(operating_point=operating_point, tta=tta)
    )
    for path in _files(output, formats, members=len(model.networks)):
        claim_file(path, overwrite=overwrite)
    exported: list[Exported] = []
    if "onnx" in formats or "openvino" in formats:
        exported += _write_graphs(model, output, openvino="openvino" in formats, standardizes=standardizes)
    if "browser" in formats:
        page = output / BROWSER
        write_page(model, page, read_libraries(None if libraries is None else Path(libraries)))
        exported += _write_graphs(model, page, openvino=False, standardizes=True)
    if "bundle" in formats:
        write_bundle(model, output / BUNDLE)
        exported.append(Exported(output / BUNDLE))
    if "keras" in formats:
        exported += map(Exported, write_keras(model, output))
    return exported


def _write_graphs(model: Model, folder: Path, *, openvino: bool, standardizes: bool) -> list[Exported]:
    """Write a model as ONNX and, from that, for OpenVINO; a file whose probabilities differ is not kept."""
    graph = InferenceGraph(model, standardizes=standardizes)
    onnx_file, openvino_file = folder / ONNX, folder / OPENVINO
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
    if openvino:
        write_openvino(onnx_file, openvino_file, check=partial(compare, openvino_file))
    return exported


def _files(output: Path, formats: Collection[str], *, members: int) -> list[Path]:
    """List a file of each format, which must not be there before."""
    files = {
        "onnx": [output / ONNX],
        "openvino": [output / ONNX, output / OPENVINO],
        "browser": [output / BROWSER / PAGE],
        "bundle": [output / BUNDLE / METADATA],
        "keras": keras_files(output, members),
    }
    return [path for name in formats for path in files[name]]
