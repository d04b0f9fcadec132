"""A target for atheris: any bytes give a radiograph or its reason, and nothing else. See the README beside this."""

import importlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

atheris: Any = importlib.import_module("atheris")  # not among the test requirements: it comes for few systems

with atheris.instrument_imports(include=["pneumoseg", "pydicom"]):
    from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
    from pneumoseg.transforms.reader.radiograph import RadiographError, read_radiograph

ACCEPTANCE = AcceptanceFilters(
    any_modality=True, any_view=True, any_body_part=True, max_pixels=2**20, max_bytes=2**20
)
DESCRIPTOR, NAME = tempfile.mkstemp(prefix="pneumoseg-fuzz-")


def test_one_input(data: bytes) -> None:
    """Read *data*; atheris reports whatever is raised here, and every death of the process."""
    os.ftruncate(DESCRIPTOR, 0)
    os.pwrite(DESCRIPTOR, data, 0)
    try:
        radiograph = read_radiograph(NAME, acceptance=ACCEPTANCE)
    except RadiographError as error:
        if "unexpected" in error.detail or not str(error).isprintable():
            raise AssertionError(str(error)) from error
        return
    image = radiograph.image
    if not ((image >= 0) & (image <= 1)).all():
        raise AssertionError("a grey level is not between black and white")


def write_seeds(folder: Path) -> None:
    """Write one valid file of each encoding, to begin from."""
    sys.path.insert(0, str(Path(__file__).parent))
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in importlib.import_module("mutations").seeds().items():
        (folder / name.replace(" ", "_").replace("/", "_")).write_bytes(data)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write-seeds"]:
        write_seeds(Path(sys.argv[2]))
    else:
        atheris.Setup(sys.argv, test_one_input)
        atheris.Fuzz()
