from pathlib import Path

import pytest
from tests.conftest import bright_pixel_network, write_model

from pneumoseg.pipeline.model import catalogue
from pneumoseg.pipeline.model.catalogue import available_models, find_model


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with the model `tiny`; the current folder is another."""
    folder = write_model(tmp_path / "package" / "pretrained" / "tiny", bright_pixel_network())

    class Spec:
        submodule_search_locations = (str(tmp_path / "package"),)

    monkeypatch.setattr(catalogue, "find_spec", lambda _: Spec())
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def test_a_model_of_the_package_is_found_by_its_name(packaged: Path) -> None:
    assert available_models() == {"tiny": packaged}
    assert find_model("tiny") == packaged


def test_a_folder_goes_before_a_name(packaged: Path) -> None:
    Path("tiny").mkdir()
    assert find_model("tiny") == Path("tiny")


def test_what_is_neither_stays_as_it_is(packaged: Path) -> None:
    assert find_model(Path("models/other")) == Path("models/other")
