"""A small set of phantoms and a small model, made once for all integration tests."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.integration.archive import Archive, running_archive
from tests.integration.phantom_results import Study, write_phantom_results

from pneumoseg.pipeline.core.config import DataConfig, NetworkConfig, OptimizationConfig, TrainConfig
from pneumoseg.pipeline.jobs.prepare import prepare_manifest
from pneumoseg.pipeline.jobs.train import train_model
from pneumoseg.pipeline.phantom import PhantomSet, write_phantoms
from pneumoseg.pipeline.training import history
from pneumoseg.pipeline.training.gallery import Gallery

SIZE = 256
TINY = TrainConfig(
    network=NetworkConfig(features=(4, 8, 8, 16, 16)),
    data=DataConfig(image_size=64, batch_size=4),
    optimization=OptimizationConfig(epochs=2),
)


@pytest.fixture(autouse=True)
def plain_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the pictures of trainings, which take as long as a short training; the workshop's run has them."""
    monkeypatch.setattr(history, "draw_progress", lambda *_: None)
    monkeypatch.setattr(Gallery, "draw", lambda *_: [])


@dataclass(frozen=True)
class Workshop:
    """Where everything was made."""

    phantoms: PhantomSet
    manifest: Path
    run: Path
    model: Path


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Phantoms, prepared, and a network trained on them for a moment."""
    folder = tmp_path_factory.mktemp("workshop")
    phantoms = write_phantoms(folder / "data", count=20, test_count=8, size=SIZE)
    manifest = folder / "manifest.json"
    prepare_manifest(
        phantoms.images,
        [phantoms.labels],
        manifest,
        groups=phantoms.groups,
        folds=4,
        label_shape=(SIZE, SIZE),
    )
    report = train_model(manifest, folder / "run", config=TINY, device="cpu")
    return Workshop(phantoms, manifest, folder / "run", report.model)


@pytest.fixture(scope="session")
def studies(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Study]:
    """A positive and a negative phantom with all their DICOM results."""
    return write_phantom_results(model_folder, tmp_path_factory.mktemp("studies"))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """An empty Orthanc with authentication."""
    with running_archive(tmp_path_factory.mktemp("archive")) as running:
        yield running
