import logging
import re
from collections import Counter
from pathlib import Path

import pytest

from pneumoseg.pipeline.results.run_log import counts, logged


def test_runs_are_added_one_after_the_other(tmp_path: Path) -> None:
    for number in range(2):
        with logged(tmp_path / "run.log", facts={"files": number}):
            pass
    lines = (tmp_path / "run.log").read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == ["begin files=0", "end", "begin files=1", "end"]
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", line) for line in lines)


def test_no_other_handler_gets_the_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), logged(tmp_path / "run.log", facts={}) as log:
        log.info("segmented 4")
    assert not caplog.records
    assert "Z segmented 4\n" in (tmp_path / "run.log").read_text()


def test_a_disk_without_room_for_the_log_does_not_end_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    with logged(Path("/dev/full"), facts={"files": 1}) as log:
        log.info("segmented 4")
    assert capsys.readouterr() == ("", "")


def test_reasons_are_counted() -> None:
    assert counts(Counter({"NOT_DICOM": 2, "EMPTY_FILE": 1})) == "EMPTY_FILE=1 NOT_DICOM=2"
    assert counts(Counter()) == "none"
