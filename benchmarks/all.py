"""Run every benchmark that has a `measure` function, and write docs/benchmarks.json, docs/benchmarks.md and its plots.

    make bench BENCH_ARGS="--images FOLDER --model MODEL"
    python -m benchmarks.all --quick --output FOLDER

Each benchmark runs in a process of its own, so that one which fails or needs a library that is not installed costs its
own lines alone. The process ends with 1 if a line misses its limit.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.page import write_page

HERE = Path(__file__).parent
LIBRARIES = ("torch", "monai", "numpy", "pydicom", "pycocotools", "keras", "onnxruntime", "openvino")
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")


def main() -> None:
    """Run all, print the lines as they come, and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds, to see that everything runs")
    parser.add_argument("--images", type=Path, help="folder of radiographs; phantoms if left out")
    parser.add_argument("--model", type=Path, help="folder of a trained model")
    parser.add_argument("--output", type=Path, default=HERE.parent / "docs", help="folder of page and plots")
    words = parser.parse_args()
    options = ["--quick"] * words.quick
    for name, path in (("images", words.images), ("model", words.model)):
        if path is not None:
            options += [f"--{name}", str(path)]
    lines = {name: run_benchmark(name, options) for name in benchmarks()}
    results = {
        "machine": describe_machine(),
        "quick": words.quick,
        "lines": lines,
        "scaling": run_benchmark("scaling", ["--quick"] * words.quick),
    }
    words.output.mkdir(parents=True, exist_ok=True)
    (words.output / "benchmarks.json").write_text(json.dumps(results, indent=2) + "\n")
    write_page(words.output / "benchmarks.json")
    missed = [line["name"] for each in lines.values() for line in each if line["passed"] is False]
    print(f"missed: {len(missed)}" + "".join(f"\n  {name}" for name in missed))
    sys.exit(bool(missed) and not words.quick)


def benchmarks() -> list[str]:
    """Find the modules of this folder that have a function `measure`."""
    return sorted(
        path.stem for path in HERE.glob("*.py") if "\ndef measure(setting: Setting)" in path.read_text()
    )


def run_benchmark(name: str, options: list[str]) -> list[dict[str, Any]]:
    """Run a benchmark in a process of its own.

    Args:
        name: Module of this folder.
        options: Options of its command line.

    Returns: Its results; a line without numbers if it fails.
    """
    print(f"# {name}", flush=True)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "results.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", *options, "--json", str(path)]
        ended = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
        if path.is_file():
            return list(json.loads(path.read_text()))
    why = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
    print(f"{name}: {why}", flush=True)
    return [{"name": name, "ratio": None, "limit": None, "fraction": None, "passed": None, "note": why}]


def describe_machine() -> dict[str, Any]:
    """Describe processor and libraries, without a name of the machine."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    entries = {key.strip(): value.strip() for key, value in fields.items()}
    flags = set(entries.get("flags", "").split())
    return {
        "processor": entries.get("model name", platform.machine()),
        "cores": os.cpu_count(),
        "instructions": [flag for flag in FLAGS if flag in flags],
        "python": platform.python_version(),
        "libraries": {name: found for name in LIBRARIES if (found := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
