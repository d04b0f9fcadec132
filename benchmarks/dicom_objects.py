"""Errors that dciodvfy (Debian package dicom3tools) finds in the DICOM results of a folder of radiographs.

    python benchmarks/dicom_objects.py MODEL FOLDER [-o OUTPUT]

Every radiograph is segmented and all kinds of DICOM objects are written. An error counts as one of the source if
dciodvfy says the same of the radiograph itself. The exit status is 1 if an object has an error of its own, or is
missing.
"""

import argparse
import re
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.jobs.predict import predict_folder
from pneumoseg.pipeline.reading.folders import find_radiographs, look_for_uids
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters

KINDS = ("seg", "sr", "sc", "gsps")
ANYTHING = AcceptanceFilters(any_modality=True, any_view=True, any_body_part=True)
_VALUE = re.compile(r" = <.*?>(?= - |$)")


def main() -> int:
    """Print the numbers of objects and of their errors and warnings."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="any model: a small one is fast, and as good")
    parser.add_argument("folder", type=Path, help="radiographs")
    parser.add_argument("-o", "--output", type=Path, help="folder to keep the objects in")
    words = parser.parse_args()
    with TemporaryDirectory() as temporary:
        output = words.output or Path(temporary) / "out"
        report = predict_folder(
            words.model, words.folder, output, kinds=KINDS, acceptance=ANYTHING, runtime=Runtime(device="cpu")
        )
        print(f"{report.segmented} radiographs segmented, {report.predicted_positive} predicted positive")
        if report.left_out:
            print(f"left out: {dict(report.left_out)}")
        return judge(words.folder, output, images=report.segmented)


def judge(folder: Path, output: Path, *, images: int) -> int:
    """Run dciodvfy on all radiographs and all objects, and print what it says.

    Args:
        folder: Folder of the radiographs.
        output: Folder of their results.
        images: Number of objects of each kind that there should be.

    Returns: Exit status.
    """
    files = find_radiographs(folder).images
    sources = {uid: path for uid, path in zip(look_for_uids(files), files, strict=True) if uid}
    failed = False
    with ThreadPoolExecutor(2) as pool:
        of_source = dict(zip(sources, pool.map(complaints, sources.values()), strict=True))
        for kind in KINDS:
            paths = sorted((output / kind).glob("*.dcm"))
            own: Counter[str] = Counter()
            inherited: Counter[str] = Counter()
            warnings: Counter[str] = Counter()
            bad = 0
            for path, said in zip(paths, pool.map(complaints, paths), strict=True):
                errors = {line for line in said if line.startswith("Error")}
                known = of_source.get(path.stem, set())
                own.update(errors - known)
                inherited.update(errors & known)
                warnings.update(line for line in said if line.startswith("Warning"))
                bad += bool(errors - known)
            failed |= bool(bad) or len(paths) != images
            print(f"\n{kind}: {len(paths)} objects, {bad} with errors of their own")
            for title, counted in (("error", own), ("error of the source", inherited), ("warning", warnings)):
                for line, count in counted.most_common():
                    print(f"{count:6} {title}: {line.partition(' - ')[2]}")
    return int(failed)


def complaints(path: Path) -> set[str]:
    """List the errors and warnings of dciodvfy about a file, without the values that they quote."""
    told = subprocess.run(
        ["dciodvfy", "-new", str(path)],  # noqa: S607
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    lines = told.stdout.decode("utf-8", errors="replace").splitlines()
    return {_VALUE.sub("", line) for line in lines if line.startswith(("Error", "Warning"))}


if __name__ == "__main__":
    sys.exit(main())
