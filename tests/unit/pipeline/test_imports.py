"""What each command imports decides how soon it starts; the time itself is measured by benchmarks/start_up.py."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import Collection

pytestmark = pytest.mark.slow
HEAVY = frozenset(
    {"highdicom", "ignite", "monai", "nibabel", "pandas", "scipy.optimize", "scipy.signal", "scipy.stats"}
    | {"sklearn", "tensorboard"}
)
DRAWING = frozenset({"jinja2", "matplotlib"})  # predict ends with a report
STAGES = """
import json, sys
from pathlib import Path

def loaded(call):
    call()
    return sorted(set(sys.modules))

def predict(*kinds):
    from pneumoseg.pipeline.jobs.predict import predict_folder
    from pneumoseg.pipeline.core.runtime import Runtime
    output = Path(sys.argv[3]) / "-".join(kinds)
    predict_folder(sys.argv[1], sys.argv[2], output, kinds=kinds, runtime=Runtime(device="cpu", workers=0))

def help_():
    from pneumoseg.pipeline.cli.app import app
    from typer.testing import CliRunner
    assert CliRunner().invoke(app, ["predict", "--help"]).exit_code == 0

def doctor():
    from pneumoseg.pipeline.jobs.doctor import doctor_report
    doctor_report()

def jobs(*names):
    for name in names:
        __import__(f"pneumoseg.pipeline.jobs.{name}")

stages = {
    "help": help_,
    "check and score": lambda: jobs("check", "score"),
    "doctor": doctor,
    "describe": lambda: jobs("describe"),
    "submit": lambda: jobs("submit"),
    "predict": lambda: predict("csv", "png", "overlay"),
}
print(json.dumps({name: loaded(stage) for name, stage in stages.items()}))
"""


@pytest.fixture(scope="module")
def modules(
    collection: Collection, model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, set[str]]:
    """The modules in memory after each stage, the lightest first, in one process."""
    images = tmp_path_factory.mktemp("image")
    (images / "a.dcm").write_bytes((collection.images / "case00.dcm").read_bytes())
    found = subprocess.run(
        [sys.executable, "-c", STAGES, model_folder, images, tmp_path_factory.mktemp("results")],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    return {stage: set(names) for stage, names in json.loads(found.splitlines()[-1]).items()}


def test_help_imports_neither_numbers_nor_networks(modules: dict[str, set[str]]) -> None:
    assert sorted((HEAVY | DRAWING | {"numpy", "pydicom", "scipy", "torch"}) & modules["help"]) == []


def test_checking_and_scoring_do_without_torch(modules: dict[str, set[str]]) -> None:
    assert sorted((HEAVY | DRAWING | {"torch"}) & modules["check and score"]) == []


@pytest.mark.parametrize("stage", ["doctor", "describe", "predict", "submit"])
def test_a_command_that_does_not_train_imports_neither_monai_nor_libraries_of_other_results(
    modules: dict[str, set[str]], stage: str
) -> None:
    assert "torch" in modules[stage]
    assert sorted(HEAVY & modules[stage]) == []
