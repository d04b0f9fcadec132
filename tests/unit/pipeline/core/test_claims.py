import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pneumoseg.pipeline.core.claims import (
    LOCK,
    claim_file,
    claim_folder,
    empty_folder,
    locked,
    refuse_links,
    remove_unfinished,
)
from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.core.files import (
    write_text,
    written_atomically,
)


def test_a_new_folder_is_made(tmp_path: Path) -> None:
    claim_folder(tmp_path / "a" / "b", overwrite=False, command="train")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_folder_that_holds_something_is_not_touched(tmp_path: Path) -> None:
    claim_folder(tmp_path / "a", overwrite=False, command="train")
    with pytest.raises(UsageError, match="--overwrite"):
        claim_folder(tmp_path / "a", overwrite=False, command="train")


def test_an_earlier_result_is_deleted_when_asked_for(tmp_path: Path) -> None:
    claim_folder(tmp_path / "a", overwrite=False, command="train")
    (tmp_path / "a" / "old.txt").touch()
    claim_folder(tmp_path / "a", overwrite=True, command="train")
    assert not (tmp_path / "a" / "old.txt").exists()


def test_a_result_that_was_interrupted_can_be_overwritten(tmp_path: Path) -> None:
    for _ in range(3):  # nothing is written after it is claimed
        claim_folder(tmp_path / "a", overwrite=True, command="train")


@pytest.mark.parametrize("command", [None, "predict"])
def test_a_folder_of_something_else_is_never_deleted(tmp_path: Path, command: str | None) -> None:
    if command:
        claim_folder(tmp_path / "a", overwrite=False, command=command)
    write_text(tmp_path / "a" / "thesis.txt", "x")
    with pytest.raises(UsageError, match="not an earlier result of `train`"):
        claim_folder(tmp_path / "a", overwrite=True, command="train")
    assert (tmp_path / "a" / "thesis.txt").exists()


def test_an_input_is_never_deleted_with_an_earlier_result(tmp_path: Path) -> None:
    claim_folder(tmp_path / "a", overwrite=False, command="predict")
    (tmp_path / "a" / "images").mkdir()
    for images in (tmp_path / "a" / "images", tmp_path / "a"):
        with pytest.raises(UsageError, match="would be emptied"):
            claim_folder(tmp_path / "a", overwrite=True, command="predict", inputs=[images])
    assert (tmp_path / "a" / "images").is_dir()


def test_a_link_to_an_earlier_result_is_claimed_as_the_folder_it_leads_to(tmp_path: Path) -> None:
    claim_folder(tmp_path / "a", overwrite=False, command="train")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    claim_folder(tmp_path / "link", overwrite=True, command="train")
    assert (tmp_path / "link").is_dir()


def test_a_file_in_place_of_a_folder_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(UsageError, match="is a file"):
        claim_folder(tmp_path / "a", overwrite=True, command="m")


def test_a_file_is_written_over_only_when_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(UsageError, match="--overwrite"):
        claim_file(tmp_path / "a", overwrite=False)
    claim_file(tmp_path / "a", overwrite=True)
    claim_file(tmp_path / "b", overwrite=False)


