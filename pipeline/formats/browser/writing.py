"""Writer of the browser page: its own files, the model, and the libraries."""

from collections.abc import Mapping
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Final

from pneumoseg.pipeline.core.files import write_json, written_atomically
from pneumoseg.pipeline.inference.model import Model

PAGE: Final = "index.html"


def write_page(model: Model, folder: Path, libraries: Mapping[str, bytes]) -> None:
    """Write the page; the ONNX file is written beside it by `write_onnx`.

    Args:
        model: Model that the page runs.
        folder: Folder of the page; files in it are replaced.
        libraries: Content of each library file by its path in the folder, as `read_libraries` returns it.
    """
    page = files("pneumoseg.pipeline.formats.browser") / "page"
    own = {file.name: file.read_bytes() for file in page.iterdir()}
    for name, content in {**libraries, **own}.items():
        with written_atomically(folder / name) as temporary:
            temporary.write_bytes(content)
    point = asdict(model.operating_point)
    write_json(folder / "model.json", {"image_size": model.image_size, "operating_point": point})
