"""Time of starting commands: help, doctor, and the prediction of one file, each in a process of its own.

    python -m benchmarks.start_up [--quick] [--images FOLDER] [--model MODEL] [--json FILE]

The limits are seconds on two quiet cores, and the ratio is the limit divided by the time: at least 1 is required.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.comparison import Comparison, Setting, run, take_turns
from benchmarks.folder_inference import write_untrained
from pneumoseg.pipeline.phantom.dicom_files import write_dicom
from pneumoseg.pipeline.phantom.rendering import render_phantom
from pneumoseg.pipeline.reading.folders import find_radiographs

LIMITS_S = {"--help": 0.7, "doctor": 5.0, "predict one file": 6.0}


def measure(setting: Setting) -> list[Comparison]:
    """Compare the time of each command with its limit.

    Args:
        setting: Number of rounds; the first of the images and the model, or a phantom and an untrained network.
    """
    with TemporaryDirectory() as name:
        images = Path(name) / "images"
        images.mkdir()
        if setting.images is None:
            write_dicom(render_phantom(0, size=256), images, name="a", encoding="jpeg")
        else:
            shutil.copy(find_radiographs(setting.images).images[0], images)
        model = setting.model or write_untrained(Path(name) / "model", 512, "float32")
        output = Path(name) / "results"
        commands = {
            "--help": ["--help"],
            "doctor": ["doctor"],
            "predict one file": ["predict", str(model), str(images), "-o", str(output), "--overwrite"],
        }
        turns = take_turns(
            {each: _start(words) for each, words in commands.items()}, rounds=setting.rounds(5), sample_s=0
        )
    return [
        Comparison(f"start: {each}", turns[each].seconds, limit_s, 1.0, quiet=turns[each].quiet)
        for each, limit_s in LIMITS_S.items()
    ]


def _start(words: list[str]) -> Callable[[], object]:
    return lambda: subprocess.run(
        [sys.executable, "-m", "pneumoseg.pipeline", *words], check=True, stdout=subprocess.DEVNULL
    )


if __name__ == "__main__":
    run(measure, __doc__)