def test_an_input_is_never_replaced_by_the_result(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").touch()
    (tmp_path / "link.csv").symlink_to("labels.csv")
    for path in (tmp_path / "labels.csv", tmp_path / "link.csv"):
        with pytest.raises(UsageError, match="is also an input"):
            claim_file(path, overwrite=True, inputs=[tmp_path / "labels.csv"])


def test_a_pipe_or_a_device_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(UsageError, match="not a regular file"):
            claim_file(path, overwrite=True)


def test_a_file_that_could_not_be_made_is_an_error_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim_file(tmp_path / "new" / "folder" / "a.csv", overwrite=False)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        claim_file(tmp_path / "file" / "a.csv", overwrite=False)
    monkeypatch.setattr(os, "access", lambda *_: False)  # whoever runs the tests may write anywhere
    with pytest.raises(UsageError, match="cannot be written"):
        claim_file(tmp_path / "new" / "a.csv", overwrite=False)
    assert not (tmp_path / "new").exists()


def test_a_folder_in_place_of_a_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        claim_file(tmp_path, overwrite=True)


# --- one process at a time

HOLD = """
import sys
from pathlib import Path
from pneumoseg.pipeline.core.claims import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process_in(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that has the folder until its input ends."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "locked\n"
            yield process
        finally:
            process.kill()


def test_a_second_process_is_kept_out_of_a_folder(tmp_path: Path) -> None:
    with another_process_in(tmp_path) as process:
        with pytest.raises(JobError, match="is in use by another process"), locked(tmp_path):
            raise AssertionError
        assert process.poll() is None  # it does not wait for the end of the other process


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_a_lock_ends_with_its_process_however_that_ends(tmp_path: Path, how: str) -> None:
    with another_process_in(tmp_path) as process:
        if how == "killed":
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert process.returncode == -signal.SIGKILL
        else:
            process.communicate()
            assert process.returncode == 0
        with locked(tmp_path):
            pass


def test_a_folder_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), locked(tmp_path):
        raise RuntimeError
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError()])
def test_a_file_system_without_locks_is_an_error_with_file_and_workaround(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with (
        pytest.raises(JobError, match=r"\.lock: cannot be locked .*: give a folder on a local disk"),
        locked(tmp_path),
    ):
        raise AssertionError


def test_two_runs_in_one_process_are_kept_apart_too(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(JobError, match="in use"), locked(tmp_path):
        raise AssertionError


def test_other_folders_are_not_locked(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with locked(tmp_path / "a"), locked(tmp_path / "b"):
        pass


def test_an_earlier_result_can_be_gone_on_with(tmp_path: Path) -> None:
    claim_folder(tmp_path / "out", overwrite=False, command="predict", resume=True)
    (tmp_path / "out" / "result").write_text("keep me")
    claim_folder(tmp_path / "out", overwrite=False, command="predict", resume=True)
    assert (tmp_path / "out" / "result").read_text() == "keep me"
    with pytest.raises(UsageError, match="not an earlier result of `train`"):
        claim_folder(tmp_path / "out", overwrite=False, command="train", resume=True)


def test_a_folder_is_emptied_but_for_what_is_to_stay(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "mine").touch()
    out = tmp_path / "out"
    (out / "deep" / "er").mkdir(parents=True)
    (out / "deep" / "er" / "file").touch()
    (out / "link").symlink_to(tmp_path / "outside")
    for name in ("file", LOCK):
        (out / name).touch()
    empty_folder(out, keep={LOCK})
    assert [path.name for path in out.iterdir()] == [LOCK]
    assert (tmp_path / "outside" / "mine").exists()


def test_what_was_being_written_can_be_removed_from_all_subfolders(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    with written_atomically(tmp_path / "masks" / "a.png") as temporary:
        left = temporary.with_name(f"{temporary.stem}0.png")
        left.touch()  # as a killed process leaves it
    (tmp_path / "masks" / "b.png").touch()
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["a.png", "b.png"]


def test_a_lock_can_be_waited_for(tmp_path: Path) -> None:
    with another_process_in(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        with locked(tmp_path, patience_s=30):
            pass


def test_a_link_at_any_depth_of_a_folder_of_results_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "a" / "b").mkdir(parents=True)
    refuse_links(out)
    for target in (tmp_path, tmp_path / "nowhere"):
        (out / "a" / "b" / "link").symlink_to(target)
        with pytest.raises(JobError, match=r"a/b/link is a link") as caught:
            refuse_links(out)
        assert len(str(caught.value).splitlines()) == 1
        (out / "a" / "b" / "link").unlink()


def test_earlier_results_with_a_link_among_them_are_not_continued(tmp_path: Path) -> None:
    claim_folder(tmp_path / "out", overwrite=False, command="predict", resume=True)
    (tmp_path / "out" / "masks").symlink_to(tmp_path)
    with pytest.raises(JobError, match="masks is a link"):
        claim_folder(tmp_path / "out", overwrite=False, command="predict", resume=True)


def test_a_folder_of_results_may_itself_be_reached_through_a_link(tmp_path: Path) -> None:
    claim_folder(tmp_path / "out", overwrite=False, command="predict", resume=True)
    (tmp_path / "link").symlink_to("out")
    claim_folder(tmp_path / "link", overwrite=False, command="predict", resume=True)


def test_a_lock_is_not_taken_through_a_link_or_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("mine")
    (tmp_path / LOCK).symlink_to("target")
    with pytest.raises(JobError, match="is a link where a file belongs"), locked(tmp_path):
        raise AssertionError
    assert (tmp_path / "target").read_text() == "mine"
    (tmp_path / LOCK).unlink()
    (tmp_path / LOCK).mkdir()
    with pytest.raises(JobError, match="is a folder where a file belongs"), locked(tmp_path):
        raise AssertionError


def test_what_another_process_is_writing_is_not_removed(tmp_path: Path) -> None:
    for name in ("fold0", "fold1"):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        (tmp_path / name / "checkpoints" / ".writing-0.pt").touch()
    with another_process_in(tmp_path / "fold0"):
        remove_unfinished(tmp_path)
    assert [path.parent.parent.name for path in tmp_path.rglob(".writing-*")] == ["fold0"]
    remove_unfinished(tmp_path)
    assert not list(tmp_path.rglob(".writing-*"))


def test_a_job_deletes_what_a_killed_one_left_of_its_file_and_nothing_of_other_files(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from pneumoseg.pipeline.core.files import written_atomically\n"
        "with written_atomically(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    for name in ("table.csv", "other.csv"):
        subprocess.run([sys.executable, "-c", script, str(tmp_path / name)], check=False)
    assert len(list(tmp_path.iterdir())) == 2

    claim_file(tmp_path / "table.csv", overwrite=False)

    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("place", [".", "fold1"])
def test_results_that_a_process_is_writing_are_not_deleted(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "run"
    claim_folder(folder, overwrite=False, command="train")
    busy = folder / place
    busy.mkdir(exist_ok=True)
    with locked(busy), pytest.raises(JobError, match="is in use by another process"):
        claim_folder(folder, overwrite=True, command="train")
    assert busy.exists()
    claim_folder(folder, overwrite=True, command="train")
    assert list(folder.iterdir()) == [folder / ".pneumoseg-train"]
