import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from monai.data import get_track_meta
from tests.conftest import TINY, Collection

from pneumoseg.pipeline.core.claims import claim_folder
from pneumoseg.pipeline.core.config import DataConfig, TrainConfig
from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.jobs import cross_validate, train
from pneumoseg.pipeline.training.run_record import RunRecord


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


def test_a_run_begins_without_what_killed_processes_left_in_its_folder(tmp_path: Path) -> None:
    run, record = tmp_path / "run", RunRecord(manifest=tmp_path / "manifest.json")
    claim_folder(run, overwrite=False, command="train")
    (run / "checkpoints").mkdir()
    left = [run / ".writing-0.png", run / "checkpoints" / ".writing-1.pt"]
    for path in left:
        path.touch()
    with train._claimed(run, record, resume=True, overwrite=False):
        assert not any(path.exists() for path in left)


@pytest.mark.parametrize("name", ["checkpoints", "model", "metrics.csv", ".lock", "tensorboard"])
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_run_is_not_continued_through_a_link(tmp_path: Path, name: str, overwrite: bool) -> None:
    run, target, record = (
        tmp_path / "run",
        tmp_path / "target",
        RunRecord(manifest=tmp_path / "manifest.json"),
    )
    claim_folder(run, overwrite=False, command="train")
    target.mkdir()
    (target / "mine").touch()
    (run / name).symlink_to(target)
    if overwrite and name != ".lock":  # the link is deleted with the earlier run
        with train._claimed(run, record, resume=False, overwrite=True):
            assert not (run / name).exists()
    else:
        with (
            pytest.raises(JobError, match="is a link"),
            train._claimed(run, record, resume=True, overwrite=False),
        ):
            raise AssertionError
    assert [path.name for path in target.iterdir()] == ["mine"]


@pytest.mark.parametrize("job", [train.train_model, cross_validate.cross_validate])
def test_without_mlflow_its_option_is_an_error_before_anything_is_written(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: Callable[..., object]
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UsageError, match=r"pip install 'pneumoseg\[mlflow\]'"):
        job(collection.manifest_path, tmp_path / "run", mlflow="sqlite:///runs.db", device="cpu")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["manifest", "initial"])
def test_an_input_in_an_earlier_run_is_not_deleted_with_it(tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    claim_folder(run, overwrite=False, command="train")
    (run / "input").mkdir()
    record = RunRecord.model_validate({"manifest": tmp_path / "manifest.json", name: run / "input"})
    with (
        pytest.raises(UsageError, match="would be emptied"),
        train._claimed(run, record, resume=False, overwrite=True),
    ):
        raise AssertionError
    assert (run / "input").is_dir()
