from pathlib import Path
from typing import Any

import pytest
from tests.conftest import draw_case, write_radiograph
from tests.unit.pipeline.pacs.listeners import make_config

from pneumoseg.pipeline.jobs import listen
from pneumoseg.pipeline.reading import readers
from pneumoseg.pipeline.reading.worker_process import WorkerProcess


@pytest.mark.slow
def test_one_decode_worker_serves_all_studies(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []

    class CountedWorker(WorkerProcess):
        def __init__(self, *arguments: Any) -> None:
            started.append(self)
            super().__init__(*arguments)

    class Studies:
        """A service that gets two studies."""

        def __init__(self, _: Any, analyse: Any) -> None:
            self.analyse = analyse

        def run(self, ready: Any) -> int:
            for number in (0, 1):
                pixels, _ = draw_case(number, positive=True)
                write_radiograph(tmp_path / f"{number}" / "a.dcm", pixels, SOPInstanceUID=f"1.2.{number}")
                made = self.analyse(tmp_path / f"{number}", tmp_path / f"results{number}", ["seg"])
                assert list(made.results) == [f"seg/1.2.{number}.dcm"]
                assert [(name, image.status) for name, image in made.images.items()] == [("a.dcm", "review")]
            return 15

    monkeypatch.setattr(readers, "WorkerProcess", CountedWorker)
    monkeypatch.setattr(listen, "Service", Studies)
    config = make_config(tmp_path, analysis={"model": str(model_folder), "device": "cpu", "workers": 1})
    assert listen.listen_to_archive(config) == 15
    assert len(started) == 1
    assert started[0].has_ended
