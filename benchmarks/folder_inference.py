"""Cost of `pneumoseg predict` relative to the bare network and to a naive MONAI chain, on the same files.

    python -m benchmarks.folder_inference [--images FOLDER] [--model MODEL] [--quick]

Prediction runs end to end: it loads the files, hashes them, and writes a receipt for each image, and the table. The
bare network gets the batches of prediction, ready in memory. It runs in float32 and in the precision that training
chooses by default, in the runtime that ``--runtime auto`` chooses for a folder of many images, and in eager torch.
"""

import copy
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, cast

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
from benchmarks.comparison import Comparison, Setting, relate, run
from benchmarks.peers import Peer
from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.core.config import ComputedPrecision, NetworkConfig
from pneumoseg.pipeline.core.console import console
from pneumoseg.pipeline.core.devices import resolve_precision
from pneumoseg.pipeline.core.memory import keep_freed_memory
from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.inference.model import Model, ModelOptions, load_model
from pneumoseg.pipeline.inference.runtime_choice import choose_runtime
from pneumoseg.pipeline.inference.segment import segment_files
from pneumoseg.pipeline.inference.segmentation import Segmentation
from pneumoseg.pipeline.jobs.predict import predict_folder
from pneumoseg.pipeline.model.card import save_description
from pneumoseg.pipeline.model.catalogue import DEFAULT, find_model
from pneumoseg.pipeline.model.description import ModelDescription, Preprocessing, Training, TunedPoint
from pneumoseg.pipeline.model.weights import save_weights
from pneumoseg.pipeline.phantom.dicom_files import write_dicom
from pneumoseg.pipeline.phantom.rendering import render_phantom
from pneumoseg.pipeline.reading.folders import find_radiographs
from pneumoseg.transforms.chains import inference_chain
from pneumoseg.transforms.labels.rle import encode_rle

BATCH: Final = 4
NAIVE: Final = "MONAI transforms and eager network in float32"
LIMIT: Final = 3.5
"""Least ratio to the naive chain."""
MANY: Final = 1000
"""Images of a folder for which the choice of a faster runtime pays."""


def measure(setting: Setting) -> list[Comparison]:
    """Compare prediction, from folder to tables, with the bare network and with a naive MONAI chain.

    Args:
        setting: Number of rounds, the folder of the radiographs, and a trained model whose run-length texts in both
            runtimes are compared, that of the package if left out. What is timed is an untrained network of the
            article.
    """
    keep_freed_memory()  # as the command does
    size, count = (128, 8) if setting.quick else (512, 16)
    device = torch.device("cpu" if not torch.cuda.is_available() else "cuda")
    quiet, console.quiet = console.quiet, True
    try:
        with TemporaryDirectory() as name:
            if setting.images is not None:
                sources = find_radiographs(setting.images).images[:count]
            else:
                sources = tuple(
                    write_dicom(render_phantom(seed), Path(name) / "phantoms", name=str(seed))
                    for seed in range(count)
                )
            images = copy_images(sources, Path(name))
            precision = resolve_precision("auto", device).name
            folder = write_untrained(Path(name) / "model", size, "float32")
            models = in_runtimes(folder, device, "float32")
            if precision != "float32":
                models |= in_runtimes(folder, device, precision)
            # as a user has it by default
            limited = next(what for what in models if what.startswith(precision))
            lines = _compare(models, images, Path(name), setting.rounds(7), limited=limited)
            trained = in_runtimes(find_model(setting.model or DEFAULT), device, "float32")
            texts = compare_texts(trained, find_radiographs(images).images)
            return [
                replace(line, note=f"{line.note}; {texts}")
                if ", float32, " in line.name and line.name.endswith(NAIVE)
                else line
                for line in lines
            ]
    finally:
        console.quiet = quiet


