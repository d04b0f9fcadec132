"""Cost of `pneumoseg predict` relative to the bare network and to a naive MONAI chain, on the same files.

    python -m benchmarks.folder_inference [--images FOLDER] [--quick]

Prediction runs end to end: it loads the files, hashes them, and writes a receipt for each image, and the table. The
bare network gets the batches of prediction, ready in memory.
"""

import copy
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import replace
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
from benchmarks.comparison import Comparison, Setting, relate, run
from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.core.config import ComputedPrecision, NetworkConfig
from pneumoseg.pipeline.core.console import console
from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.inference.model import Model, load_model
from pneumoseg.pipeline.jobs.predict import predict_folder
from pneumoseg.pipeline.model.card import save_description
from pneumoseg.pipeline.model.description import ModelDescription, Preprocessing, Training, TunedPoint
from pneumoseg.pipeline.model.weights import save_weights
from pneumoseg.pipeline.phantom.dicom_files import write_dicom
from pneumoseg.pipeline.phantom.draw import draw_phantom
from pneumoseg.pipeline.reading.folders import find_radiographs
from pneumoseg.transforms.chains import inference_chain
from pneumoseg.transforms.labels.rle import encode_rle


def measure(setting: Setting) -> list[Comparison]:
    """Compare prediction in float32, from folder to tables, with the bare network and with a naive MONAI chain.

    Args:
        setting: Number of rounds, and the folder of the radiographs. The network is an untrained one of the article.
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
            folder = write_untrained(Path(name) / "model", size, "float32")
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
