"""Processor time and bytes of each step from a radiograph to its results, for estimates of large collections.

    python -m benchmarks.costs FOLDER MODEL [--images 20] [--files 10000] [--manifest FILE]

One thread does one step for one image after the other; medians of the processor time, which says more on a shared
machine than the clock. What grows with the number of files (search, UIDs, receipts, tables) is measured on that many
made-up receipts, per 1,000.
"""

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import torch
from torch import Tensor

from benchmarks.folder_inference import write_untrained
from pneumoseg.pipeline.dataset.manifest import read_manifest
from pneumoseg.pipeline.inference.model import Model, load_model
from pneumoseg.pipeline.inference.passes import copies
from pneumoseg.pipeline.inference.segmentation import Segmentation, postprocess
from pneumoseg.pipeline.jobs.report import write_report
from pneumoseg.pipeline.reading.folders import find_radiographs, look_for_uids
from pneumoseg.pipeline.results.earlier import collect
from pneumoseg.pipeline.results.planning import Names, Planned
from pneumoseg.pipeline.results.receipts import History, Receipt, now, write_receipt
from pneumoseg.pipeline.results.rows import row_of
from pneumoseg.pipeline.results.settings import KINDS, Settings, algorithm_parameters, make_settings
from pneumoseg.pipeline.results.tables import write_tables
from pneumoseg.pipeline.results.writing import Writer
from pneumoseg.transforms.measurements import measure
from pneumoseg.transforms.network_input import network_input
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.radiograph import Radiograph, read_radiograph

_MIB = 2**20
_Result = TypeVar("_Result")
_ROUNDS = 3


def main() -> None:
    """Print all costs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="radiographs")
    parser.add_argument("model", type=Path, help="a trained model, so that masks are those of an application")
    parser.add_argument("--images", type=int, default=20, help="radiographs to measure")
    parser.add_argument("--files", type=int, default=10_000, help="receipts to measure the tables with")
    parser.add_argument("--manifest", type=Path, help="manifest of `prepare`, to measure how it is read")
    words = parser.parse_args()
    torch.set_num_threads(1)
    paths = find_radiographs(words.folder).images[: words.images]
    model = load_model(words.model, torch.device("cpu"))
    sizes = [path.stat().st_size for path in paths]
    print(f"{len(paths)} radiographs of {statistics.mean(sizes) / _MIB:.2f} MiB on average, one thread")
    radiographs = [read_radiograph(path) for path in paths]
    show("decode, check, hash", lambda index: read_radiograph(paths[index]), len(paths))
    show(
        f"network input at {model.image_size}",
        lambda index: network_input(radiographs[index], model.image_size),
        len(paths),
    )
    if words.manifest:
        cases = read_manifest(words.manifest).size
        per_thousand("reading the manifest", lambda: read_manifest(words.manifest), cases)
        print(f"manifest: {words.manifest.stat().st_size / cases * 1000 / _MIB:.2f} MiB per 1,000 cases")
    with TemporaryDirectory() as name:
        folder = Path(name)
        measure_networks(folder, model, radiographs)
        results = [segmented(model, each) for each in radiographs]
        receipt = measure_kinds(folder / "kinds", model, results)
        measure_files(folder / "files", model, receipt, words.files)


def show(what: str, work: Callable[[int], object], count: int) -> None:
    """Print the median processor time of a step.

    Args:
        what: Name of the step.
        work: Does the step for one image, by its index.
        count: Number of images.
    """
    spent = []
    for _ in range(_ROUNDS):
        for index in range(count):
            before = time.process_time()
            work(index)
            spent.append(time.process_time() - before)
    print(f"{what}: {1000 * statistics.median(spent):.2f} ms", flush=True)


def measure_networks(folder: Path, model: Model, radiographs: Sequence[Radiograph]) -> None:
    """Measure one forward pass of an image through the article's network, and the whole of the model."""
    for size in (256, 512):
        plain = load_model(write_untrained(folder / str(size), size, "float32"), torch.device("cpu"))
        show(f"article's network at {size}, float32, one pass", predicts(plain, radiographs), 4)
    passes = len(model.networks) * copies(model.tta)
    show(
        f"the given model at {model.image_size}, {model.precision.name}, {passes} passes",
        predicts(model, radiographs),
        4,
    )


def predicts(model: Model, radiographs: Sequence[Radiograph]) -> Callable[[int], object]:
    """Run a model on one prepared radiograph, by its index."""
    inputs = [network_input(each, model.image_size) for each in radiographs[:4]]
    return lambda index: model.predictor.predict_batch(*(tensor[None] for tensor in inputs[index]))


