import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import TINY, write_model

from pneumoseg.pipeline.core.config import NetworkConfig, RuntimeName
from pneumoseg.pipeline.core.devices import Precision
from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.inference.model import Model, ModelOptions, load_model
from pneumoseg.pipeline.model.weights import make_network
from pneumoseg.pipeline.runtimes.forward import make_forward
from pneumoseg.pipeline.runtimes.libraries import is_installed

CPU = torch.device("cpu")
CONFIGS = {
    "plain": TINY.model_copy(update={"normalization": "batch"}),
    "encoder": NetworkConfig(encoder="efficientnet-lite0", features=(8, 8, 8, 8, 8), image_head=True),
}
COMPILED: tuple[RuntimeName, RuntimeName] = ("torch.compile", "torch")
SHAPES = ((2, 1, 64, 64), (1, 1, 40, 70))  # the second one is padded


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PNEUMOSEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def make_model(folder: Path, config: NetworkConfig) -> Path:
    torch.manual_seed(0)
    network = make_network(config)
    with torch.no_grad():
        network.head.weight.mul_(5)
    return write_model(folder, network, config=config, image_size=64)


def load(folder: Path, runtime: str, **options: Any) -> Model:
    return load_model(folder, CPU, ModelOptions(runtime=runtime, **options))


def check_equal(folder: Path, runtime: str) -> None:
    torch.manual_seed(1)
    models = [load(folder, name, tta=("flip",)) for name in (runtime, "torch")]
    for shape in SHAPES:
        images = torch.randn(shape)
        found, expected = (model.predictor.predict_batch(images, attention=True) for model in models)
        torch.testing.assert_close(found.as_dict(), expected.as_dict(), atol=1e-5, rtol=0)
        torch.testing.assert_close(found.attention, expected.attention, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS)
def test_other_runtimes_have_all_outputs_of_torch(config: str, tmp_path: Path, cache: Path) -> None:
    folder = make_model(tmp_path / "model", CONFIGS[config])
    check_equal(folder, "onnx")
    (graph,) = (cache / "graphs").iterdir()
    written = graph.stat().st_mtime_ns
    check_equal(folder, "openvino")
    assert graph.stat().st_mtime_ns == written  # both read one graph, which is written once


def test_torch_compile_has_the_outputs_of_eager_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))  # which needs no compiler
    check_equal(make_model(tmp_path / "model", CONFIGS["plain"]), "torch.compile")


@torch.no_grad()
def test_the_forward_pass_of_a_model_upsamples_nothing_before_a_convolution(tmp_path: Path) -> None:
    """That would cost a fifth of the time."""
    model = load(make_model(tmp_path / "model", TINY), "torch")
    image = torch.randn(1, 1, 32, 32)
    expected = torch.sigmoid(model.networks[0](image))
    model.networks[0].up1.register_forward_hook(lambda *_: pytest.fail("upsampled"))
    torch.testing.assert_close(
        model.predictor.predict_batch(image).probabilities, expected, atol=1e-5, rtol=0
    )


@pytest.mark.slow
@pytest.mark.skipif(not is_installed("torch.compile"), reason="there is no C++ compiler")
def test_compiled_kernels_have_the_outputs_of_eager_mode_and_stay_in_the_cache_folder(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # so that it is put back
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    torch.manual_seed(0)
    network, image = make_network(TINY).eval(), torch.randn(1, 1, 32, 32)
    compiled, eager = (make_forward(network, name, Precision(CPU, torch.float32)) for name in COMPILED)
    with torch.no_grad():
        torch.testing.assert_close(compiled(image).logits, eager(image).logits, atol=1e-5, rtol=0)
    assert "torch.compile failed" not in capsys.readouterr().err
    assert any((cache / "inductor").rglob("*.so"))


@pytest.mark.slow
def test_eager_mode_takes_over_without_a_compiler(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    monkeypatch.setenv("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")
    network, image = make_network(TINY).eval(), torch.randn(1, 1, 48, 48)
    compiled, eager = (make_forward(network, name, Precision(CPU, torch.float32)) for name in COMPILED)
    with torch.no_grad():
        assert torch.equal(compiled(image).logits, eager(image).logits)
    warnings = capsys.readouterr().err
    assert warnings.count("torch.compile failed and eager mode is used") == 1


def test_a_machine_without_a_compiler_does_not_offer_torch_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not is_installed("torch.compile")
    assert is_installed("torch")


def test_onnx_runtime_for_processors_is_not_one_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    for providers in (["CPUExecutionProvider"], ["CUDAExecutionProvider", "CPUExecutionProvider"]):
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda found=providers: found)
        assert is_installed("onnx", torch.device("cpu"))
        assert is_installed("onnx", torch.device("cuda")) == (len(providers) == 2)


def test_eager_mode_takes_over_where_torch_compile_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> Any:
        def call(_: object) -> None:
            raise RuntimeError("no C++ compiler\ndetails")

        return call

    monkeypatch.setattr(torch, "compile", fail)
    check_equal(make_model(tmp_path / "model", CONFIGS["plain"]), "torch.compile")
    warnings = capsys.readouterr().err
    assert warnings.count("torch.compile failed") == 1
    assert "RuntimeError: no C++ compiler" in warnings


def test_dropout_is_sampled_by_torch_and_a_warning_says_so(
    model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load(model_folder, "onnx", dropout_passes=2)
    assert model.runtime == "torch"
    assert "samples are computed by torch" in capsys.readouterr().err
    assert model.predictor.predict_batch(torch.randn(1, 1, 48, 48)).pixel_std is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runtime": "tensorrt"}, "auto, torch, torch.compile, onnx, openvino would fit"),
        ({"runtime": "onnx", "precision": "bf16"}, "does not compute in bf16 on cpu; torch"),
        (
            {"runtime": "torch", "precision": "int8"},
            "does not compute in int8 on cpu; onnx, openvino would fit",
        ),
        ({"precision": "half"}, "auto, float32, bf16, fp16, int8 would fit"),
        ({"precision": "int8", "dropout_passes": 2}, "--dropout-passes"),
    ],
)
def test_what_a_runtime_does_not_compute_is_refused(
    model_folder: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        load_model(model_folder, CPU, ModelOptions(**options))


def test_int8_needs_a_quantised_model_of_the_same_weights(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model", TINY)
    with pytest.raises(UsageError, match="pneumoseg quantize"):
        load(folder, "onnx", precision="int8")
    (folder / "int8").mkdir()
    graph = {"file": "member0.onnx", "sha256": "0" * 64, "weights_sha256": "1" * 64}
    record = {"graphs": [graph], "manifest_sha256": "2" * 64, "images": 1, "versions": {}}
    (folder / "int8" / "int8.json").write_text(json.dumps(record))
    with pytest.raises(JobError, match="made from other weights"):
        load(folder, "onnx", precision="int8")
