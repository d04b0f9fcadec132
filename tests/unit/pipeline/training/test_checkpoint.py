import errno
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.training.checkpoint import (
    has_state,
    load_file,
    load_state,
    save_state,
    save_weights_file,
)

STATE = {
    "network": {"w": torch.arange(3.0)},
    "iteration": 2,
    "rows": [{"dice": None, "loss": 0.5}],
    "name": "x",
}


def state(iteration: int, **values: Any) -> dict[str, Any]:
    return {"iteration": iteration, **values}


def newest(folder: Path) -> Path:
    """The file of the state that was saved last."""
    wanted = load_state(folder)
    (found,) = [path for path in folder.iterdir() if load_file(path) == wanted]
    return found


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- what is kept


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save_state(tmp_path / "a", STATE)
    loaded = load_state(tmp_path / "a")
    assert torch.equal(loaded.pop("network")["w"], torch.arange(3.0))
    assert loaded == {key: value for key, value in STATE.items() if key != "network"}


def test_the_last_two_states_are_kept(tmp_path: Path) -> None:
    for iteration in (0, 5, 99_999_999, 100_000_000):
        save_state(tmp_path, state(iteration))
        assert load_state(tmp_path) == state(iteration)
    assert sorted(load_file(path)["iteration"] for path in tmp_path.iterdir()) == [99_999_999, 100_000_000]


def test_of_several_states_of_one_step_the_last_one_is_the_newest(tmp_path: Path) -> None:
    for moment in range(20):  # before, in and after the validation of an epoch
        save_state(tmp_path, state(5, moment=moment))
        assert load_state(tmp_path) == state(5, moment=moment)
    assert sorted(load_file(path)["moment"] for path in tmp_path.iterdir()) == [18, 19]


def test_a_name_ends_in_the_checksum_of_the_content(tmp_path: Path) -> None:
    save_state(tmp_path, STATE)
    save_weights_file(tmp_path, "epoch0001", {"network": {}})
    for path in tmp_path.iterdir():
        assert path.stem.endswith("-" + sha256(path.read_bytes()).hexdigest()[:16])


def test_a_weights_file_is_no_state(tmp_path: Path) -> None:
    assert not has_state(tmp_path)
    save_weights_file(tmp_path, "epoch0001", {"network": {}})
    assert not has_state(tmp_path)
    save_state(tmp_path, STATE)
    assert has_state(tmp_path)


def test_a_weights_file_tells_its_name_and_is_read_by_it(tmp_path: Path) -> None:
    name = save_weights_file(tmp_path, "epoch0007", {"network": {"w": torch.ones(2)}})
    assert name.startswith("epoch0007-")
    assert load_file(tmp_path / name)["network"]["w"].tolist() == [1, 1]


def test_no_state_is_an_error_that_says_how_to_start(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="without --resume"):
        load_state(tmp_path)
    with pytest.raises(JobError, match="without --resume"):
        load_state(tmp_path / "nowhere")


# --- damage


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def altered(content: bytes) -> bytes:
    return content[:-50] + bytes([content[-50] ^ 1]) + content[-49:]


