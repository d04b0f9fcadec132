"""A process that has done all imports and forks jobs that are killed: see `test_training_faults`.

It computes nothing itself: forking a process whose threads have worked may hang the child. A kill comes at a chosen
access to a file of the job's folder, or in the middle of a write that is longer than a chosen number of bytes.

    python nursery.py train MANIFEST FOLDER          or train-encoder, for a network with an encoder
    python nursery.py predict MODEL IMAGES FOLDER
"""

import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final
from unittest import mock

import torch
import torch._dynamo  # an optimizer imports it, which would take each child most of a second

from pneumoseg.pipeline.core.config import TrainConfig
from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.inference.model import ModelOptions
from pneumoseg.pipeline.jobs.predict import predict_folder
from pneumoseg.pipeline.jobs.train import train_model
from pneumoseg.pipeline.results import receipts
from pneumoseg.pipeline.results.settings import KINDS
from pneumoseg.pipeline.training import history
from pneumoseg.pipeline.training.checkpoint import load_state
from pneumoseg.pipeline.training.gallery import Gallery

CONFIG: Final[dict[str, Any]] = {
    "network": {"features": [4, 8, 8, 8, 8]},
    "data": {"image_size": 32, "batch_size": 4},
    "optimization": {"epochs": 4000, "patience": None, "ema": 0.9, "average": "top"},
    "precision": "float32",
    "save_minutes": 1e-9,  # after each step
}
ENCODER: Final = {"encoder": "efficientnet-lite0", "features": [8, 8, 8, 8, 8], "normalization": "group"}
ACCESSES: Final = {"open", "os.rename", "os.remove"}
AT_START: Final = {("open", "epoch"), ("os.remove", ".writ")}
"""Accesses of a resumed run before its first step: it reads the best epochs, and removes what was left unfinished."""


@dataclass
class Told:
    """What the test is told."""

    starts: int = 0
    kills: int = 0
    failures: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    """Accesses at which a kill came."""
    counts: list[int] = field(default_factory=list)
    """After each kill: the step of the state that loads, or the number of files with final names."""
    files: int = 0
    """Files that a prediction without an interruption writes."""

    def run(
        self,
        job: Callable[[], Any],
        folder: Path,
        *,
        access: tuple[str, int] | None = None,
        longest: int | None = None,
    ) -> list[str]:
        """Run a job in a child; returns the kinds of its accesses to files under *folder*.

        Args:
            job: What the child does.
            folder: Where accesses count.
            access: Access before which the child is killed: its kind, and its index among those, from 0.
            longest: Bytes of a file after which the child is killed while it writes.
        """
        self.starts += 1
        receiver, sender = os.pipe()
        child = os.fork()
        if child == 0:
            _be_child(job, folder, sender, access=access, longest=longest)
        os.close(sender)
        with os.fdopen(receiver) as lines:
            kinds = lines.read().split()
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            self.kills += 1
            self.kinds.append(kinds[-1] if longest is None else "write")
        elif status:
            self.failures.append(f"start {self.starts}: the job failed")
        return kinds


def _be_child(
    job: Callable[[], Any], folder: Path, sender: int, *, access: tuple[str, int] | None, longest: int | None
) -> None:
    kind, left = access or ("", 0)

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        path = str(arguments[0]) if event in ACCESSES else ""
        if path.startswith(str(folder)) and (event, Path(path).name[:5]) not in AT_START:
            os.write(sender, f"{event}\n".encode())
            left -= event == kind
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        torch.set_num_threads(1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if longest is not None:  # the system kills who writes more
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (longest, longest))
        sys.addaudithook(note)
        job()
        os._exit(0)
    except BaseException:  # noqa: BLE001  (a child must never continue as its parent)
        traceback.print_exc()
    finally:
        os._exit(1)