def segmented(model: Model, radiograph: Radiograph) -> Segmentation:
    """Segment a radiograph, with all that any kind of result needs."""
    image, content = network_input(radiograph, model.image_size)
    found = model.predictor.predict_batch(image[None], content[None], attention=True)
    (prediction,) = found.map(Tensor.cpu).images()
    return postprocess(model, radiograph, prediction)


def settings_of(model: Model, kinds: Sequence[str]) -> Settings:
    """Make the settings of a run."""
    return make_settings(kinds, acceptance=AcceptanceFilters(), research=False, batch_size=4, model=model)


def measure_kinds(folder: Path, model: Model, results: Sequence[Segmentation]) -> Receipt:
    """Measure each kind of result, and the receipt; returns the receipt of an image with all of them."""
    measured = [
        measure(
            each.mask,
            probability=each.probability,
            spacing_mm=each.radiograph.spacing_mm,
            is_calibrated=each.radiograph.is_calibrated,
            patient_orientation=each.radiograph.patient_orientation,
        )
        for each in results
    ]
    kinds = [kind for kind in KINDS if kind not in {"csv", "json", "uncertainty"}]
    for kind in kinds:
        writer = Writer(folder / kind, settings_of(model, [kind]), algorithm_parameters(model))

        def write(index: int, writer: Writer = writer) -> object:
            return writer.write(str(index), results[index], measured[index], History(now()))

        write(0)  # imports
        show(f"-t {kind}", write, len(results))
        print(f"-t {kind}: {kib_of(folder / kind, len(results)):.1f} KiB")
    writer = Writer(folder / "all", settings_of(model, kinds), algorithm_parameters(model))
    written = writer.write("0", results[0], measured[0], History(now()))
    receipt = Receipt(
        image="0.dcm",
        input_sha256="0" * 64,
        settings_sha256=writer.settings.sha256,
        row=row_of(results[0], "0", measured[0], written.left_out, research=False),
        outputs=written.outputs,
    )
    began = time.perf_counter()
    show("receipt", lambda index: write_receipt(folder, str(index), receipt), 100)
    clock = 1000 * (time.perf_counter() - began) / (100 * _ROUNDS)
    print(
        f"receipt by the clock, which waits for the disk: {clock:.2f} ms, {kib_of(folder / 'receipts', 100):.1f} KiB"
    )
    return receipt


def kib_of(folder: Path, count: int) -> float:
    """Size of all files in a folder, for each of *count* images; 0 before they are written."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1024 / count


def measure_files(folder: Path, model: Model, receipt: Receipt, count: int) -> None:
    """Measure what grows with the number of files, on small ones."""
    images = folder / "images"
    images.mkdir(parents=True)
    for index in range(count):
        (images / f"{index:07}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 200)
    found = per_thousand("search", lambda: find_radiographs(images).images, count)
    uids = per_thousand("UIDs", lambda: look_for_uids(found), count)

    def plan() -> list[Planned]:
        names = Names(images, research=False, max_bytes=_MIB)
        return [names.plan(path, uid) for path, uid in zip(found, uids, strict=True)]

    planned = per_thousand("names of the results", plan, count)
    output, settings = folder / "out", settings_of(model, ["csv", "json"])
    receipt = replace(receipt, settings_sha256=settings.sha256, outputs={})
    for file in planned:
        receipt.row["name"] = file.name
        write_receipt(output, file.name, replace(receipt, image=file.shown))
    own = {file.path for file in planned}
    receipts = per_thousand(
        "reading receipts once", lambda: collect(output, planned, settings, own=own), count
    )
    assert receipts is not None  # noqa: S101
    csv_only = settings_of(model, ["csv"])
    per_thousand("predictions.csv", lambda: write_tables(output, planned, receipts, csv_only, model), count)
    per_thousand("both tables", lambda: write_tables(output, planned, receipts, settings, model), count)
    per_thousand("report", lambda: write_report(output), count)
    for name in ("predictions.csv", "predictions.json", "report.html"):
        print(f"{name}: {(output / name).stat().st_size / count * 1000 / _MIB:.2f} MiB per 1,000 rows")


def per_thousand(what: str, work: Callable[[], _Result], count: int) -> _Result:
    """Print the processor time and the peak memory of a step per 1,000 files; returns its result."""
    before = time.process_time()
    work()
    spent = time.process_time() - before
    tracemalloc.start()
    result = work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(
        f"{what}: {1000 * spent / count * 1000:.0f} ms, {peak / _MIB / count * 1000:.2f} MiB per 1,000",
        flush=True,
    )
    return result


if __name__ == "__main__":
    main()
