"""Time of `pneumoseg check` relative to bare pydicom and Pillow with the same SHA-256, in one process.

    python benchmarks/checking.py FOLDER [--rounds 5]

The sides alternate in one process and their medians are compared, since machines are noisy: compare the ratios, not the
times. `check` includes the start of its workers, the search of the folder and the table; the bare side is a loop over
given paths.
"""

import argparse
import hashlib
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pydicom
from pydicom.pixels.decoders.base import get_decoder

from pneumoseg.pipeline.jobs.check import check_folder
from pneumoseg.pipeline.reading.folders import find_radiographs

MAX_ONE_WORKER, MAX_TWO_WORKERS = 1.3, 1.0


def main() -> None:
    """Print the times of all sides, and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="DICOM files in JPEG Baseline, as the challenge has them")
    parser.add_argument("--rounds", type=int, default=5)
    words = parser.parse_args()
    paths = find_radiographs(words.folder).images
    print(f"{len(paths)} files, {sum(path.stat().st_size for path in paths) / 1e6:.0f} MB")
    with TemporaryDirectory() as name:
        table = Path(name) / "check.csv"

        def check(workers: int) -> None:
            check_folder(words.folder, table, workers=workers, overwrite=True)

        seconds = take_turns(
            {
                "pydicom + pillow": lambda: read_bare(paths),
                "check, 1 worker": lambda: check(1),
                "check, 2 workers": lambda: check(2),
            },
            rounds=words.rounds,
        )
    bare = seconds["pydicom + pillow"]
    for name, limit in (("check, 1 worker", MAX_ONE_WORKER), ("check, 2 workers", MAX_TWO_WORKERS)):
        ratios = [ours / theirs for ours, theirs in zip(seconds[name], bare, strict=True)]
        print(f"{name}: ratio {statistics.median(ratios):.3f}, limit {limit:.2f}")


def read_bare(paths: Sequence[Path]) -> list[str]:
    """Decode files with the fastest decoder and hash the pixels, without any check.

    Args:
        paths: Paths of DICOM files.

    Returns: SHA-256 of the pixels of each file.
    """
    hashes = []
    for path in paths:
        dataset = pydicom.dcmread(path)
        decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
        pixels, _ = decoder.as_array(dataset, decoding_plugin="pillow")
        hashes.append(hashlib.sha256(pixels.data).hexdigest())
    return hashes


def take_turns(sides: dict[str, Callable[[], object]], *, rounds: int) -> dict[str, list[float]]:
    """Measure the seconds of each side in each round, after one unmeasured round.

    Args:
        sides: Functions to measure, by name.
        rounds: Number of measured rounds.

    Returns: Seconds of each round by name.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, work in sides.items():
            started = time.perf_counter()
            work()
            if number:
                seconds[name].append(time.perf_counter() - started)
    for name, times in seconds.items():
        print(f"{name}: {statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})")
    return seconds


if __name__ == "__main__":
    main()
