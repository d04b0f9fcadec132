import getpass
import os
import pwd
import tempfile
from pathlib import Path

import pytest

from pneumoseg.pipeline.core.surroundings import provide_user


def test_a_user_without_a_name_and_a_home_gets_both(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(number: int) -> object:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(os, "environ", {})  # so that nothing of it stays
    provide_user()
    assert getpass.getuser() == "pneumoseg"
    assert Path.home() == Path(tempfile.gettempdir())


def test_a_known_user_keeps_name_and_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "someone")
    monkeypatch.setenv("HOME", "/somewhere")
    provide_user()
    assert getpass.getuser() == "someone"
    assert Path.home() == Path("/somewhere")
