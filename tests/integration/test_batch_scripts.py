"""The scripts for SLURM call commands that exist, with the part or fold of their task; without SLURM."""

import os
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

from pneumoseg.pipeline.cli.app import app

SCRIPTS = Path(__file__).parents[2] / "examples" / "slurm"


def run_script(name: str, *arguments: str, folder: Path, **slurm: str) -> list[str]:
    """Run a script with programs that print their arguments instead of working; returns the words of the command."""
    for program in ("pneumoseg", "torchrun"):
        (folder / program).write_text('#!/bin/sh\nprintf "%s\\n" "${0##*/}" "$@"\n')
        (folder / program).chmod(0o755)
    told = subprocess.run(
        ["bash", str(SCRIPTS / name), *arguments],
        env={"PATH": f"{folder}:{os.environ['PATH']}", **slurm},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return told.stdout.splitlines()


def options_of(words: list[str]) -> dict[str, object]:
    """Parse the words of a command as `pneumoseg` does."""
    group = get_command(app)
    command = group.commands[words[0]]  # type: ignore[attr-defined]
    return dict(command.make_context(words[0], words[1:]).params)


def test_each_task_of_the_array_predicts_its_part(tmp_path: Path) -> None:
    words = run_script(
        "predict.sbatch", "run/model", "incoming", "predictions", folder=tmp_path,
        SLURM_ARRAY_TASK_COUNT="16", SLURM_ARRAY_TASK_ID="8", SLURM_ARRAY_TASK_MIN="1", SLURM_CPUS_PER_TASK="4",
    )  # fmt: skip
    options = options_of(words[1:])
    assert (options["num_parts"], options["part_id"], options["threads"]) == (16, 7, 4)
    assert options["output"] == Path("predictions")


def test_a_task_trains_its_fold_and_resumes_where_there_is_a_run(tmp_path: Path) -> None:
    task = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_CPUS_PER_TASK": "8"}
    options = options_of(run_script("folds.sbatch", "m.json", "runs", "quick", folder=tmp_path, **task)[1:])
    assert (options["fold"], options["preset"], options["output"]) == ("3", "quick", Path("runs/fold3"))
    (tmp_path / "runs" / "fold3").mkdir(parents=True)
    (tmp_path / "runs" / "fold3" / "run.json").touch()
    options = options_of(run_script("folds.sbatch", "m.json", "runs", "quick", folder=tmp_path, **task)[1:])
    assert options["resume"] is True
    assert options["output"] == Path("runs/fold3")


def test_each_gpu_of_the_node_gets_a_process(tmp_path: Path) -> None:
    words = run_script(
        "torchrun.sbatch", "m.json", "run", "reference", folder=tmp_path, SLURM_GPUS_ON_NODE="4"
    )
    assert words[:6] == ["torchrun", "--standalone", "--nproc-per-node", "4", "-m", "pneumoseg.pipeline"]
    assert options_of(words[6:])["preset"] == "reference"


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.sbatch")), ids=lambda path: path.name)
def test_the_options_for_slurm_stand_before_the_first_command(script: Path) -> None:
    lines = script.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    assert not any(line.startswith("#SBATCH") for line in lines[first:])
