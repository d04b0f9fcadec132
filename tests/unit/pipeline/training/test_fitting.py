import errno
import multiprocessing
import os
import shutil
import signal
import stat
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from numpy.typing import NDArray
from tests.unit.pipeline.training.runs import (
    ENCODER,
    PowerCutError,
    before_step,
    configure,
    cut_power,
    differing,
    last,
    make_run,
    numbers,
    same,
    spoil,
    spoil_once,
    train,
)

from pneumoseg.pipeline.core.config import TrainConfig
from pneumoseg.pipeline.core.devices import Precision
from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.interruption import InterruptedRunError
from pneumoseg.pipeline.dataset.manifest import Case
from pneumoseg.pipeline.training.checkpoint import State
from pneumoseg.pipeline.training.fitting import fit
from pneumoseg.pipeline.training.history import History


@pytest.mark.parametrize(
    "step",
    [pytest.param(step, marks=[pytest.mark.slow] * (step != 4)) for step in range(1, 6)],
    ids="before step {}".format,
)
def test_a_run_whose_power_was_cut_resumes_bit_exactly(
    cases: tuple[Case, ...],
    pixels: NDArray[np.uint8],
    setting: tuple[TrainConfig, State],
    tmp_path: Path,
    step: int,
) -> None:
    config, expected = setting
    run = make_run(cases, pixels, config)
    before_step(run, step, cut_power)
    with pytest.raises(PowerCutError):
        train(run, tmp_path)
    torch.manual_seed(12345)  # another process has other random numbers
    train(make_run(cases, pixels, config), tmp_path, state=last(tmp_path))
    assert differing(last(tmp_path), expected) == []


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.slow
def test_loader_workers_change_no_bit(
    cases: tuple[Case, ...],
    pixels: NDArray[np.uint8],
    tmp_path: Path,
    workers: int,
) -> None:
    config = configure({"save_minutes": 1e-9}, epochs=2)
    expected = train(make_run(cases, pixels, config), tmp_path / "whole")
    run = make_run(cases, pixels, config, workers=workers)
    before_step(run, 2, cut_power)
    with pytest.raises(PowerCutError):
        train(run, tmp_path / "cut")
    resumed = train(
        make_run(cases, pixels, config, workers=workers), tmp_path / "cut", state=last(tmp_path / "cut")
    )
    assert same(resumed, expected)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_after_the_step_and_the_run_resumes_from_there(
    cases: tuple[Case, ...],
    pixels: NDArray[np.uint8],
    setting: tuple[TrainConfig, State],
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    config, expected = setting
    run = make_run(cases, pixels, config)
    before_step(run, 3, lambda: os.kill(os.getpid(), number))
    with pytest.raises(InterruptedRunError, match="saved after step 3 of") as caught:
        train(run, tmp_path)
    assert caught.value.exit_code == 128 + number
    train(make_run(cases, pixels, config), tmp_path, state=last(tmp_path))
    assert differing(last(tmp_path), expected) == []


def test_a_signal_interrupts_a_validation_which_is_repeated_on_resume(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], setting: tuple[TrainConfig, State], tmp_path: Path
) -> None:
    config, expected = setting
    run = make_run(cases, pixels, config)
    run.validator.add_event_handler(
        Events.ITERATION_STARTED(once=1), lambda: os.kill(os.getpid(), signal.SIGTERM)
    )
    with pytest.raises(InterruptedRunError):
        train(run, tmp_path)
    assert last(tmp_path)["history"]["rows"] == []
    train(make_run(cases, pixels, config), tmp_path, state=last(tmp_path))
    assert numbers(last(tmp_path)) == numbers(expected)


