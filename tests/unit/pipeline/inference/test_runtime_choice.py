from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pneumoseg.pipeline.core.config import RuntimeName
from pneumoseg.pipeline.inference import runtime_choice
from pneumoseg.pipeline.inference.model import Model, ModelOptions, load_model
from pneumoseg.pipeline.inference.runtime_check import Measured, make_check_images, measure_runtime
from pneumoseg.pipeline.inference.runtime_choice import choose_runtime, fastest

TORCH = Measured("torch", start_s=0, pass_s=1.0, difference=0, differing_px=0, pixels=100)
FAST = Measured("openvino", start_s=10, pass_s=0.5, difference=1e-6, differing_px=3, pixels=100)


@pytest.fixture(autouse=True)
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[RuntimeName]:
    """The runtimes that have been measured: torch takes a second for an image, ONNX half of one, OpenVINO is broken."""
    monkeypatch.setenv("PNEUMOSEG_CACHE", str(tmp_path / "cache"))
    names: list[RuntimeName] = []

    def measure(_: Model, runtime: RuntimeName, __: Tensor) -> Measured:
        names.append(runtime)
        if runtime == "openvino":
            raise RuntimeError("wrong version\nmore")
        return (
            TORCH
            if runtime == "torch"
            else replace(FAST, runtime=runtime, pass_s=0.5 if runtime == "onnx" else 0.9)
        )

    monkeypatch.setattr(runtime_choice, "measure_runtime", measure)
    return names


@pytest.fixture
def model(model_folder: Path) -> Model:
    return load_model(model_folder, torch.device("cpu"))


def test_a_job_takes_the_runtime_that_is_done_first() -> None:
    assert fastest([TORCH, FAST], passes=19, tolerance=1e-4) is TORCH  # 19 s against 10 + 9.5
    assert fastest([TORCH, FAST], passes=21, tolerance=1e-4) is FAST
    assert fastest([TORCH, replace(FAST, difference=1e-3)], passes=1000, tolerance=1e-4) is TORCH
    assert fastest([TORCH, replace(FAST, difference=None, pass_s=0)], passes=1000, tolerance=1e-4) is TORCH


def test_nothing_is_measured_for_a_few_images(model: Model, measured: list[RuntimeName]) -> None:
    assert choose_runtime(model, images=1, batch_size=4).runtime == "torch"
    assert measured == []


def test_a_runtime_is_measured_once_for_a_model(
    model: Model, measured: list[RuntimeName], capsys: pytest.CaptureFixture[str]
) -> None:
    assert choose_runtime(model, images=100_000, batch_size=4).runtime == "onnx"
    output = capsys.readouterr()
    assert (
        "2.00 times as fast as torch; compared with torch in float32: 3 of 100 mask pixels differ"
        in output.out
    )
    assert "runtime openvino does not work here: RuntimeError: wrong version" in output.err
    # OpenVINO promises more than ONNX Runtime; after the latter, torch.compile is not expected to save anything
    assert measured == ["torch", "openvino", "onnx"]
    assert choose_runtime(model, images=100_000, batch_size=4).runtime == "onnx"
    assert choose_runtime(model, images=15, batch_size=4).runtime == "torch"  # 15 s against 10 + 7.5
    assert len(measured) == 3


def test_a_runtime_whose_preparation_does_not_pay_is_not_prepared(
    model: Model, measured: list[RuntimeName], capsys: pytest.CaptureFixture[str]
) -> None:
    assert choose_runtime(model, images=64, batch_size=4).runtime == "torch"
    assert "preparing a faster one does not pay for 64 images" in capsys.readouterr().out
    assert measured == ["torch"]  # a fifth or so of 64 s is less than the preparation of any other


def test_a_runtime_that_was_named_is_used(model_folder: Path, measured: list[RuntimeName]) -> None:
    named = load_model(model_folder, torch.device("cpu"), ModelOptions(runtime="torch"))
    assert choose_runtime(named, images=100_000, batch_size=4) is named
    sampling = load_model(model_folder, torch.device("cpu"), ModelOptions(dropout_passes=2))
    assert choose_runtime(sampling, images=100_000, batch_size=4).runtime == "torch"
    assert measured == []


def test_two_images_are_checked_though_they_are_computed_one_by_one(model: Model) -> None:
    assert [images.shape for images in make_check_images(model, 1)] == 2 * [(1, 1, 48, 48)]


@pytest.mark.slow
def test_a_measurement_counts_the_pixels_that_differ_from_torch(model: Model) -> None:
    batches = make_check_images(model, 3)
    assert [images.shape for images in batches] == [(3, 1, 48, 48)]
    found = measure_runtime(model, "onnx", batches)
    assert found.pixels == 3 * 48 * 48
    assert found.differing_px == 0
    assert found.difference is not None
    assert found.difference < 1e-5
    assert found.start_s > 0
    assert found.pass_s > 0
