"""Weights of the Keras article's network: import from a model in memory or from a file, and export to a file.

Files hold arrays only, for which h5py suffices: Keras is not needed, and the configuration in a ``.keras`` archive,
whose Lambda layers contain code, is never opened.
"""

import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

MEMBER = "model.weights.h5"  # of a .keras archive
EXTRA_BYTES = 2**24  # names, attributes and alignment of an HDF5 file
VARIABLE = re.compile(r"(?:layers|_layer_checkpoint_dependencies)/([^/]+)/vars/(\d+)")


class KerasWeightsError(ValueError):
    """Error of a source that has no weights, or those of another network."""


@dataclass(frozen=True)
class KerasLayer:
    """Keras layer with its weights; a convolution has a kernel (rows, columns, in, out) and a bias (out)."""

    name: str
    arrays: list[Any]  # of numpy, or h5py data sets, which are read once their shapes fit

    def __str__(self) -> str:
        return f"{self.name} ({_sizes(array.shape for array in self.arrays)})"


def load_keras_weights(network: nn.Module, source: Any) -> None:
    """Copy the weights of the article's Keras network into *network*.

    Keras stores kernels in the same layout for both of its data formats, so the model may be channels first or last.
    Layers are matched by their order and their shapes; their connections are not checked.

    Args:
        network: `AttentionUNet` with the same channels, classes and features. It is changed only if all layers match.
        source: Keras model, or the path of a saved one: ``.keras``, ``.weights.h5``, or the older ``.h5`` with a whole
            model or with its weights.

    Raises:
        KerasWeightsError: If the source cannot be read, or a layer does not match; the first such layer is named.
        ImportError: If a file is given and h5py is not installed.
    """
    if getattr(network, "encoder", None) is not None:
        raise KerasWeightsError(
            "the network has a pretrained encoder, which the article's has not; AttentionUNet() without one would fit"
        )
    if isinstance(source, str | PathLike):
        with _opened(Path(source), max_bytes=_largest_file(network)) as file:
            values = _fitting(network, _layers_of_file(file))
    elif hasattr(source, "layers"):
        layers = [KerasLayer(layer.name, layer.get_weights()) for layer in source.layers]
        values = _fitting(network, [layer for layer in layers if layer.arrays])
    else:
        raise KerasWeightsError(f"a {type(source).__name__} is neither a Keras model nor the path of a file")
    with torch.no_grad():
        for parameter, value in values:
            parameter.copy_(value)


def save_keras_weights(network: nn.Module, path: str | PathLike[str]) -> None:
    """Write the weights of a network for the article's Keras network, in the order of its published table of layers.

    ``model.load_weights(path)`` of Keras 3 reads a file named ``.weights.h5``, and that of Keras 2 reads the same file
    under any name that ends in ``.h5``. The file takes no more space for that: the older format names the same arrays.

    Args:
        network: `AttentionUNet` of the article: without encoder, normalization and image head. The heads of deep
            supervision, which the article's network has not, are left out.
        path: Path of the file.

    Raises:
        KerasWeightsError: If the network is another than the article's.
        ImportError: If h5py is not installed.
    """
    convolutions, h5py = _article_convolutions(network), _h5py()
    names = [f"layers/conv2d{f'_{index}' if index else ''}" for index in range(len(convolutions))]
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in names]
        for name, convolution in zip(names, convolutions, strict=True):
            group = file.create_group(name)
            group.attrs["weight_names"] = [b"vars/0", b"vars/1"]
            bias = cast("Tensor", convolution.bias)  # the article's convolutions all have one
            for index, parameter in enumerate((convolution.weight.permute(2, 3, 1, 0), bias)):
                group[f"vars/{index}"] = parameter.detach().cpu().contiguous().numpy()


def _article_convolutions(network: nn.Module) -> list[nn.Conv2d]:
    """List the convolutions of the article's network; a network that has anything else is refused."""
    layers = {
        name: layer
        for name, layer in network.named_modules()
        if next(layer.parameters(recurse=False), None) is not None and not name.startswith("deep_heads.")
    }
    convolutions = [
        layer for layer in layers.values() if isinstance(layer, nn.Conv2d) and layer.bias is not None
    ]
    if len(convolutions) < len(layers) or getattr(network, "encoder", None) is not None:
        found = next((name for name, layer in layers.items() if layer not in convolutions), "encoder")
        raise KerasWeightsError(
            f"the network has a layer {found}, which the article's has not; a model without encoder, normalization "
            "and image head would fit"
        )
    return convolutions


def _h5py() -> Any:
    try:
        import h5py  # noqa: PLC0415  (needed here alone, and not by those who never saw Keras)
    except ImportError as error:
        raise ImportError("files of Keras weights need h5py: pip install h5py", name="h5py") from error
    return h5py


