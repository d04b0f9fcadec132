"""Time of `pneumoseg predict` relative to decoding alone and the network alone, on the same files, in one process.

    python benchmarks/folder_inference.py FOLDER [--model MODEL] [--images 200] [--rounds 3] [--threads 1]

The sides alternate in one process and their medians are compared, since machines are noisy: compare the ratio, not the
times. Prediction runs end to end: it loads the model, searches the folder, hashes each file, and writes a receipt for
each image, and the table. The network alone gets the batches of prediction, ready in memory. On a shared machine,
processor time is more reliable than the clock, since overlapping needs an idle core.
"""

import argparse
import os
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.core.config import ComputedPrecision, NetworkConfig
from pneumoseg.pipeline.core.console import console
from pneumoseg.pipeline.core.devices import resolve_device, resolve_precision
from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.inference.model import Model, load_model
from pneumoseg.pipeline.jobs.predict import predict_folder
from pneumoseg.pipeline.model.card import save_description
from pneumoseg.pipeline.model.description import ModelDescription, Preprocessing, Training, TunedPoint
from pneumoseg.pipeline.model.weights import save_weights
from pneumoseg.pipeline.reading.folders import find_radiographs
from pneumoseg.pipeline.reading.readers import Readers
from pneumoseg.transforms.chains import inference_chain
from pneumoseg.transforms.reader.radiograph import read_radiograph
from pneumoseg.transforms.reader.reasons import RadiographError

MAX_RATIO = 1.15


def main() -> None:
    """Print the times of all sides, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--model", type=Path, help="an untrained network of the article's at --size if left out"
    )
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--types", default="csv", help="as -t of predict")
    words = parser.parse_args()
    console.quiet = True  # progress is none of the results
    if words.threads:
        torch.set_num_threads(words.threads)
    device = resolve_device(words.device)
    with TemporaryDirectory() as name:
        images = Path(name) / "images"
        images.mkdir()
        for number, path in enumerate(find_radiographs(words.folder).images[: words.images]):
            shutil.copy(path, images / f"{number:05d}{path.suffix}")
        paths = find_radiographs(images).images
        folder = words.model or write_untrained(
            Path(name) / "model", words.size, resolve_precision("auto", device).name
        )
        model = load_model(folder, device)
        batches = make_batches(model, paths, words.batch)
        print(
            f"{len(paths)} images at {model.image_size} px, batches of {words.batch}, {device}, "
            f"{model.precision.name}, "
            f"{torch.get_num_threads()} threads, {words.workers} workers, -t {words.types}"
        )

        def predict() -> None:
            with TemporaryDirectory(dir=name) as output:
                predict_folder(
                    folder,
                    images,
                    Path(output) / "out",
                    runtime=Runtime(device=words.device, batch_size=words.batch, workers=words.workers),
                    kinds=words.types.split(","),
                )

        turns = take_turns(
            {
                "decoding": lambda: decode(paths, words.workers),
                "network": lambda: compute(model, batches),
                "predict": predict,
            },
            rounds=words.rounds,
        )
    ratios = [
        whole.seconds / max(decoding.seconds, network.seconds)
        for decoding, network, whole in zip(*turns.values(), strict=True)
    ]
    print(f"predict / the slower of the two: ratio {statistics.median(ratios):.3f}, limit {MAX_RATIO:.2f}")
    shares = [
        whole.processor_s / (decoding.processor_s + network.processor_s)
        for decoding, network, whole in zip(*turns.values(), strict=True)
    ]
    print(f"processor time of predict / that of both: ratio {statistics.median(shares):.3f}")


def write_untrained(folder: Path, size: int, precision: ComputedPrecision) -> Path:
    """Write a model folder of the article's network with initial weights, since the time does not depend on them.

    Args:
        folder: Model folder to write.
        size: Side of the network's square input in pixels.
        precision: Number format of the network.
    """
    torch.manual_seed(0)
    description = ModelDescription(
        network=NetworkConfig(),
        preprocessing=Preprocessing(image_size=size),
        operating_point=TunedPoint(threshold=0.5, min_area_fraction=0.001),
        members=(save_weights(folder, AttentionUNet(), fold=0),),
        trained_on=Training(
            manifest="nothing",
            manifest_sha256="0" * 64,
            cases=0,
            positive=0,
            image_digests=(),
            grouped_by="nothing",
        ),
        precision=precision,
        validation={},
        versions={},
    )
    save_description(folder, description)
    return folder


def make_batches(model: Model, paths: Sequence[Path], size: int) -> list[torch.Tensor]:
    """Make the batches of the network, the last one padded as in prediction.

    Args:
        model: Model whose preprocessing is used.
        paths: Paths of the radiographs.
        size: Images per batch.
    """
    chain = inference_chain(image_size=model.image_size)
    images = torch.stack([chain({"image": path})["image"] for path in paths])
    padding = images.new_zeros((-len(images) % size, *images.shape[1:]))
    return list(torch.cat([images, padding]).split(size))  # type: ignore[no-untyped-call]


def decode(paths: Sequence[Path], workers: int) -> None:
    """Read all files as prediction does, and discard them.

    Args:
        paths: Paths of the radiographs.
        workers: Number of decoding processes.
    """
    with Readers(read_radiograph, workers=workers) as readers:
        for read in readers.read(paths):
            if isinstance(read, RadiographError):
                raise read


def compute(model: Model, batches: Sequence[torch.Tensor]) -> None:
    """Run the network on all batches, and discard its predictions.

    Args:
        model: Model to run.
        batches: Batches of images.
    """
    for batch in batches:
        model.predictor.predict_batch(batch)
    if model.precision.device.type == "cuda":
        torch.cuda.synchronize(model.precision.device)


@dataclass(frozen=True)
class Turn:
    """What one round of a side took.

    Attributes:
        seconds: On the clock.
        processor_s: Of all threads, and of processes that have ended.
    """

    seconds: float
    processor_s: float


def take_turns(sides: dict[str, Callable[[], None]], *, rounds: int) -> dict[str, list[Turn]]:
    """Measure the cost of each side in each round, after one unmeasured round.

    Args:
        sides: Functions to measure, by name.
        rounds: Number of measured rounds.
    """
    turns: dict[str, list[Turn]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, work in sides.items():
            started, before = time.perf_counter(), os.times()
            work()
            spent = sum(os.times()[:4]) - sum(before[:4])
            if number:
                turns[name].append(Turn(time.perf_counter() - started, spent))
    for name, each in turns.items():
        times = [turn.seconds for turn in each]
        spent = statistics.median(turn.processor_s for turn in each)
        print(
            f"{name}: {statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f}), "
            f"processor {spent:.2f} s"
        )
    return turns


if __name__ == "__main__":
    main()
