"""Compare the masks of exported files with those of `pneumoseg predict` in float32, on radiographs.

python benchmarks/exports.py MODEL IMAGES --count 50 [--tta flip] [--kinds onnx:float32 openvino:fp16 ...]
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from pneumoseg.pipeline.core.devices import Precision
from pneumoseg.pipeline.formats.files import Run, onnx_runner, openvino_runner
from pneumoseg.pipeline.inference.model import Model, ModelOptions, load_model
from pneumoseg.pipeline.inference.passes import parse_tta
from pneumoseg.pipeline.inference.predictor import Prediction
from pneumoseg.pipeline.inference.segmentation import ModelPredictor, Segmentation, postprocess
from pneumoseg.pipeline.jobs.export import export_model
from pneumoseg.pipeline.reading.folders import find_radiographs
from pneumoseg.transforms.network_input import Placement, network_image
from pneumoseg.transforms.reader.radiograph import Radiograph, read_radiograph
from pneumoseg.transforms.reader.reasons import RadiographError

KINDS = ("onnx:float32", "onnx:fp16", "onnx:bf16", "openvino:float32", "openvino:fp16")
Pair = tuple[Radiograph, Segmentation]


def segment(model: Model, run: Run, radiograph: Radiograph) -> Segmentation:
    """Segment a radiograph with an exported file."""
    image = network_image(radiograph, model.image_size)[None]
    content = Placement.of(radiograph.orientation.swap(radiograph.shape), model.image_size).mask(
        model.image_size
    )
    outputs = run({"image": image.numpy(), "content": content[None].float().numpy()})
    probabilities, image_probability = map(torch.from_numpy, outputs)
    return postprocess(model, radiograph, Prediction(probabilities[0], image_probability[0]))


def read(folder: Path, count: int) -> list[Radiograph]:
    """Read the first radiographs of a folder."""
    found: list[Radiograph] = []
    for path in find_radiographs(folder).images:
        try:
            found.append(read_radiograph(path))
        except RadiographError:
            continue
        if len(found) == count:
            break
    return found


def compare(expected: list[Segmentation], found: list[Segmentation]) -> str:
    """Describe the differences between two lists of segmentations of the same images."""
    pixels = [int((a.mask != b.mask).sum()) for a, b in zip(expected, found, strict=True)]
    differences = [
        float(np.abs(a.probabilities - b.probabilities).max()) for a, b in zip(expected, found, strict=True)
    ]
    image = max(abs(a.probability - b.probability) for a, b in zip(expected, found, strict=True))
    area = sum(a.area_px for a in expected)
    return (
        f"{pixels.count(0)} of {len(pixels)} masks equal, {sum(pixels)} pixels differ (masks: {area}), "
        f"pixel probability {max(differences):.1e}, image probability {image:.1e}"
    )


def report(arguments: argparse.Namespace, kind: str, model: Model, pairs: Sequence[Pair]) -> None:
    """Export one kind, run it on the images, and print what differs."""
    name, precision = kind.split(":")
    with tempfile.TemporaryDirectory() as folder:
        *_, file = export_model(
            arguments.model,
            folder,
            [name],
            tta=model.tta,
            operating_point=arguments.operating_point,
            precision=cast("Any", precision),  # one of KINDS
        )
        weights = file.path.with_suffix(".bin")
        run = onnx_runner(file.path) if name == "onnx" else openvino_runner(file.path, weights)
        size = (file.path if name == "onnx" else weights).stat().st_size
        print(f"{kind}: {size / 1e6:.1f} MB, {file.difference:.1e} on test images", flush=True)
        found = [segment(model, run, radiograph) for radiograph, _ in pairs]
    print(f"  {compare([expected for _, expected in pairs], found)}", flush=True)


def main() -> None:
    """Compare each kind with the model in float32, and the model in its own precision too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--tta", default=None)
    parser.add_argument("--operating-point", default=None)
    parser.add_argument("--kinds", nargs="*", default=KINDS, choices=KINDS)
    arguments = parser.parse_args()
    cpu = torch.device("cpu")
    options = ModelOptions(tta=parse_tta(arguments.tta), operating_point=arguments.operating_point)
    own = load_model(arguments.model, cpu, options)
    model = replace(own, precision=Precision(cpu, torch.float32))
    radiographs = read(arguments.images, arguments.count)
    expected = [ModelPredictor(model).predict(each) for each in radiographs]
    positive = sum(each.area_px > 0 for each in expected)
    print(
        f"{len(radiographs)} radiographs, {positive} predicted positive, TTA {model.tta or 'none'}",
        flush=True,
    )
    print(f"the model in its own precision, {own.precision.name}:", flush=True)
    print(f"  {compare(expected, [ModelPredictor(own).predict(each) for each in radiographs])}", flush=True)
    for kind in arguments.kinds:
        report(arguments, kind, model, list(zip(radiographs, expected, strict=True)))


if __name__ == "__main__":
    main()