def _compare(
    models: Mapping[str, Model], images: Path, name: Path, rounds: int, *, limited: str
) -> list[Comparison]:
    paths = find_radiographs(images).images
    some = next(iter(models.values()))
    sides: dict[str, Callable[[], object]] = {
        NAIVE: Peer(make_naive, some.folder, str(some.precision.device), paths)
    }
    for what, model in models.items():
        sides |= {
            f"{what}, all": partial(_predict, model, images, paths, name),
            f"{what}, first batch": partial(_predict, model, images, paths[:BATCH], name),
            f"{what}, network": partial(compute, model, make_batches(model, paths, BATCH)),
        }
    turns = comparison.take_turns(sides, rounds=rounds)
    rest = 1 - BATCH / len(paths)  # what the start of a run and its report cost is in the first batch, too
    lines = []
    for what, model in models.items():
        whole, first = (turns[f"{what}, {part}"] for part in ("all", "first batch"))
        ours = replace(whole, seconds=whole.seconds - first.seconds)
        network, naive = (
            replace(turns[side], seconds=turns[side].seconds * rest) for side in (f"{what}, network", NAIVE)
        )
        line = partial(
            relate, note=f"{len(paths) - BATCH} further images; a run of {BATCH} takes {first.seconds:.1f} s"
        )
        title = f"folder inference, {len(paths)} images at {model.image_size} px, {what}"
        limit = LIMIT if what == limited else None
        lines += [
            line(f"{title}, the bare network", ours, network, limit=0.95),
            line(f"{title}, {NAIVE}", ours, naive, limit=limit),
        ]
    return lines


def in_runtimes(folder: Path, device: torch.device, precision: str) -> dict[str, Model]:
    """Load a model in the runtime that ``--runtime auto`` chooses for a large folder, and in eager torch.

    Args:
        folder: Model folder.
        device: Device of the networks.
        precision: Name of the number format.

    Returns: Models by precision and runtime, the chosen one first; only one where torch is chosen.
    """
    options = (ModelOptions(precision=precision, runtime=runtime) for runtime in ("auto", "torch"))
    chosen, eager = (load_model(folder, device, each) for each in options)
    chosen = choose_runtime(chosen, images=MANY, batch_size=BATCH)
    return {f"{precision}, {model.runtime}": model for model in (chosen, eager)}


def compare_texts(models: Mapping[str, Model], paths: Sequence[Path]) -> str:
    """Count the run-length texts that are equal in all runtimes, and the pixels that differ.

    Args:
        models: A trained model in each runtime.
        paths: Paths of the radiographs.
    """
    results = [segment_files(model, paths, workers=0) for model in models.values()]
    masks = [[each.mask for each in found if isinstance(each, Segmentation)] for found in results]
    pairs = list(zip(masks[0], masks[-1], strict=True))
    equal = sum(encode_rle(one) == encode_rle(other) for one, other in pairs)
    pixels = sum(int((one != other).sum()) for one, other in pairs)
    return (
        f"{equal} of {len(pairs)} run-length texts of a trained model are equal in "
        f"{' and '.join(model.runtime for model in models.values())}, {pixels} pixels differ"
    )


def _predict(model: Model, images: Path, paths: Sequence[Path], name: Path) -> None:
    with TemporaryDirectory(dir=name) as output:
        predict_folder(
            model.folder,
            images,
            Path(output) / "out",
            kinds=["csv"],
            runtime=Runtime(device=str(model.precision.device), batch_size=BATCH, workers=1),
            model=model,
            only=paths,
        )


def make_naive(folder: Path, device: str, paths: Sequence[Path]) -> Callable[[], object]:
    """Make the prediction of files by `predict_naively`.

    Args:
        folder: Model folder.
        device: Name of the device.
        paths: Paths of the radiographs.
    """
    options = ModelOptions(runtime="torch", precision="float32")
    return partial(predict_naively, load_model(folder, torch.device(device), options), paths)


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
    """Make the batches of the network.

    Args:
        model: Model whose preprocessing is used.
        paths: Paths of the radiographs.
        size: Images per batch.
    """
    chain = inference_chain(image_size=model.image_size)
    return list(torch.split(torch.stack([chain({"image": path})["image"] for path in paths]), size))


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


if __name__ == "__main__":
    run(measure, __doc__)