def emptied(_: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [cut, altered, emptied])
def test_in_place_of_a_damaged_state_the_one_before_is_used_and_that_is_told(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    save_state(tmp_path, state(1))
    save_state(tmp_path, state(2))
    path = newest(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    told: list[str] = []
    assert load_state(tmp_path, on_damage=told.append) == state(1)
    (message,) = told
    assert f"{path}: is damaged" in message
    assert "the one before it is used" in message
    assert len(message.splitlines()) == 1


def test_a_damaged_state_of_before_does_not_matter(tmp_path: Path) -> None:
    save_state(tmp_path, state(1))
    old = newest(tmp_path)
    save_state(tmp_path, state(2))
    old.write_bytes(b"")
    told: list[str] = []
    assert load_state(tmp_path, on_damage=told.append) == state(2)
    assert told == []


def test_all_states_damaged_is_an_error_of_one_line(tmp_path: Path) -> None:
    for iteration in (1, 2):
        save_state(tmp_path, state(iteration))
    for path in tmp_path.iterdir():
        path.write_bytes(cut(path.read_bytes()))
    with pytest.raises(JobError, match="is damaged") as caught:
        load_state(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_state_after_a_damaged_one_is_the_newest(tmp_path: Path) -> None:
    for iteration in (1, 2):
        save_state(tmp_path, state(iteration))
    newest(tmp_path).write_bytes(b"")
    save_state(tmp_path, state(2, again=True))
    assert load_state(tmp_path) == state(2, again=True)


def test_a_file_that_is_gone_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"epoch0001-0\.pt: cannot be read \(No such file or directory\)"):
        load_file(tmp_path / "epoch0001-0.pt")


@pytest.mark.parametrize("content", [b"", b"x", b"PK\x03\x04 half", b"\x80\x04."])
def test_what_is_no_state_though_its_checksum_fits_is_an_error_of_one_line(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / f"x-{sha256(content).hexdigest()[:16]}.pt"
    path.write_bytes(content)
    with pytest.raises(JobError, match=r"\.pt: cannot be loaded") as caught:
        load_file(path)
    assert len(str(caught.value).splitlines()) == 1


class Trap:
    """Something that runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("code was run",))


def test_code_in_a_state_is_refused_and_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_state(tmp_path, state(1, x=Trap()))
    with pytest.raises(JobError, match="cannot be loaded"):
        load_state(tmp_path)
    assert "code was run" not in capsys.readouterr().out


# --- a full disk, and a kill


class Failing:
    """Lets the n-th of all calls that change the disk fail, once, and counts them."""

    def __init__(self, patch: pytest.MonkeyPatch, error: BaseException, *, nth: int) -> None:
        self.calls = 0
        self.error = error
        self.nth = nth
        self._cover(patch, os, "fsync")
        for name in ("replace", "write_bytes", "touch", "unlink", "mkdir"):
            self._cover(patch, Path, name)

    def _cover(self, patch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        genuine = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls != self.nth:
                return genuine(*args, **kwargs)
            if name == "write_bytes":  # as much as the disk could still hold
                genuine(args[0], bytes(args[1][: len(args[1]) // 2]))
            raise self.error

        patch.setattr(owner, name, call)


def calls_of_a_save(folder: Path) -> int:
    """How many calls change the disk when a third state is saved."""
    for iteration in (1, 2):
        save_state(folder, state(iteration))
    with pytest.MonkeyPatch.context() as patch:
        counter = Failing(patch, OSError(), nth=0)
        save_state(folder, state(3))
    return counter.calls


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_whichever_call_fails_the_old_or_the_new_state_loads_and_nothing_half_is_left(
    tmp_path: Path, error: BaseException
) -> None:
    calls = calls_of_a_save(tmp_path / "counted")
    assert calls >= 5  # mkdir, touch, write, fsync, replace, and what deletes the oldest
    for nth in range(1, calls + 1):
        folder = tmp_path / str(nth)
        for iteration in (1, 2):
            save_state(folder, state(iteration))
        with pytest.MonkeyPatch.context() as patch:
            Failing(patch, error, nth=nth)
            with pytest.raises(type(error)):
                save_state(folder, state(3))
        told: list[str] = []
        found = load_state(folder, on_damage=told.append)
        assert found in (state(2), state(3)), nth
        assert told == []
        assert [path.name for path in folder.iterdir() if path.suffix != ".pt" or path.name[0] == "."] == []
        save_state(folder, state(4))  # when there is room again
        assert load_state(folder) == state(4)
        assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("call", ["fsync", "replace", "write_bytes"])
def test_on_a_full_disk_the_states_that_are_there_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    for iteration in (1, 2):
        save_state(tmp_path, state(iteration))
    before = files(tmp_path)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os if call == "fsync" else Path, call, full)
    for _ in range(3):
        with pytest.raises(OSError, match="No space left"):
            save_state(tmp_path, state(3))
    assert files(tmp_path) == before
