"""Writer of the browser page: its own files, the model, and the libraries."""

from collections.abc import Mapping
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Final

from pneumoseg.pipeline.core.files import write_json, written_atomically
from pneumoseg.pipeline.inference.model import Model
from pneumoseg.transforms.measurements import LOOKS
from pneumoseg.transforms.reader import quality
from pneumoseg.transforms.reader.reasons import REVIEW_REASONS

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
    for name, data in {**libraries, **own}.items():
        with written_atomically(folder / name) as temporary:
            temporary.write_bytes(data)
    content = {
        "image_size": model.image_size,
        "operating_point": asdict(model.operating_point),
        "quality": {
            "template": quality.read_template().tolist(),
            "disk": quality.DISK.ravel().tolist(),
            "tilted_templates": quality.tilted_templates(quality.read_template().tobytes()).tolist(),
            "least_side_px": quality.LEAST_SIDE_PX,
            "least_field_mm": quality.LEAST_FIELD_MM,
            "most_elongated": quality.MOST_ELONGATED,
            "least_likeness": quality.LEAST_LIKENESS,
            "least_gain": quality.LEAST_GAIN,
            "least_tilt_gain": quality.LEAST_TILT_GAIN,
            "least_contrast": quality.LEAST_CONTRAST,
            "least_fill": quality.LEAST_FILL,
            "most_white": quality.MOST_WHITE,
            "most_black": quality.MOST_BLACK,
            "most_empty_end": quality.MOST_EMPTY_END,
            "most_noise": quality.MOST_NOISE,
            "noise_side": quality.NOISE_SIDE,
            "largest_pixel_mm": quality.LARGEST_PIXEL_MM,
            "detector_mm": quality.DETECTOR_MM,
            "blank_contrast": quality.BLANK_CONTRAST,
            "black": quality.BLACK,
            "white": quality.WHITE,
            "lit_share": quality.LIT_SHARE,
            "looks": {reason.name: words for reason, words in LOOKS.items() if reason in REVIEW_REASONS},
        },
    }
    write_json(folder / "model.json", content)
