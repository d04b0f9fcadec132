"""A process that has all imports done and forks a prediction again and again: see `test_predict_faults`.

It computes nothing itself: forking a process whose threads have worked may hang the child.

    python predict_nursery.py MODEL IMAGES FOLDER KILLS
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import torch

from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.inference.model import ModelOptions
from pneumoseg.pipeline.jobs.predict import predict_folder
from pneumoseg.pipeline.results.settings import KINDS


def start(model: Path, images: Path, output: Path) -> int:
    """Predict in a child; give its process id."""
    child = os.fork()
    if child == 0:
        try:
            torch.set_num_threads(1)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            predict_folder(
                model,
                images,
                output,
                options=ModelOptions(dropout_passes=2, tta=["flip"]),
                runtime=Runtime(device="cpu", workers=0),
                kinds=KINDS,
            )
            os._exit(0)
        except BaseException:  # noqa: BLE001  (a child must never go on as its parent)
            traceback.print_exc()
        finally:
            os._exit(1)
    return child


def contents(folder: Path) -> dict[str, bytes]:
    """All files that have their final names; the log tells of times, and the rest is nobody's result."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".") and path.name != "run.log"
    }


def main() -> None:
    """Kill one prediction after the other at random moments, and compare what is there with what should be."""
    model, images, folder, kills = *map(Path, sys.argv[1:4]), int(sys.argv[4])
    moments = random.Random(0)
    failures: list[str] = []
    began = time.monotonic()
    _, status = os.waitpid(start(model, images, folder / "whole"), 0)
    needed = time.monotonic() - began
    whole = contents(folder / "whole")
    killed, rounds, on_the_way, before = 0, 0, set(), 0
    while (killed < kills or rounds == 0) and not failures and status == 0:
        output = folder / f"round{rounds}"
        child = start(model, images, output)
        time.sleep(moments.uniform(0, needed))
        if killed < kills:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        found = contents(output) if output.exists() else {}
        # the tables of an earlier, whole run would be the same
        wrong = [name for name, content in found.items() if whole.get(name) != content]
        failures += [f"after {killed} kills, round {rounds}: {name}" for name in wrong]
        on_the_way.add(len(found))
        if os.WIFSIGNALED(status):
            killed, status = killed + 1, 0
            if len(found) == before:  # nothing was done: the machine is slower than it was
                needed *= 1.2
        elif found != whole:
            failures.append(f"round {rounds}: ended with {len(found)} of {len(whole)} files")
        else:
            rounds += 1
            needed *= 0.8
        before = len(found)
    sys.stdout.write(
        json.dumps(
            {
                "killed": killed,
                "rounds": rounds,
                "states": len(on_the_way),
                "failures": failures,
                "files": len(whole),
                "status": status,
            }
        )
    )


if __name__ == "__main__":
    main()
