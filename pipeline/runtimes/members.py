"""Graphs of the members of a model: in float32 from the cache folder, in int8 from the model folder."""

import hashlib
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.core.config import RuntimeName
from pneumoseg.pipeline.core.devices import Precision
from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.core.files import sha256_of, to_json
from pneumoseg.pipeline.core.json_files import read_validated_json
from pneumoseg.pipeline.model.description import Member, ModelDescription
from pneumoseg.pipeline.runtimes.cache import cache_folder, versions
from pneumoseg.pipeline.runtimes.forward import Forward, make_forward
from pneumoseg.pipeline.runtimes.graph import write_graph

QUANTIZED: Final = "int8"
"""Folder of the quantised graphs in a model folder."""
RECORD: Final = "int8.json"
_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class QuantizedGraph(BaseModel):
    """Quantised graph of a member.

    Attributes:
        file: Name of the ONNX file.
        sha256: SHA-256 of the file.
        weights_sha256: SHA-256 of the weights that it was made from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,200}\.onnx$")]
    sha256: _Digest
    weights_sha256: _Digest


class QuantizationRecord(BaseModel):
    """Content of ``int8.json``.

    Attributes:
        graphs: A graph for each member of the model.
        manifest_sha256: SHA-256 of the manifest of the calibration.
        images: Number of images of the calibration.
        versions: Versions of the libraries.
        scores: Scores in float32 and in int8 on held-out images, by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    graphs: tuple[QuantizedGraph, ...]
    manifest_sha256: _Digest
    images: int
    versions: dict[str, str]
    scores: dict[str, dict[str, float | None]] = {}


def member_forward(
    folder: Path,
    description: ModelDescription,
    member: Member,
    network: AttentionUNet,
    *,
    runtime: RuntimeName,
    precision: Precision,
) -> Forward:
    """Prepare the forward pass of a member of a model.

    Args:
        folder: Model folder.
        description: Description of the model.
        member: Member.
        network: Network of the member, in evaluation mode on the device of *precision*.
        runtime: Name of the runtime.
        precision: Number format.

    Raises:
        UsageError: If an extra is not installed, or the model has no quantised graph.
        JobError: If the quantised graph does not belong to the weights, or is damaged.
    """
    graph = None
    if precision.name == "int8":
        graph = quantized_graph(folder, member)
    elif runtime in {"onnx", "openvino"}:
        graph = cached_graph(network, cache_key(member.sha256, description.network.model_dump(mode="json")))
    return make_forward(network, runtime, precision, graph=graph)


def cached_graph(network: AttentionUNet, key: str) -> Path:
    """Write the ONNX graph of a network into the cache folder, unless it is there.

    Args:
        network: Network, on any device.
        key: Hash of its configuration and weights: see `cache_key`.

    Returns: Path of the file.
    Raises: UsageError: If the extra ``onnx`` is not installed.
    """
    path = cache_folder() / "graphs" / f"{key}.onnx"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_graph(network, path)
    return path


def cache_key(*content: object) -> str:
    """Hash what an entry of the cache depends on, with the versions of the libraries.

    Args:
        content: Values that JSON takes.

    Returns: 32 hexadecimal digits.
    """
    return hashlib.sha256(to_json([content, versions()]).encode()).hexdigest()[:32]


def read_record(folder: Path) -> QuantizationRecord:
    """Read the record of a model's quantisation.

    Args:
        folder: Model folder.

    Raises:
        UsageError: If the model was not quantised.
        JobError: If the record is damaged.
    """
    path = folder / QUANTIZED / RECORD
    if not path.is_file():
        raise UsageError(
            f"--precision int8: {folder} has no quantised graphs; `pneumoseg quantize {folder} MANIFEST` makes them"
        )
    return read_validated_json(path, QuantizationRecord, advice="quantise the model again")


def quantized_graph(folder: Path, member: Member) -> Path:
    """Find the quantised graph of a member.

    Args:
        folder: Model folder.
        member: Member.

    Raises:
        UsageError: If the model was not quantised.
        JobError: If the graph was made from other weights, or is damaged.
    """
    graphs = read_record(folder).graphs
    graph = next((graph for graph in graphs if graph.weights_sha256 == member.sha256), None)
    if graph is None:
        raise JobError(f"{folder / QUANTIZED}: made from other weights; quantise the model again")
    path = folder / QUANTIZED / graph.file
    if not path.is_file() or sha256_of(path) != graph.sha256:
        raise JobError(f"{path}: missing or altered; quantise the model again")
    return path
