import stat
from pathlib import Path

import pytest

from pneumoseg.pipeline.runtimes.cache import cache_folder, versions


def test_the_cache_is_a_private_folder_among_the_users_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PNEUMOSEG_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert cache_folder() == tmp_path / "pneumoseg"
    assert stat.S_IMODE(cache_folder().stat().st_mode) == 0o700


def test_a_temporary_folder_serves_where_the_cache_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PNEUMOSEG_CACHE", str(tmp_path / "file" / "cache"))
    assert cache_folder().is_dir()
    assert cache_folder() == cache_folder()


def test_entries_depend_on_the_versions_of_the_libraries() -> None:
    assert {"pneumoseg", "torch", "onnxruntime", "openvino", "python"} <= versions().keys()
