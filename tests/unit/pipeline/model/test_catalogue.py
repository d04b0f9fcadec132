from pathlib import Path

import pytest
from tests.conftest import bright_pixel_network, write_model

from pneumoseg.pipeline.core.files import sha256_of
from pneumoseg.pipeline.model import catalogue
from pneumoseg.pipeline.model.catalogue import available_models, find_model
from pneumoseg.pipeline.model.description import read_description


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


def test_the_reference_model_is_small_and_its_weights_are_those_that_were_described() -> None:
    folder = available_models()["reference"]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 16e6
    description = read_description(folder)
    for member in description.members:
        assert sha256_of(folder / member.weights) == member.sha256
    assert description.trained_on.held_out_seen == 0


def test_the_card_of_the_reference_model_has_scores_with_intervals_by_subgroup_and_terms() -> None:
    card = (available_models()["reference"] / "MODEL_CARD.md").read_text()
    for title in ("## Training data", "## Terms", "95 % interval", "### Subgroups", "## Known failures"):
        assert title in card
