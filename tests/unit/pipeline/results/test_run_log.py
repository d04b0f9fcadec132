import re
from collections import Counter
from pathlib import Path

import pytest

from pneumoseg.pipeline.results.run_log import RunLog, counts, logged


def test_runs_are_added_one_after_the_other(tmp_path: Path) -> None:
    for number in range(2):
        with logged(tmp_path / "run.log", facts={"files": number}):
            pass
    lines = (tmp_path / "run.log").read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == ["begin files=0", "end", "begin files=1", "end"]
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", line) for line in lines)


def test_rate_and_time_left_are_told_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    log = RunLog(tmp_path / "run.log")
    now[0] += 500  # looking for what an earlier run has left
    log.expect(100)
    for _ in range(20):
        now[0] += 2
        log.advance()
    (line,) = (tmp_path / "run.log").read_text().splitlines()
    # 15 files in 30 s are 0.5 a second; 85 are left
    assert line.endswith("15 of 100, 0.5/s, 170 s left")


def test_reasons_are_counted() -> None:
    assert counts(Counter({"NOT_DICOM": 2, "EMPTY_FILE": 1})) == "EMPTY_FILE=1 NOT_DICOM=2"
    assert counts(Counter()) == "none"
