import json
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from PIL import Image
from tests.conftest import TINY, draw_case, write_model

from pneumoseg.models import load_keras_weights
from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.formats import files
from pneumoseg.pipeline.formats.files import largest_difference, phantoms
from pneumoseg.pipeline.formats.graph import InferenceGraph, sum_pixels
from pneumoseg.pipeline.formats.keras import keras_files
from pneumoseg.pipeline.inference.model import load_model
from pneumoseg.pipeline.inference.segmentation import load_predictor
from pneumoseg.pipeline.jobs.export import export_model
from pneumoseg.pipeline.model.weights import make_network
from pneumoseg.pipeline.runtimes.graph import to_onnx
from pneumoseg.pipeline.runtimes.libraries import compile_openvino, open_onnx, open_openvino

EXAMPLE = Path(__file__).parents[4] / "examples" / "run_onnx.py"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both files of the tiny model with flip TTA."""
    output = tmp_path_factory.mktemp("exported")
    results = export_model(model_folder, output, ["onnx", "openvino"], tta=("flip",))
    assert [result.path.name for result in results] == ["model.onnx", "model.xml"]
    assert max(result.difference or 0 for result in results) < 1e-5
    return output


def test_both_files_take_batches_and_images_of_any_size(exported: Path, model_folder: Path) -> None:
    predictor = load_predictor(model_folder, "cpu", tta=("flip",)).model.predictor
    session = onnxruntime.InferenceSession(exported / "model.onnx")
    compiled = openvino.Core().compile_model(
        exported / "model.xml",
        "CPU",
        {"INFERENCE_PRECISION_HINT": "f32"},  # else bfloat16, where the processor has it
    )
    for shape in ((1, 1, 48, 48), (3, 1, 16, 80)):
        image = torch.rand(shape)
        standardised = torch.stack([(one - one.mean()) / one.std(correction=0) for one in image])
        expected = predictor.predict_batch(standardised)
        inputs = {"image": image.numpy(), "content": np.ones(shape, np.float32)}
        of_openvino = compiled(inputs)
        for found in (session.run(None, inputs), [of_openvino[0], of_openvino[1]]):
            np.testing.assert_allclose(found[0], expected.probabilities, atol=1e-5)
            np.testing.assert_allclose(found[1], expected.image_probability, atol=1e-5)


def test_the_onnx_file_says_how_to_use_it(exported: Path) -> None:
    metadata = onnxruntime.InferenceSession(exported / "model.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(metadata["operating_point"])["threshold"] == 0.5
    assert (metadata["image_size"], metadata["stride"]) == ("48", "16")
    assert (json.loads(metadata["labels"]), json.loads(metadata["tta"])) == (["pneumothorax"], ["flip"])
    assert "not a medical device" in metadata["notice"]


def test_weights_are_stored_once_though_the_network_runs_twice(exported: Path, model_folder: Path) -> None:
    (network,) = load_model(model_folder, torch.device("cpu")).networks
    stored = onnx.load(exported / "model.onnx").graph.initializer
    floats = sum(int(np.prod(each.dims)) for each in stored if each.data_type == onnx.TensorProto.FLOAT)
    assert floats <= sum(parameter.numel() for parameter in network.parameters())


def test_the_file_quotes_no_source_code(exported: Path) -> None:
    content = (exported / "model.onnx").read_bytes()
    assert b".py" not in content
    assert str(Path(files.__file__).parent).encode() not in content


@pytest.mark.parametrize(
    ("precision", "kind", "formats"),
    [("fp16", onnx.TensorProto.FLOAT16, ["onnx", "openvino"]), ("bf16", onnx.TensorProto.BFLOAT16, ["onnx"])],
)
def test_weights_have_a_short_number_format(
    precision: Any, kind: int, formats: list[str], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    folder = write_model(tmp_path / "model", make_network(TINY))
    results = export_model(folder, tmp_path / "out", formats, precision=precision)
    assert [result.path.suffix for result in results] == [".onnx", ".xml"][: len(formats)]
    assert all(result.difference is not None and 0 < result.difference < 0.02 for result in results)
    graph = onnx.load(tmp_path / "out" / "model.onnx").graph
    kernels = [each for each in graph.initializer if len(each.dims) == 4 and np.prod(each.dims) >= 64]
    assert {each.data_type for each in kernels} == {kind}
    assert {each.type.tensor_type.elem_type for each in (*graph.input, *graph.output)} == {
        onnx.TensorProto.FLOAT
    }
    metadata = {each.key: each.value for each in onnx.load(tmp_path / "out" / "model.onnx").metadata_props}
    assert metadata["precision"] == precision


def test_bf16_for_openvino_is_refused(model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="OpenVINO stores float32 or float16"):
        export_model(model_folder, tmp_path, ["openvino"], precision="bf16")


@pytest.mark.parametrize("brightest", [250, 120, 60_000])
def test_forty_lines_without_torch_draw_the_same_mask(
    brightest: int, exported: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 40
    source, target = tmp_path / "radiograph.png", tmp_path / "mask.png"
    pixels = draw_case(1, positive=True)[0] * (brightest / 250)  # in 8 or 16 bits
    Image.fromarray(pixels.astype(np.min_scalar_type(brightest))).save(source)
    monkeypatch.setattr("sys.argv", [str(EXAMPLE), str(exported / "model.onnx"), str(source), str(target)])
    runpy.run_path(str(EXAMPLE))
    expected = load_predictor(model_folder, "cpu", tta=("flip",)).predict(source).mask
    assert expected.any()
    assert (np.asarray(Image.open(target)) == expected * 255).all()


def test_a_file_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = TINY.model_copy(update={"image_head": True})
    folder = write_model(tmp_path / "model", make_network(config), config=config)
    differences = []
    onnx_runner = files.onnx_runner

    def altered(path: Path) -> files.Run:
        run = onnx_runner(path)
        differences.append(largest_difference(graph, run, image_size=48))
        return lambda inputs: [output + np.float32(0.001) for output in run(inputs)]

    graph = InferenceGraph(load_model(folder, torch.device("cpu")), standardizes=True)
    monkeypatch.setattr(files, "onnx_runner", altered)
    with pytest.raises(JobError, match=r"differs by 1\.0e-03 from the model's"):
        export_model(folder, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    assert differences[0] < 1e-5  # as it was made, the file was right


def test_runtimes_sum_the_pixels_of_a_large_image_as_exactly_as_torch(tmp_path: Path) -> None:
    class Sum(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return sum_pixels(image)

    image = torch.rand(1, 1, 512, 512, generator=torch.Generator().manual_seed(0))
    exact = image.double().sum().item()
    path = tmp_path / "sum.onnx"
    to_onnx(Sum(), stride=16, inputs=["image"], outputs=["sum"]).save(path)
    (of_onnx,) = open_onnx(path).run(None, {"image": image.numpy()})
    of_openvino = compile_openvino(open_openvino(path))(image.numpy())[0]
    for found in (of_onnx, of_openvino):
        assert found.item() == pytest.approx(exact, rel=5e-7)  # 4 units in the last place of float32


def test_the_files_are_compared_on_phantoms_as_a_graph_takes_them() -> None:
    greys, standardised = (phantoms((0, 1), (48, 64), standardised=flag) for flag in (False, True))
    for inputs in (greys, standardised):
        assert inputs["image"].shape == inputs["content"].shape == (2, 1, 48, 64)
        assert (inputs["image"][inputs["content"] == 0] == 0).all()
    assert 0 <= greys["image"].min() < 0.2
    assert 0.8 < greys["image"].max() <= 1
    for image, content in zip(standardised["image"], standardised["content"], strict=True):
        pixels = image[content > 0]
        assert abs(pixels.mean().item()) < 1e-5
        assert pixels.std().item() == pytest.approx(1, abs=1e-5)


def test_an_earlier_file_and_an_unknown_format_are_refused(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    with pytest.raises(UsageError, match="--overwrite"):
        export_model(model_folder, tmp_path)
    with pytest.raises(UsageError, match="onnx, openvino, browser, bundle, keras would fit"):
        export_model(model_folder, tmp_path / "new", ["tensorrt"])
    wrong: Any = "int8"
    with pytest.raises(UsageError, match="--precision int8: float32, fp16, bf16 would fit"):
        export_model(model_folder, tmp_path / "new", precision=wrong)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("model.bin", "openvino"), ("browser/model.onnx", "browser"), ("bundle/models/model.pt", "bundle")],
)
def test_an_earlier_file_of_weights_is_not_replaced(
    name: str, kind: str, model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match=f"{name} exists"):
        export_model(model_folder, tmp_path, [kind])
    assert (tmp_path / name).read_text() == "mine"


def test_what_can_be_refused_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    config = TINY.model_copy(update={"image_head": True})
    folder = write_model(tmp_path / "model", make_network(config), config=config)
    for formats, error in ((["onnx", "keras"], "-t keras"), (["onnx", "browser"], "is missing")):
        with pytest.raises(UsageError, match=error):
            export_model(folder, tmp_path / "out", formats, libraries=tmp_path)
    assert not any(path.is_file() for path in tmp_path.glob("out/**/*"))


def test_keras_weights_of_each_member_are_written(tmp_path: Path) -> None:
    network = make_network(TINY)
    export_model(write_model(tmp_path / "model", network), tmp_path / "out", ["keras"])
    again = make_network(TINY)
    load_keras_weights(again, tmp_path / "out" / "model.weights.h5")
    assert all(map(torch.equal, again.parameters(), network.parameters()))
    assert [path.name for path in keras_files(tmp_path, 2)] == ["model-1.weights.h5", "model-2.weights.h5"]


def test_keras_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    config = TINY.model_copy(update={"image_head": True})
    folder = write_model(tmp_path / "model", make_network(config), config=config)
    with pytest.raises(UsageError, match="-t keras: the network has a layer image_head"):
        export_model(folder, tmp_path / "out", ["keras"])
    assert list((tmp_path / "out").iterdir()) == []


def test_a_missing_library_is_named_with_its_extra(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UsageError, match=r"pip install 'pneumoseg\[onnx\]'"):
        export_model(model_folder, tmp_path)
