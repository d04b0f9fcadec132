import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pydicom import uid

from pneumoseg.pipeline.jobs import doctor
from pneumoseg.pipeline.jobs.doctor import FLOORS, Library, doctor_report
from pneumoseg.transforms.reader.decoders import CODECS, NATIVE_SYNTAXES

PROJECT = Path(__file__).parents[4] / "pyproject.toml"


def floors_of_the_project() -> dict[str, str]:
    with PROJECT.open("rb") as file:
        dependencies = tomllib.load(file)["project"]["dependencies"]
    return dict(re.split(">=", line, maxsplit=1) for line in dependencies)


def test_the_floors_are_those_of_the_project() -> None:
    assert floors_of_the_project().items() >= FLOORS.items()


def test_the_floors_are_the_releases_whose_faults_are_known_to_be_gone() -> None:
    assert FLOORS == {"monai": "1.6.1", "pydicom": "3.0.2", "pillow": "13.0.0", "torch": "2.11"}


def test_the_python_floor_is_that_of_the_project() -> None:
    with PROJECT.open("rb") as file:
        requires = tomllib.load(file)["project"]["requires-python"]
    assert requires.startswith(f">={doctor_report().libraries[0].floor},")


def test_nothing_is_wrong_with_the_environment_of_the_tests() -> None:
    report = doctor_report()
    assert (report.exit_code, report.missing) == (0, ())
    assert all(library.is_ok for library in report.libraries)


@pytest.mark.parametrize(
    ("found", "is_ok"),
    [
        ("1.6.1", True),
        ("1.6.1+cpu", True),
        ("1.10", True),  # numbers, not letters
        ("2", True),
        ("1.6.0", False),
        ("1.6", False),
        ("0.9.99", False),
        ("unknown", False),
        (None, False),
    ],
)
def test_versions_are_compared_by_their_numbers(found: str | None, is_ok: bool) -> None:
    assert Library("monai", found, "1.6.1").is_ok is is_ok


@pytest.mark.parametrize("found", ["1.0", None])
def test_a_library_that_is_too_old_or_missing_fails(
    monkeypatch: pytest.MonkeyPatch, found: str | None
) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: found)
    assert doctor_report().exit_code == 1


def test_every_transfer_syntax_that_is_read_is_listed_once() -> None:
    listed = [decoder.transfer_syntax for decoder in doctor_report().decoders]
    assert len(set(listed)) == len(listed)
    assert set(listed) == {str(syntax) for syntax in (*NATIVE_SYNTAXES, *CODECS, uid.RLELossless)}


def test_a_decoder_whose_library_does_not_load_is_missing_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openjpeg.utils", None)
    report = doctor_report()
    assert {decoder.library for decoder in report.missing} == {"pylibjpeg-openjpeg"}
    assert len(report.missing) == 5
    assert report.exit_code == 1


def test_the_processor_is_named_with_the_precision_chosen_there() -> None:
    assert re.fullmatch(r"cpu: \w.*, \d+ threads, computes in (bf16|float32)", doctor_report().devices[0])


@pytest.mark.parametrize(("module", "name"), [("gdcm", "GDCM"), ("libjpeg", "pylibjpeg-libjpeg")])
def test_libraries_that_are_better_not_there_are_named_if_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str
) -> None:
    (tmp_path / f"{module}.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    report = doctor_report()
    assert any(line.startswith(f"{name} is importable; it is not used here") for line in report.advice)
    assert report.exit_code == 0


def test_a_missing_graphviz_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert any("Graphviz" in line for line in doctor_report().advice)


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    (line,) = (line for line in doctor_report().runtimes if line.startswith("runtime torch.compile:"))
    assert line.endswith("; needs a C++ compiler")


READ_WITH_TRAPS = """
import sys, types
class Trap(types.ModuleType):
    __path__ = []
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise SystemExit(f"{self.__name__}.{name} was used")
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("gdcm", "libjpeg", "_gdcm"):
            from importlib.machinery import ModuleSpec
            return ModuleSpec(name, self)
    def create_module(self, spec):
        return Trap(spec.name)
    def exec_module(self, module):
        pass
import pydicom  # looks for GDCM when it is imported
sys.meta_path.insert(0, Finder())
import gdcm, libjpeg
import numpy as np, imagecodecs
from pneumoseg.transforms.reader.decoders import CODECS
pixels = (np.arange(256) % 251).astype(np.uint8).reshape(16, 16)
streams = {
    "50": imagecodecs.jpeg8_encode(pixels),
    "51": imagecodecs.jpeg8_encode(pixels),
    "57": imagecodecs.jpeg8_encode(pixels, lossless=True),
    "70": imagecodecs.jpeg8_encode(pixels, lossless=True),
    "80": imagecodecs.jpegls_encode(pixels),
    "81": imagecodecs.jpegls_encode(pixels),
    "90": imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", level=0),
    "91": imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", level=0),
    "201": imagecodecs.htj2k_encode(pixels, reversible=True),
    "202": imagecodecs.htj2k_encode(pixels, reversible=True),
    "203": imagecodecs.htj2k_encode(pixels, reversible=True),
}
for syntax, codec in CODECS.items():
    stream = bytes(streams[syntax.split(".")[-1]])
    assert codec.decode(stream, codec.inspect(stream)).shape == (16, 16)
"""


def test_gdcm_and_the_gpl_decoder_are_not_used_even_where_they_are_installed() -> None:
    result = subprocess.run(
        [sys.executable, "-c", READ_WITH_TRAPS], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
