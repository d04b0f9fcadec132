import shutil
from pathlib import Path

import pytest
from tests.conftest import Collection

from pneumoseg.pipeline.reporting import charts


@pytest.fixture
def images(collection: Collection, tmp_path: Path) -> Path:
    """Radiographs that a test may add to: cases 0 and 1 with, 6 and 7 without a pneumothorax."""
    (tmp_path / "images").mkdir()
    for number in (0, 1, 6, 7):
        shutil.copy(collection.images / f"case{number:02}.dcm", tmp_path / "images")
    return tmp_path / "images"


@pytest.fixture
def plain_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the charts of reports empty, for tests that look at other results: they take longer than the rest."""
    monkeypatch.setattr(charts, "to_svg", lambda _, *, name: f"<svg><title>{name}</title></svg>")


@pytest.fixture
def unjudged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the look at the pictures: those of the collection are no chests, and far too small for one."""
    monkeypatch.setattr("pneumoseg.transforms.reader.radiograph.look_at", lambda _: [])
