"""A process that has all imports done and forks a training again and again: see `test_training_faults`.

It computes nothing itself: forking a process whose threads have worked may hang the child.

    python nursery.py MANIFEST RUN_DIR KILLS
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from pneumoseg.pipeline.core.config import TrainConfig
from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.jobs.train import train_model
from pneumoseg.pipeline.training.checkpoint import load_state

CONFIG = {
    "network": {"features": [4, 8, 8, 8, 8]},
    "data": {"image_size": 32, "batch_size": 4},
    "optimization": {"epochs": 4000, "patience": None, "ema": 0.9, "average": "top"},
    "precision": "float32",
    "save_minutes": 1e-9,  # after each step
}


def train(manifest: Path, run: Path) -> None:
    """Train, or go on, in a child."""
    torch.set_num_threads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    train_model(
        manifest,
        run,
        config=TrainConfig.model_validate(CONFIG),
        device="cpu",
        resume=(run / "checkpoints").exists(),
    )


def states(run: Path) -> set[str]:
    """The names of the states that are there."""
    return {path.name for path in (run / "checkpoints").glob("state-*.pt")}


def main() -> None:
    """Kill one training after the other at random moments, and load what each has left behind."""
    manifest, run, kills = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    moments = random.Random(0)
    steps: list[int] = []
    failures: list[str] = []
    for _ in range(kills):
        before = states(run)
        child = os.fork()
        if child == 0:
            try:
                train(manifest, run)
            finally:
                os._exit(1)
        deadline = time.monotonic() + 30
        while states(run) == before and time.monotonic() < deadline:
            time.sleep(0.002)  # until it has begun to work
        time.sleep(moments.uniform(0, 0.3))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        try:
            steps.append(load_state(run / "checkpoints", on_damage=failures.append)["iteration"])
        except JobError as error:
            failures.append(str(error))
    sys.stdout.write(json.dumps({"steps": steps, "failures": failures}))


if __name__ == "__main__":
    main()
