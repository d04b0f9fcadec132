"""Time of `pneumoseg predict` relative to decoding alone and the network alone, on the same files, in one process.

    python -m benchmarks.folder_inference FOLDER [--model MODEL] [--images 200] [--rounds 3] [--threads 1]

The sides alternate in one process and their medians are compared, since machines are noisy: compare the ratio, not the
times. Prediction runs end to end: it loads the model, searches the folder, hashes each file, and writes a receipt for
each image, and the table. The network alone gets the batches of prediction, ready in memory. On a shared machine,
processor time is more reliable than the clock, since overlapping needs an idle core.
"""

import argparse
import copy
import os
import shutil
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    NormalizeIntensityd,
    Resized,
    ScaleIntensityRangePercentilesd,
)
from torch.nn import functional

from benchmarks import comparison
from benchmarks.comparison import Comparison, Setting, relate
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
from pneumoseg.pipeline.phantom.dicom_files import write_dicom
from pneumoseg.pipeline.phantom.draw import draw_phantom
from pneumoseg.pipeline.reading.folders import find_radiographs
from pneumoseg.pipeline.reading.readers import Readers
from pneumoseg.transforms.chains import inference_chain
from pneumoseg.transforms.labels.rle import encode_rle
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
        images = copy_images(find_radiographs(words.folder).images[: words.images], Path(name))
        paths = find_radiographs(images).images
        folder = words.model or write_untrained(
            Path(name) / "model", words.size, cast("Any", resolve_precision("auto", device).name)
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


def measure(setting: Setting) -> list[Comparison]:
    """Compare prediction in float32, from folder to tables, with the bare network and with a naive MONAI chain.

    Args:
        setting: Number of rounds, the folder of the radiographs, and the model.
    """
    size, count = (128, 4) if setting.quick else (512, 16)
    device = torch.device("cpu" if not torch.cuda.is_available() else "cuda")
    quiet, console.quiet = console.quiet, True
    try:
        with TemporaryDirectory() as name:
            if setting.images is not None:
                sources = find_radiographs(setting.images).images[:count]
            else:
                sources = tuple(
                    write_dicom(draw_phantom(seed), Path(name) / "phantoms", name=str(seed))
                    for seed in range(4)
                )
            images = copy_images(sources, Path(name))
            folder = setting.model or write_untrained(Path(name) / "model", size, "float32")
            return _compare(Path(name), images, folder, device, setting.rounds(7))
    finally:
        console.quiet = quiet


def _compare(name: Path, images: Path, folder: Path, device: torch.device, rounds: int) -> list[Comparison]:
    model = load_model(folder, device)
    paths = find_radiographs(images).images
    batches = make_batches(model, paths, 4)

    def predict(source: Path) -> None:
        with TemporaryDirectory(dir=name) as output:
            predict_folder(
                folder,
                source,
                Path(output) / "out",
                kinds=["csv"],
                runtime=Runtime(device=str(device), batch_size=4, workers=1),
                model=model,
            )

    sides = {
        "ours": lambda: predict(images),
        "one image": lambda: predict(paths[0]),
        "network": lambda: compute(model, batches),
        "naive": lambda: predict_naively(model, paths),
    }
    turns = comparison.take_turns(sides, rounds=rounds)
    once, rest = turns["one image"].seconds, (len(paths) - 1) / len(paths)
    ours = replace(turns["ours"], seconds=turns["ours"].seconds - once)
    network, naive = (
        replace(turns[side], seconds=turns[side].seconds * rest) for side in ("network", "naive")
    )
    note = f"per further image; a run of one takes {once:.1f} s, with its worker and report"
    what = f"folder inference, {len(paths)} images at {model.image_size} px, {model.precision.name}"
    return [
        relate(f"{what}, the bare network", ours, network, limit=0.95, note=note),
        relate(f"{what}, MONAI transforms and eager network", ours, naive, limit=3.5, note=note),
    ]


def predict_naively(model: Model, paths: Sequence[Path]) -> list[str]:
    """Predict with stock MONAI transforms, one image after the other, in float32 without channels_last.

    Args:
        model: Model whose networks and operating point are used, without test-time augmentation.
        paths: Paths of the radiographs.

    Returns: Run-length text of each image.
    """
    chain = Compose(
        [
            LoadImaged("image", reader="PydicomReader", image_only=True),
            EnsureChannelFirstd("image", channel_dim="no_channel"),
            ScaleIntensityRangePercentilesd("image", 0.5, 99.5, 0, 1, clip=True),
            Resized("image", (model.image_size, model.image_size)),
            NormalizeIntensityd("image"),
        ]
    )
    networks = [
        copy.deepcopy(cast("Any", network)).to(memory_format=torch.contiguous_format)
        for network in model.networks
    ]
    texts = []
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # PydicomReader misses the affine of a radiograph
        for path in paths:
            image = chain({"image": path})["image"][None].as_tensor().to(model.precision.device)
            logits = torch.stack([network(image)[:, :1] for network in networks]).mean(0)
            large = functional.interpolate(torch.sigmoid(logits), size=(1024, 1024), mode="bilinear")[0, 0]
            texts.append(encode_rle((large > model.operating_point.threshold).T.cpu().numpy()))
    return texts


def copy_images(paths: Sequence[Path], folder: Path) -> Path:
    """Copy radiographs into a new folder, from which prediction reads them.

    Args:
        paths: Paths of the radiographs.
        folder: Parent of the new folder.
    """
    images = folder / "images"
    images.mkdir()
    for number, path in enumerate(paths):
        shutil.copy(path, images / f"{number:05d}{path.suffix}")
    return images


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
        operating_point=TunedPoint(
            threshold=255 / 256, min_area_fraction=0.001
        ),  # else a mask is hundreds of specks
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
