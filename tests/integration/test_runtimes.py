"""The jobs in other runtimes than torch."""

import json
from pathlib import Path

import pytest
from tests.conftest import Collection, job_options

from pneumoseg.pipeline.jobs.evaluate import evaluate_model
from pneumoseg.pipeline.jobs.predict import predict_folder
from pneumoseg.pipeline.jobs.submit import write_submission

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PNEUMOSEG_CACHE", str(tmp_path / "cache"))


def test_submissions_of_all_runtimes_are_equal_in_float32(
    model_folder: Path, collection: Collection, tmp_path: Path
) -> None:
    written = []
    for runtime in ("torch", "onnx", "openvino"):
        path = tmp_path / f"{runtime}.csv"
        write_submission(
            model_folder,
            collection.images,
            path,
            shape=(48, 32),
            **job_options(runtime=runtime, tta=("flip",)),
        )
        written.append(path.read_text())
    assert "case00,-1" not in written[0]
    assert written[1:] == written[:1] * 2


def test_results_of_another_runtime_are_made_again_and_name_it(
    model_folder: Path, collection: Collection, tmp_path: Path
) -> None:
    for runtime, kept in (("torch", 0), ("onnx", 0), ("onnx", 12)):
        report = predict_folder(
            model_folder, collection.images, tmp_path / "out", kinds=["csv"], **job_options(runtime=runtime)
        )
        assert report.kept == kept
    evaluate_model(model_folder, collection.manifest_path, tmp_path / "scores", **job_options(runtime="onnx"))
    scores = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert (scores["runtime"], scores["computed_in"]) == ("onnx", "float32")
