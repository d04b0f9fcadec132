from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from tests.conftest import Collection, bright_pixel_network, write_model

from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.dataset.manifest import manifest_sha256
from pneumoseg.pipeline.inference.model import ModelOptions, load_model
from pneumoseg.pipeline.inference.segmentation import load_predictor
from pneumoseg.pipeline.jobs.quantize import QuantizeReport, quantize_model
from pneumoseg.pipeline.runtimes.members import read_record
from pneumoseg.pipeline.scoring.challenge import challenge_dice
from pneumoseg.transforms.labels.rle import decode_rle


@pytest.fixture
def own_model(collection: Collection, tmp_path: Path) -> Path:
    """A model that finds the bright blocks, and says that it was trained on the collection."""
    digest = manifest_sha256(collection.manifest)
    return write_model(tmp_path / "model", bright_pixel_network(), manifest_sha256=digest, image_size=32)


@pytest.mark.slow
def test_a_quantised_model_finds_the_same_blocks_in_both_runtimes(
    own_model: Path, collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PNEUMOSEG_CACHE", str(tmp_path / "cache"))
    report = quantize_model(own_model, collection.manifest_path, images=8, workers=0)
    assert (report.images, len(report.exact.dices)) == (8, 4)  # twelve cases, four of them held out
    predictor = load_predictor(own_model, "cpu")  # its masks have the size of the image, not of the network
    held_out = [case for case in collection.manifest.training if case.fold == 0]
    dices = [
        challenge_dice(
            predictor.predict(collection.folder / case.image).mask, decode_rle(case.label, case.shape)
        )
        for case in held_out
    ]
    assert report.exact.dices.tolist() == dices
    # blocks of 48 x 32 pixels as a network of 32 x 32 pixels sees them
    assert 0.9 < report.exact.dices.mean() < 1
    assert abs(report.lost) < 0.05
    assert abs(report.lost_of_positives) < 0.1
    assert read_record(own_model).scores["int8"]["dice"] == pytest.approx(report.quantized.dices.mean())
    images = torch.randn(1, 1, 48, 48)
    probabilities = [
        load_model(own_model, torch.device("cpu"), ModelOptions(runtime=runtime, precision=precision))
        .predictor.predict_batch(images)
        .probabilities
        for runtime, precision in (("torch", "float32"), ("onnx", "int8"), ("openvino", "int8"))
    ]
    for found in probabilities[1:]:
        assert not torch.equal(found, probabilities[0])
        torch.testing.assert_close(found, probabilities[0], atol=0.1, rtol=0)
    with pytest.raises(UsageError, match="--overwrite"):
        quantize_model(own_model, collection.manifest_path, workers=0)


@pytest.mark.parametrize(("lost", "of_positives", "exit_code"), [(0, 0, 0), (0.006, 0, 3), (0, 0.006, 3)])
def test_a_loss_of_either_kind_is_told_by_the_exit_code(
    lost: float, of_positives: float, exit_code: int, tmp_path: Path
) -> None:
    before, after = (
        SimpleNamespace(dices=np.array([0.8 - less]), score=SimpleNamespace(dice_positive=0.5 - positive))
        for less, positive in ((0, 0), (lost, of_positives))
    )
    report = QuantizeReport(tmp_path, 1, cast("Any", before), cast("Any", after))
    assert report.exit_code == exit_code


def test_without_the_manifest_of_the_training_no_held_out_images_are_known(
    model_folder: Path, collection: Collection
) -> None:
    with pytest.raises(UsageError, match="the manifest of its training"):
        quantize_model(model_folder, collection.manifest_path)
    assert not (model_folder / "int8").exists()
