"""Time and peak memory as the work grows: images in a folder, size of the image, threads, and batch.

    python -m benchmarks.scaling [--quick] [--json FILE]

Each point is a process of its own, so that its peak memory is that of the point alone.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pydicom.uid import UID

SERIES = {
    "images": (100, 1_000, 10_000),
    "size": (256, 512, 1024, 2048),
    "threads": (1, 2, 4, 8, 16),
    "batch": (1, 2, 4, 8),
}
QUICK = {"images": (20, 40), "size": (64, 128), "threads": (1, 2), "batch": (1, 2)}
SMALL_PX = 64


@dataclass(frozen=True, slots=True)
class Point:
    """Cost of one amount of work.

    Attributes:
        series: What grows: ``images``, ``size``, ``threads`` or ``batch``.
        value: Number of images, side in pixels, number of threads, or images per batch.
        seconds: Time of predicting the folder, or of one forward pass.
        processor_s: Processor time of the process and of those that it started, with its start.
        peak_mib: Highest memory of the process, with its libraries.
    """

    series: str
    value: int
    seconds: float
    processor_s: float
    peak_mib: float


def measure_all(*, quick: bool) -> list[Point]:
    """Measure all series; threads up to the number of cores.

    Args:
        quick: Few small points, to see that everything runs.
    """
    series = QUICK if quick else SERIES
    return [
        _in_a_process(name, value)
        for name, values in series.items()
        for value in values
        if name != "threads" or value <= (os.cpu_count() or 1)
    ]


def measure_point(series: str, value: int) -> Point:
    """Measure one point in this process.

    Args:
        series: What grows.
        value: How far.
    """
    seconds = _predict(value) if series == "images" else _forward(**{"size": 512, series: value})
    in_mib = 2**20 if sys.platform == "darwin" else 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Point(series, value, seconds, sum(os.times()[:4]), peak / in_mib)


def _in_a_process(series: str, value: int) -> Point:
    command = [sys.executable, "-m", "benchmarks.scaling", "--point", series, str(value)]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Point(**json.loads(found.splitlines()[-1]))


def _predict(images: int) -> float:
    """Measure the prediction of a folder of copies of one small phantom with a tiny network."""
    import torch  # noqa: PLC0415  (the process that only starts the others does without)
    from pydicom import dcmread  # noqa: PLC0415

    from benchmarks.folder_inference import write_untrained  # noqa: PLC0415
    from pneumoseg.pipeline.core.console import console  # noqa: PLC0415
    from pneumoseg.pipeline.core.runtime import Runtime  # noqa: PLC0415
    from pneumoseg.pipeline.jobs.predict import predict_folder  # noqa: PLC0415
    from pneumoseg.pipeline.phantom.dicom_files import write_dicom  # noqa: PLC0415
    from pneumoseg.pipeline.phantom.rendering import render_phantom  # noqa: PLC0415

    console.quiet = True
    torch.set_num_threads(1)
    with TemporaryDirectory() as name:
        folder = Path(name) / "images"
        dataset = dcmread(write_dicom(render_phantom(0, size=128), folder, name="a", encoding="native8"))
        for index in range(1, images):
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.3.{index}")
            pixels = bytearray(dataset.PixelData)
            pixels[index % len(pixels)] ^= 1 + index // len(pixels)  # equal images would be analysed once
            dataset.PixelData = bytes(pixels)
            dataset.save_as(folder / f"{index}.dcm")
        model = write_untrained(Path(name) / "model", SMALL_PX, "float32")
        started = time.perf_counter()
        predict_folder(model, folder, Path(name) / "results", kinds=["csv"], runtime=Runtime(workers=1))
        return time.perf_counter() - started


def _forward(*, size: int, threads: int | None = None, batch: int = 1) -> float:
    """Measure one forward pass of the article's network in eager float32, the fastest of three."""
    import torch  # noqa: PLC0415

    from pneumoseg.models import AttentionUNet  # noqa: PLC0415

    torch.set_num_threads(threads or os.cpu_count() or 1)
    network = AttentionUNet().eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.rand(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    seconds = []
    with torch.inference_mode():
        for _ in range(4):
            started = time.perf_counter()
            network(images)
            seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


def main() -> None:
    """Print all points, or measure one for the process that asked for it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few small points, to see that it runs")
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--point", nargs=2, metavar=("SERIES", "VALUE"), help="measure one in this process")
    words = parser.parse_args()
    if words.point:
        print(json.dumps(asdict(measure_point(words.point[0], int(words.point[1])))))
        return
    points = measure_all(quick=words.quick)
    for point in points:
        print(
            f"{point.series} {point.value}: {point.seconds:.3g} s, processor {point.processor_s:.3g} s, "
            f"{point.peak_mib:.0f} MiB"
        )
    if words.json:
        words.json.write_text(json.dumps([asdict(point) for point in points], indent=2) + "\n")


if __name__ == "__main__":
    main()