def test_there_is_a_checkpoint_before_the_first_step(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    run = make_run(cases, pixels, configure())
    before_step(run, 1, cut_power)
    with pytest.raises(PowerCutError):
        train(run, tmp_path)
    assert last(tmp_path)["iteration"] == 0


def test_the_same_run_twice_is_the_same_to_the_bit(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    one, other = (
        train(make_run(cases, pixels, configure(epochs=1)), tmp_path / name) for name in ("one", "other")
    )
    assert same(one, other)


def test_resuming_a_run_that_is_done_changes_nothing(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], setting: tuple[TrainConfig, State], tmp_path: Path
) -> None:
    config, state = setting
    assert same(train(make_run(cases, pixels, config), tmp_path, state=state), state["network"])


@pytest.mark.slow
def test_a_run_with_an_encoder_resumes_bit_exactly(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    config = configure({**ENCODER, "save_minutes": 1e-9})
    train(make_run(cases, pixels, config), tmp_path / "whole")
    expected = last(tmp_path / "whole")
    for step in (2, 4):  # in the frozen epoch, and after it
        folder = tmp_path / str(step)
        run = make_run(cases, pixels, config)
        before_step(run, step, cut_power)
        with pytest.raises(PowerCutError):
            train(run, folder)
        torch.manual_seed(12345)  # another process has other random numbers
        train(make_run(cases, pixels, config), folder, state=last(folder))
        assert differing(last(folder), expected) == []


def test_a_run_that_has_ended_is_resumed_when_it_is_made_longer(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    config = configure(epochs=2, average="swa", average_share=0.5)
    train(make_run(cases, pixels, config), tmp_path)
    longer = make_run(cases, pixels, configure(epochs=4, average="swa", average_share=0.5))
    train(longer, tmp_path, state=last(tmp_path))
    assert [row["epoch"] for row in last(tmp_path)["history"]["rows"]] == [1, 2, 3, 4]
    assert longer.epoch_average is not None
    assert longer.epoch_average.count == 2  # the last two of four, and not the second


def test_a_run_that_stopped_early_is_resumed_when_it_is_made_longer(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"learning_rate": 1e-12, "patience": 2}
    train(make_run(cases, pixels, configure(epochs=9, **settings)), tmp_path)
    before = len(last(tmp_path)["history"]["rows"])
    assert before < 9
    train(make_run(cases, pixels, configure(epochs=20, **settings)), tmp_path, state=last(tmp_path))
    assert len(last(tmp_path)["history"]["rows"]) == before + 3  # as patient as at first, and no longer


def test_a_run_that_stopped_early_stays_so_when_resumed(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    config = configure(epochs=9, learning_rate=1e-12, patience=2)
    train(make_run(cases, pixels, config), tmp_path)
    train(make_run(cases, pixels, config), tmp_path, state=last(tmp_path))
    assert len(last(tmp_path)["history"]["rows"]) == 3


def test_patience_does_not_start_again_in_a_resumed_run(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    config = configure(epochs=9, learning_rate=1e-12, patience=2)
    run = make_run(cases, pixels, config)
    before_step(run, 5, cut_power)  # after two epochs of two steps
    with pytest.raises(PowerCutError):
        train(run, tmp_path)
    train(make_run(cases, pixels, config), tmp_path, state=last(tmp_path))
    assert [row["epoch"] for row in last(tmp_path)["history"]["rows"]] == [1, 2, 3]


def test_a_run_without_a_gradient_scaler_can_be_resumed_where_there_is_one(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    train(make_run(cases, pixels, configure(epochs=1)), tmp_path)
    run = make_run(cases, pixels, configure(epochs=1))
    run.scaler = torch.amp.GradScaler("cpu", enabled=True)  # another machine computes in fp16
    train(run, tmp_path, state=last(tmp_path))
    assert run.scaler.get_scale() > 0


def test_a_non_finite_loss_is_an_error_of_one_line_that_names_the_cases(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    run = make_run(cases, pixels, configure())
    before_step(run, 2, lambda: spoil(run))
    with pytest.raises(JobError, match=r"the loss is nan at step 2; .*: case") as caught:
        train(run, tmp_path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("step", [2, 3], ids=["last of an epoch", "first of an epoch"])
def test_a_run_that_a_bad_step_ended_is_resumed_after_it_as_if_it_had_been_skipped(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path, step: int
) -> None:
    skipping = make_run(cases, pixels, configure(on_bad_step="skip", ema=0.9))
    before_step(skipping, step, lambda: spoil_once(skipping))
    train(skipping, tmp_path / "skip")
    run = make_run(cases, pixels, configure(ema=0.9))
    before_step(run, step, lambda: spoil_once(run))
    with pytest.raises(JobError, match=f"the loss is nan at step {step};"):
        train(run, tmp_path / "stop")
    assert last(tmp_path / "stop")["iteration"] == step
    train(make_run(cases, pixels, configure(ema=0.9)), tmp_path / "stop", state=last(tmp_path / "stop"))
    assert differing(last(tmp_path / "stop"), last(tmp_path / "skip")) == []


@pytest.mark.slow
def test_a_loader_process_that_dies_is_reported_and_the_run_saved(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    run = make_run(cases, pixels, configure({"save_minutes": 1e-9}, epochs=50, patience=None), workers=1)

    def kill_workers() -> None:
        for process in multiprocessing.active_children():
            if "Process" in type(process).__name__:
                os.kill(cast("int", process.pid), signal.SIGKILL)

    before_step(run, 3, kill_workers)
    with pytest.raises(JobError, match="a loader process ended"):
        train(run, tmp_path)
    assert last(tmp_path)["iteration"] >= 3


@pytest.mark.slow
def test_a_loader_process_that_an_interruption_ends_is_no_fault(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    """Ctrl-C reaches a loader process before it ignores the signal."""
    run = make_run(cases, pixels, configure(), workers=1)

    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        raise RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")

    before_step(run, 2, interrupt)
    with pytest.raises(InterruptedRunError, match="saved after step 1 of") as caught:
        train(run, tmp_path)
    assert caught.value.exit_code == 130


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried ..."
        ),
        MemoryError(),
    ],
    ids=["device", "torch", "python"],
)
def test_too_little_memory_is_reported_with_what_to_change(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path, error: Exception
) -> None:
    run = make_run(cases, pixels, configure())

    def run_out() -> None:
        raise error

    before_step(run, 2, run_out)
    with pytest.raises(JobError, match=r"too little memory .* a new one with .* data\.accumulate"):
        train(run, tmp_path)
    assert last(tmp_path)["iteration"] == 1


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_report_that_fails_leaves_a_run_that_resumes_bit_exactly(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path, epoch: int
) -> None:
    class Failing:
        def attach(self, engine: Engine) -> None:
            engine.add_event_handler(Events.EPOCH_COMPLETED(once=epoch), self.fail)

        def fail(self) -> None:
            raise OSError("the server is down")

    config = configure(epochs=2, average="swa", average_share=1.0)
    train(make_run(cases, pixels, config), tmp_path / "whole")
    folder = tmp_path / "failed"
    with pytest.raises(OSError, match="the server is down"):
        train(make_run(cases, pixels, config), folder, reports=[Failing()])
    train(make_run(cases, pixels, config), folder, state=last(folder))
    assert differing(last(folder), last(tmp_path / "whole")) == []


@pytest.mark.slow
def test_the_loss_falls(cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    train(make_run(cases, pixels, configure(epochs=12, patience=None)), tmp_path)
    rows = last(tmp_path)["history"]["rows"]
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]


def test_bf16_trains_close_to_float32(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    exact = make_run(cases, pixels, configure(epochs=1))
    rough = make_run(cases, pixels, configure(epochs=1))
    rough.step.precision = Precision(torch.device("cpu"), torch.bfloat16)
    train(exact, tmp_path / "exact")
    train(rough, tmp_path / "rough")
    losses = [last(tmp_path / name)["history"]["rows"][0]["loss"] for name in ("exact", "rough")]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_channels_last_trains_as_the_other_format_does(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    # without dropout, which draws its numbers in the order of memory
    for format_ in (True, False):
        config = configure({"network": {"dropout": 0}, "channels_last": format_}, epochs=2)
        train(make_run(cases, pixels, config), tmp_path / str(format_))
    one, other = (
        [row["loss"] for row in last(tmp_path / name)["history"]["rows"]] for name in ("True", "False")
    )
    assert one == pytest.approx(other, rel=1e-4)


# --- a disk that takes nothing


def fill_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)


def test_a_disk_that_is_full_at_the_first_save_ends_the_run_at_once_with_its_cause(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(cases, pixels, configure())
    steps: list[int] = []
    before_step(run, 1, lambda: steps.append(1))
    fill_disk(monkeypatch)
    with pytest.raises(JobError, match=r"step 0 could not be saved \(No space left on device\)") as caught:
        train(run, tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    assert steps == []


def test_a_run_whose_checkpoints_have_gone_stops_when_it_cannot_save(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(cases, pixels, configure())

    def lose() -> None:
        shutil.rmtree(tmp_path / "checkpoints")
        fill_disk(monkeypatch)

    before_step(run, 4, lose)
    with pytest.raises(JobError, match="No space left on device"):
        train(run, tmp_path)


@pytest.mark.parametrize("is_kept", [True, False])
def test_an_interrupted_run_claims_only_the_checkpoint_that_is_there(
    cases: tuple[Case, ...],
    pixels: NDArray[np.uint8],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_kept: bool,
) -> None:
    run = make_run(cases, pixels, configure())

    def stop() -> None:
        fill_disk(monkeypatch)
        if not is_kept:
            shutil.rmtree(tmp_path / "checkpoints")
        os.kill(os.getpid(), signal.SIGTERM)

    before_step(run, 1, stop)
    told = "saved after step 0 of 6, --resume" if is_kept else "nothing could be saved: start the run anew"
    with pytest.raises(InterruptedRunError, match=f"interrupted; {told}"):
        train(run, tmp_path)
    assert len(list((tmp_path / "checkpoints").iterdir())) == is_kept


def test_folders_that_cannot_be_synced_change_nothing_in_a_run(
    cases: tuple[Case, ...],
    pixels: NDArray[np.uint8],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    expected = train(make_run(cases, pixels, configure()), tmp_path / "synced")
    really = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        really(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    assert same(train(make_run(cases, pixels, configure()), tmp_path / "other"), expected)
    assert len(list((tmp_path / "other" / "checkpoints").glob("state-*.pt"))) == 2
    assert capsys.readouterr().err == ""


def test_a_run_whose_only_best_epoch_is_damaged_is_resumed_with_the_last_one(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    final = train(make_run(cases, pixels, configure()), tmp_path)
    for path in (tmp_path / "checkpoints").glob("epoch*.pt"):
        path.write_bytes(path.read_bytes()[:-1])
    run = make_run(cases, pixels, configure())
    best = fit(run, History(), tmp_path / "checkpoints", origin={}, state=last(tmp_path))
    assert "is damaged" in capsys.readouterr().err
    assert [entry.epoch for entry in best.entries] == [3]
    assert same(best.load(best.entries[0]), final)
