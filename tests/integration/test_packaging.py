"""The wheel that users get: built from the source archive, installed where nothing else of the project is."""

import os
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import version
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment that holds the wheel; its dependencies come from here."""
    folder = tmp_path_factory.mktemp("packaging")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    venv.create(folder / "environment", with_pip=False)
    programs = folder / "environment" / ("Scripts" if os.name == "nt" else "bin")
    scheme = {"base": str(folder / "environment"), "platbase": str(folder / "environment")}
    packages = Path(sysconfig.get_path("purelib", vars=scheme))
    pip = [sys.executable, "-m", "pip", "--python", str(programs / "python")]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", str(wheel)], check=True, capture_output=True)
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return programs


def test_the_command_says_its_version(installed: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [installed / "pneumoseg", "--version"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == f"pneumoseg {version('pneumoseg')}"


@pytest.mark.parametrize("room", ["data_manifests", "models", "pipeline", "transforms"])
def test_a_room_is_in_the_wheel_with_its_types(installed: Path, tmp_path: Path, room: str) -> None:
    code = f"from importlib.resources import files; p = files('pneumoseg.{room}') / 'py.typed'; print(p)"
    found = subprocess.run(
        [installed / "python", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert Path(found.stdout.strip()).is_file()
    assert str(installed.parent) in found.stdout


def test_the_main_job_is_importable_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = "import pneumoseg.pipeline.cli.app as cli; print(cli.__file__)"
    found = subprocess.run(
        [installed / "python", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert str(installed.parent) in found.stdout


def test_every_preset_is_in_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = "from pneumoseg.pipeline.core.config_files import load_config; "
    code += "from pneumoseg.pipeline.core.preset_files import presets; "
    code += "print(*[name for name in presets() if load_config(preset=name)])"
    found = subprocess.run(
        [installed / "python", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == sorted(
        path.stem for path in (ROOT / "pipeline" / "core" / "presets").iterdir()
    )


def test_the_reference_model_is_in_the_wheel_and_found_by_its_name(installed: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [installed / "pneumoseg", "models"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "reference" in result.stdout
    folder = Path(
        subprocess.run(
            [
                installed / "python",
                "-c",
                "from pneumoseg.pipeline.model.catalogue import find_model; print(find_model('reference'))",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    )
    assert installed.parent in folder.parents
    assert {path.name for path in folder.iterdir()} == {
        "MODEL_CARD.md",
        "LICENSE.md",
        "model.json",
        "weights",
    }
