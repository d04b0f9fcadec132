import json
from pathlib import Path

import pytest

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.pacs.audit import Audit


def test_uids_are_hashed_with_a_key_that_stays(tmp_path: Path) -> None:
    for _ in range(2):
        audit = Audit(tmp_path)
        audit.write("received", study="1.2.3", ae="CR1\n", bytes=5)
        audit.close()
    first, second = map(json.loads, (tmp_path / "audit.log").read_text().splitlines())
    assert (first["study"], first["ae"], first["bytes"]) == (second["study"], "CR1\\n", 5)
    assert "1.2.3" not in (tmp_path / "audit.log").read_text()
    assert (tmp_path / "audit.key").stat().st_mode & 0o077 == 0
    assert Audit(tmp_path / "other").hash_of("1.2.3") != first["study"]


def test_a_log_behind_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "audit.log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(JobError, match="link"):
        Audit(tmp_path)
