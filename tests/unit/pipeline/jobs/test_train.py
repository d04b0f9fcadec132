from pathlib import Path
from typing import Any

import pytest
from monai.data import get_track_meta
from tests.conftest import TINY, Collection

from pneumoseg.pipeline.core.config import DataConfig, TrainConfig
from pneumoseg.pipeline.jobs import train


def test_a_training_that_fails_leaves_the_metadata_tracking_of_monai_as_it_was(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracked = []

    def fail(*_: Any, **__: Any) -> None:
        tracked.append(get_track_meta())
        raise OSError("the disk is gone")

    monkeypatch.setattr(train, "TrainingRun", fail)
    config = TrainConfig(network=TINY, data=DataConfig(image_size=16))
    assert get_track_meta()
    with pytest.raises(OSError, match="the disk is gone"):
        train.train_model(
            collection.manifest_path, tmp_path / "run", config=config, device="cpu", cache=tmp_path / "cache"
        )
    assert tracked == [False]
    assert get_track_meta()