def kill_training(
    manifest: Path, run: Path, network: dict[str, Any] = CONFIG["network"], *, at_accesses: bool = True
) -> Told:
    """Kill a training in the middle and at the end of a write, then at each access to its checkpoints in turn.

    What each kill has left behind is loaded. Pictures are left out: they take longer than the steps.
    """
    told = Told()
    checkpoints = run / "checkpoints"
    mock.patch.object(history, "draw_progress").start()
    mock.patch.object(Gallery, "draw", return_value=[]).start()

    def train() -> None:
        config = TrainConfig.model_validate({**CONFIG, "network": network})
        train_model(manifest, run, config=config, device="cpu", resume=checkpoints.exists(), report=False)

    told.run(train, checkpoints, access=("os.remove", 0))  # there are states from now on
    largest = max(path.stat().st_size for path in checkpoints.glob("state-*.pt"))
    # a save opens its file three times and its folder once, renames the file and removes the oldest one
    counts = {"open": range(1, 5), "os.rename": range(2), "os.remove": range(2)}
    if not at_accesses:  # they do not depend on the network; the third removal comes after another save
        counts = {"os.remove": range(2, 3)}
    points: list[dict[str, Any]] = [{"longest": largest // 2}, {"longest": largest - 1}]
    points += [{"access": (kind, index)} for kind, indices in counts.items() for index in indices]
    for point in points:
        told.run(train, checkpoints, **point)
        try:
            told.counts.append(load_state(checkpoints, on_damage=told.failures.append)["iteration"])
        except JobError as error:
            told.failures.append(str(error))
    return told


def kill_predictions(model: Path, images: Path, folder: Path) -> Told:
    """Kill predictions once or twice, and compare what is there, then and at the end, with what should be."""
    told = Told()
    mock.patch.object(
        receipts, "now", return_value=datetime(2026, 3, 4, tzinfo=UTC)
    ).start()  # as if one analysis

    def job(output: Path) -> Callable[[], Any]:
        return lambda: predict_folder(
            model,
            images,
            output,
            options=ModelOptions(dropout_passes=2, tta=["flip"]),
            runtime=Runtime(device="cpu", workers=0),
            kinds=KINDS,
        )

    kinds = told.run(job(folder / "whole"), folder / "whole")
    whole = contents(folder / "whole")
    told.files = len(whole)
    largest = max(map(len, whole.values()))
    points: list[dict[str, Any]] = [{"longest": 1000}, {"longest": largest - 1}]
    for kind in ("open", "os.rename"):
        points += [{"access": (kind, kinds.count(kind) * part // 6)} for part in (1, 3, 5)]
    for index, point in enumerate(points):
        output = folder / f"round{index}"
        told.run(job(output), output, **point)
        told.counts.append(_compare(output, whole, told))
        if index % 3 == 0:
            told.run(job(output), output, access=("os.rename", kinds.count("os.rename") // 3))
            told.counts.append(_compare(output, whole, told))
        told.run(job(output), output)
        if _compare(output, whole, told) != len(whole):
            told.failures.append(f"{output.name}: files are missing at the end")
    return told


def contents(folder: Path) -> dict[str, bytes]:
    """All files that have their final names; the log tells of times, and the rest is nobody's result."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".") and path.name != "run.log"
    }


def _compare(output: Path, whole: dict[str, bytes], told: Told) -> int:
    """Count the files, after a check that each is what an uninterrupted run writes."""
    found = contents(output)
    wrong = [name for name, content in found.items() if whole.get(name) != content]
    told.failures += [f"{output.name}, after {told.kills} kills: {name}" for name in wrong]
    return len(found)


if __name__ == "__main__":
    kills: dict[str, Callable[..., Told]] = {
        "train": kill_training,
        "train-encoder": partial(kill_training, network=ENCODER, at_accesses=False),
        "predict": kill_predictions,
    }
    kill = kills[sys.argv[1]]
    sys.stdout.write(json.dumps(asdict(kill(*map(Path, sys.argv[2:])))))
