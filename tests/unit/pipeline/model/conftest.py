from pathlib import Path

import pytest
from tests.conftest import write_model
from tests.unit.pipeline.model.folders import tiny_network, write_knowing

from pneumoseg.models import AttentionUNet


@pytest.fixture
def network() -> AttentionUNet:
    return tiny_network(3)


@pytest.fixture
def folder(tmp_path: Path, network: AttentionUNet) -> Path:
    return write_model(tmp_path / "model", network, image_digests=("ab" * 8,))


@pytest.fixture
def knowing(tmp_path: Path) -> Path:
    """A model whose first member has seen the images B and C, and whose second one has seen A and C."""
    return write_knowing(tmp_path / "knowing")
