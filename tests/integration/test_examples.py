"""The scripts in examples/ run as they are."""

import runpy
from pathlib import Path

import pytest
import torch
from tests.conftest import Collection

from pneumoseg.models import AttentionUNet

EXAMPLE = Path(__file__).parents[2] / "examples" / "train_with_monai.py"
pytestmark = pytest.mark.slow


def test_forty_lines_train_the_network_with_stock_monai(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 40
    monkeypatch.setattr(
        "sys.argv", [str(EXAMPLE), str(collection.manifest_path), str(tmp_path / "weights.pt")]
    )
    torch.manual_seed(0)
    untrained = AttentionUNet(features=(4, 8, 16, 32, 64)).state_dict()
    torch.manual_seed(0)
    runpy.run_path(str(EXAMPLE))
    trained = torch.load(tmp_path / "weights.pt", map_location="cpu")
    AttentionUNet(features=(4, 8, 16, 32, 64)).load_state_dict(trained)
    assert all(value.isfinite().all() for value in trained.values())
    assert not torch.equal(trained["head.weight"], untrained["head.weight"])
