"""Export a model for other programs, and compare each file with it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import torch

from pneumoseg.pipeline.core.claims import claim_file
from pneumoseg.pipeline.core.config import ComputedPrecision
from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.formats.browser.libraries import read_libraries
from pneumoseg.pipeline.formats.browser.writing import PAGE, write_page
from pneumoseg.pipeline.formats.bundle.writing import METADATA, WEIGHTS, write_bundle
from pneumoseg.pipeline.formats.files import Run, describe, largest_difference, write_onnx, write_openvino
from pneumoseg.pipeline.formats.graph import InferenceGraph
from pneumoseg.pipeline.formats.keras import keras_files, write_keras
from pneumoseg.pipeline.inference.model import Model, ModelOptions, load_model

FORMATS: Final = ("onnx", "openvino", "browser", "bundle", "keras")
ONNX: Final = "model.onnx"
OPENVINO: Final = "model.xml"
BROWSER: Final = "browser"
BUNDLE: Final = "bundle"
TOLERANCES: Final[dict[ComputedPrecision, float]] = {"float32": 1e-4, "fp16": 0.5, "bf16": 0.5}
"""Largest difference of a probability with which a file is kept; that of a short format is stated, hardly judged."""


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
    precision: ComputedPrecision = "float32",
    libraries: str | Path | None = None,
    overwrite: bool = False,
) -> list[Exported]:
    """Write a model with its ensemble and TTA for other programs.

    Args:
        model_folder: Model folder written by `train_model`, or the name of a model of the package.
        output: Folder for ``model.onnx``; ``model.xml`` with ``model.bin``; ``browser/``, a page for a web server;
            ``bundle/``, a MONAI Bundle; and ``model.weights.h5``, or a numbered one for each member of an ensemble.
        formats: Formats to write, of `FORMATS`. OpenVINO's is converted from ONNX, which is written too. Both are one
            graph for batches of any size and images whose sides are multiples of the model's stride.
        tta: Test-time augmentations in the graph, ``flip`` or none; None selects the model's own.
        operating_point: Operating point to describe in the metadata; None selects the model's own.
        standardizes: Whether the graph standardises images, so that its input are greys in [0, 1]; that of the browser
            always does.
        precision: Number format of ONNX and OpenVINO files. ``fp16``: the networks compute in it. ``bf16``: ONNX
            stores the weights in it, and runtimes compute in float32. Inputs and outputs are always float32.
        libraries: Folder with the archives of the page's libraries: see `read_libraries`; None fetches them by npm.
        overwrite: Replace earlier files.

    Returns: What was written, with the differences from the model on test images.

    Raises:
        UsageError: If a format or precision is unknown, a file exists, an extra is not installed, the TTA is unknown
            or resizes images, or Keras weights are wanted of another network than the article's.
        JobError: If the folder is not a model, the page's libraries cannot be fetched, or a probability of a file
            differs by more than `TOLERANCES` has for its precision.
    """
    if unknown := sorted(set(formats) - set(FORMATS)):
        raise UsageError(f"-t {unknown[0]}: {', '.join(FORMATS)} would fit")
    if precision not in TOLERANCES:
        raise UsageError(f"--precision {precision}: {', '.join(TOLERANCES)} would fit")
    if precision == "bf16" and "openvino" in formats:
        raise UsageError(
            "--precision bf16: OpenVINO stores float32 or float16; its option INFERENCE_PRECISION_HINT computes in "
            "bf16"
        )
    output = Path(output)
    model = load_model(
        model_folder, torch.device("cpu"), ModelOptions(operating_point=operating_point, tta=tta)
    )
    for path in _files(output, formats, members=len(model.networks)):
        claim_file(path, overwrite=overwrite)
    exported: list[Exported] = []
    # what may be refused comes before the graphs, which take minutes
    library_files = {}
    if "browser" in formats:
        library_files = read_libraries(None if libraries is None else Path(libraries))
    if "keras" in formats:
        exported += map(Exported, write_keras(model, output))
    if "onnx" in formats or "openvino" in formats:
        exported += _write_graphs(model, output, formats, standardizes=standardizes, precision=precision)
    if "browser" in formats:
        page = output / BROWSER
        write_page(model, page, library_files)
        exported += _write_graphs(model, page, ["onnx"], standardizes=True, precision="float32")
    if "bundle" in formats:
        write_bundle(model, output / BUNDLE)
        exported.append(Exported(output / BUNDLE))
    return exported


def _write_graphs(
    model: Model, folder: Path, formats: Collection[str], *, standardizes: bool, precision: ComputedPrecision
) -> list[Exported]:
    """Write a model as ONNX and, from that, for OpenVINO; a file whose probabilities differ is not kept."""
    original = InferenceGraph(model, standardizes=standardizes)
    graph = original
    if precision == "fp16":
        graph = InferenceGraph(model, standardizes=standardizes, dtype=torch.float16)
    onnx_file, openvino_file = folder / ONNX, folder / OPENVINO
    exported: list[Exported] = []

    def compare(path: Path, run: Run) -> None:
        difference = largest_difference(original, run, image_size=model.image_size)
        if not difference <= (limit := TOLERANCES[precision]):
            raise JobError(
                f"{path}: a probability differs by {difference:.1e} from the model's, more than {limit:.0e}; "
                "another version of the exporter's libraries may fit"
            )
        exported.append(Exported(path, difference))

    write_onnx(
        graph,
        onnx_file,
        metadata=describe(model, graph) | {"precision": precision},
        check=partial(compare, onnx_file),
        weights_in_bfloat16=precision == "bf16",
    )
    if "openvino" in formats:
        write_openvino(onnx_file, openvino_file, check=partial(compare, openvino_file))
    return exported


def _files(output: Path, formats: Collection[str], *, members: int) -> list[Path]:
    """List the main files of each format, which must not be there before."""
    files = {
        "onnx": [output / ONNX],
        "openvino": [output / ONNX, output / OPENVINO, (output / OPENVINO).with_suffix(".bin")],
        "browser": [output / BROWSER / PAGE, output / BROWSER / ONNX],
        "bundle": [output / BUNDLE / METADATA, output / BUNDLE / WEIGHTS],
        "keras": keras_files(output, members),
    }
    return [path for name in formats for path in files[name]]