def _fitting(network: nn.Module, layers: list[KerasLayer]) -> list[tuple[Tensor, Tensor]]:
    """Pair every parameter of the network with its new value.

    Keras orders layers by their distance from the output, which is the order of the figure and of these modules. Only
    the two convolutions that meet in a gate have the same distance, and their order may vary: the matching layer is the
    next, or the next but one.
    """
    pairs: list[tuple[Tensor, Tensor]] = []
    waiting = list(layers)
    for name, convolution in network.named_modules():
        if not isinstance(convolution, nn.Conv2d) or convolution.bias is None:
            continue
        wanted = [convolution.weight.permute(2, 3, 1, 0).shape, convolution.bias.shape]
        fitting = [layer for layer in waiting[:2] if [array.shape for array in layer.arrays] == wanted]
        if not fitting:
            found = f"layer {waiting[0]} stands" if waiting else "nothing is left"
            raise KerasWeightsError(
                f"{found} where {name} needs {_sizes(wanted)}; is it the article's network, with the same "
                "channels, features and classes?"
            )
        waiting.remove(fitting[0])
        kernel, bias = (_read(fitting[0].name, array) for array in fitting[0].arrays)
        pairs += [(convolution.weight, kernel.permute(3, 2, 0, 1)), (convolution.bias, bias)]
    if waiting:
        raise KerasWeightsError(f"layer {waiting[0]} is left over: the article's network ends before it")
    return pairs


def _read(layer: str, array: Any) -> Tensor:
    """Read the numbers of an array or a data set, and refuse values that training cannot produce."""
    if array.dtype.kind != "f":
        raise KerasWeightsError(
            f"layer {layer} holds values of type {array.dtype}; floating-point weights are needed"
        )
    numbers = torch.from_numpy(np.array(array, dtype=np.float32))
    if not numbers.isfinite().all():
        raise KerasWeightsError(f"layer {layer} holds values that are not finite: the training went wrong")
    return numbers


@contextmanager
def _opened(path: Path, *, max_bytes: int) -> Iterator[Any]:
    """Open an HDF5 file, or the one that a ``.keras`` archive contains, of at most *max_bytes*."""
    h5py = _h5py()
    if not path.is_file():
        raise KerasWeightsError(f"{path} is not a file; give a .keras, .weights.h5 or .h5 file")
    try:
        with h5py.File(_unpacked(path, max_bytes) if zipfile.is_zipfile(path) else path, "r") as file:
            yield file
    except KerasWeightsError as error:
        raise KerasWeightsError(f"{path.name}: {error}") from error
    except Exception as error:  # over a damaged file, h5py and zipfile raise nearly anything
        reason = " ".join(str(error).split())
        raise KerasWeightsError(
            f"{path.name} is not a Keras weights file, or is damaged: {reason}"
        ) from error


def _unpacked(archive_path: Path, max_bytes: int) -> BytesIO:
    with zipfile.ZipFile(archive_path) as archive:
        # before it is read: zeros take no space in an archive
        if archive.getinfo(MEMBER).file_size > max_bytes:
            raise KerasWeightsError(
                f"{MEMBER} has more than the {max_bytes:,} bytes of the article's network"
            )
        return BytesIO(archive.read(MEMBER))


def _largest_file(network: nn.Module) -> int:
    """Size of a file with the weights and the two moments of their optimizer, in double precision."""
    return EXTRA_BYTES + 3 * 8 * sum(parameter.numel() for parameter in network.parameters())


def _layers_of_file(file: Any) -> list[KerasLayer]:
    """List the layers with weights in the order of the Keras model."""
    arrays: dict[str, list[Any]] = {}
    old = file.get("model_weights", file)
    if "layer_names" in old.attrs:  # HDF5 as before Keras 3: the order is written down
        for name in map(_str, old.attrs["layer_names"]):
            weight_names = map(_str, old[name].attrs["weight_names"])
            arrays[name] = [_data_set(old, f"{name}/{weight}") for weight in weight_names]
    else:  # layers are numbered within their class: conv2d, conv2d_1, ..., conv2d_10
        names: list[str] = []
        file.visit(names.append)
        for name in sorted(names, key=_by_number):
            if match := VARIABLE.fullmatch(name):
                arrays.setdefault(match[1], []).append(_data_set(file, name))
    return [KerasLayer(name, found) for name, found in arrays.items() if found]


def _data_set(group: Any, name: str) -> Any:
    """Find a data set; one that would make HDF5 open another file is refused."""
    data_set = group[name]
    if data_set.external or data_set.is_virtual or data_set.file.filename != group.file.filename:
        raise KerasWeightsError(f"{name} is kept in another file, which is not followed")
    return data_set


def _by_number(name: str) -> list[tuple[int, str]]:
    """Sort key under which conv2d_2 comes before conv2d_10."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def _str(text: str | bytes) -> str:
    return text.decode() if isinstance(text, bytes) else text


def _sizes(shapes: Iterable[Sequence[int]]) -> str:
    return " and ".join("×".join(map(str, shape)) for shape in shapes)
