"""Quantise the networks of a model to int8, and score what that costs on held-out images."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
import torch

from pneumoseg.pipeline.core.claims import claim_folder
from pneumoseg.pipeline.core.console import tracked
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.core.files import sha256_of, write_json
from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.dataset.cases import ACCEPT_ALL_KINDS, FileCases
from pneumoseg.pipeline.dataset.manifest import Manifest, manifest_sha256, read_manifest
from pneumoseg.pipeline.inference.model import ModelOptions, load_model
from pneumoseg.pipeline.jobs.measure_cases import check_own_manifest, measure_curves
from pneumoseg.pipeline.model.catalogue import find_model, refuse_to_change
from pneumoseg.pipeline.runtimes.members import QUANTIZED, RECORD, QuantizationRecord, QuantizedGraph
from pneumoseg.pipeline.runtimes.quantization import quantize_network
from pneumoseg.pipeline.scoring.case_curves import OperatingPointScores, score_point
from pneumoseg.transforms.chains import evaluation_chain

MOST_LOST: Final = 0.005
"""Loss of Dice above which the quantised model should not be used."""


@dataclass(frozen=True)
class QuantizeReport:
    """Scores of a model before and after its quantisation, on held-out images at their original size.

    Attributes:
        folder: Folder of the quantised graphs.
        images: Number of images of the calibration.
        exact: Scores in float32.
        quantized: Scores in int8.
    """

    folder: Path
    images: int
    exact: OperatingPointScores
    quantized: OperatingPointScores

    @property
    def lost(self) -> float:
        """Dice in float32 minus Dice in int8, means over the images."""
        return float(self.exact.dices.mean() - self.quantized.dices.mean())

    @property
    def lost_of_positives(self) -> float:
        """The same for the positive images only; 0 if there is none."""
        exact, quantized = self.exact.score.dice_positive, self.quantized.score.dice_positive
        return 0.0 if exact is None or quantized is None else exact - quantized

    @property
    def exit_code(self) -> int:
        """0, or 3 where more Dice is lost than `MOST_LOST`, of all images or of the positive ones."""
        return 3 if max(self.lost, self.lost_of_positives) > MOST_LOST else 0


def quantize_model(
    model_folder: str | Path,
    manifest_path: str | Path,
    *,
    images: int = 64,
    workers: int = 1,
    overwrite: bool = False,
) -> QuantizeReport:
    """Add quantised graphs to a model folder, for ``--precision int8``.

    The ranges of the feature maps come from images of other folds than the held-out one, half of them positive where
    there are enough. The held-out images are scored in float32 and in int8 at the operating point.

    Args:
        model_folder: Model folder written by `train_model`, or the name of a model of the package; it gets ``int8/``.
        manifest_path: Manifest that the model was trained on.
        images: Number of images of the calibration.
        workers: Processes that decode; 0 decodes in this process, without protection from damaged files.
        overwrite: Replace an earlier quantisation.

    Returns: The scores.

    Raises:
        UsageError: If the extra ``onnx`` is not installed, or the manifest is not the model's.
        JobError: If model, manifest or an image cannot be used.
    """
    manifest_path = Path(manifest_path)
    refuse_to_change(find_model(model_folder), option="quantize")
    exact = load_model(model_folder, torch.device("cpu"), ModelOptions(runtime="torch", precision="float32"))
    manifest = read_manifest(manifest_path)
    check_own_manifest(exact, manifest)
    if not exact.held_out_folds:
        raise UsageError(
            f"{exact.folder}: was trained on all images, so that none is left to measure what int8 costs; quantise a "
            "model that holds a fold out, or convert with your runtime's own tools"
        )
    fold = exact.held_out_folds[0]
    held_out = manifest.indices_in({fold})
    calibration = _choose_calibration(manifest, fold, images=images)
    folder = exact.folder / QUANTIZED
    claim_folder(folder, overwrite=overwrite, command="quantize", inputs=[manifest_path])

    chain = evaluation_chain(image_size=exact.image_size, acceptance=ACCEPT_ALL_KINDS)
    samples = FileCases(manifest, manifest_path, calibration, chain=chain, workers=workers)
    inputs = [sample["image"][None] for sample in samples]
    graphs = []
    with tracked("quantise", total=len(exact.networks)) as advance:
        for index, (member, network) in enumerate(
            zip(exact.description.members, exact.networks, strict=True)
        ):
            path = folder / f"member{index}.onnx"
            quantize_network(network, inputs, path)
            graphs.append(
                QuantizedGraph(file=path.name, sha256=sha256_of(path), weights_sha256=member.sha256)
            )
            advance()
    record = QuantizationRecord(
        graphs=tuple(graphs),
        manifest_sha256=manifest_sha256(manifest),
        images=len(calibration),
        versions={name: version(name) for name in ("pneumoseg", "torch", "onnx", "onnxruntime")},
    )
    write_json(folder / RECORD, record.model_dump(mode="json"))
    quantized = load_model(exact.folder, torch.device("cpu"), ModelOptions(precision="int8"))

    scores = []
    with tracked("score", total=2) as advance:
        for model in (exact, quantized):
            parts = [(model.without(fold), held_out)]
            curves = measure_curves(parts, manifest, manifest_path, runtime=Runtime(workers=workers))
            scores.append(score_point(curves, model.operating_point))
            advance()
    named = zip(("float32", "int8"), scores, strict=True)
    record = record.model_copy(update={"scores": {name: each.as_dict() for name, each in named}})
    write_json(folder / RECORD, record.model_dump(mode="json"))
    return QuantizeReport(folder, len(calibration), *scores)


def _choose_calibration(manifest: Manifest, fold: int, *, images: int) -> list[int]:
    """Choose the cases of the calibration among those of the other folds."""
    others = manifest.indices_in({*range(manifest.folds)} - {fold})
    shuffled = np.random.default_rng(0).permutation(others).tolist()
    positive = [index for index in shuffled if manifest.training[index].is_positive][: images // 2]
    rest = [index for index in shuffled if index not in set(positive)]
    return sorted([*positive, *rest][:images])
