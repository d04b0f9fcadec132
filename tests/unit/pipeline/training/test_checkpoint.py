from pathlib import Path
from typing import Any

import pytest
import torch

from pneumoseg.pipeline.errors import JobError
from pneumoseg.pipeline.training.checkpoint import load_state, save_state

STATE = {"network": {"w": torch.arange(3.0)}, "epoch": 2, "rows": [{"dice": None, "loss": 0.5}], "name": "x"}


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save_state(tmp_path / "a" / "last.pt", STATE)
    loaded = load_state(tmp_path / "a" / "last.pt")
    assert torch.equal(loaded.pop("network")["w"], torch.arange(3.0))
    assert loaded == {key: value for key, value in STATE.items() if key != "network"}


def test_a_run_that_dies_while_saving_leaves_the_state_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.pt"
    save_state(path, {"epoch": 1})

    def half(_: Any, where: Path) -> None:
        where.write_bytes(b"PK half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        save_state(path, {"epoch": 2})
    assert load_state(path) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


def test_no_state_is_an_error_that_says_how_to_start(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="without --resume"):
        load_state(tmp_path / "last.pt")


@pytest.mark.parametrize("content", [b"", b"x", b"PK\x03\x04 half", b"\x80\x04."])
def test_a_damaged_state_is_an_error_of_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "last.pt").write_bytes(content)
    with pytest.raises(JobError, match=r"last\.pt: cannot be loaded") as caught:
        load_state(tmp_path / "last.pt")
    assert len(str(caught.value).splitlines()) == 1


def test_a_state_cut_in_half_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_state(path, STATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(JobError, match="cannot be loaded"):
        load_state(path)


class Trap:
    """Something that runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("code was run",))


def test_code_in_a_state_is_refused_and_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"x": Trap()}, tmp_path / "last.pt")
    with pytest.raises(JobError, match="cannot be loaded"):
        load_state(tmp_path / "last.pt")
    assert "code was run" not in capsys.readouterr().out
