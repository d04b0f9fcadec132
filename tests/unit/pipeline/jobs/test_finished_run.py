from pathlib import Path

import pytest
from tests.conftest import Collection, bright_pixel_network, write_model

from pneumoseg.pipeline.core.config import TrainConfig
from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.jobs.finished_run import evaluate_run


def test_a_manifest_that_has_changed_during_the_run_does_not_score_its_model(
    collection: Collection, tmp_path: Path
) -> None:
    write_model(tmp_path / "model", bright_pixel_network(), manifest_sha256="0" * 64)
    with pytest.raises(JobError, match="has changed since the run began"):
        evaluate_run(tmp_path, collection.manifest_path, device="cpu", workers=0, config=TrainConfig())
    assert not (tmp_path / "evaluation").exists()
