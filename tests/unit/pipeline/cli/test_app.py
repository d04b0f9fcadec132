import inspect
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import get_args

import pytest
from typer.main import get_group

from pneumoseg.pipeline.cli import app as cli
from pneumoseg.pipeline.core.preset_files import presets
from pneumoseg.pipeline.jobs import doctor, submit

COMMANDS = {info.callback.__name__: info.callback for info in cli.app.registered_commands if info.callback}


def options(command: str) -> dict[str, tuple[object, ...]]:
    """The options of a command: what they are called, how they are read and what their help says."""
    found: dict[str, tuple[object, ...]] = {}
    for name, parameter in inspect.signature(COMMANDS[command]).parameters.items():
        kind, meaning = get_args(parameter.annotation)
        found[name] = (kind, meaning.param_decls, meaning.help, meaning.min)
    return found


@pytest.mark.parametrize("command", ["check", "prepare", "predict", "submit"])
def test_what_reads_images_can_widen_the_acceptance_filters_and_follow_links(command: str) -> None:
    assert {"any_view", "any_modality", "any_body_part", "follow_links"} <= options(command).keys()


@pytest.mark.parametrize("command", ["check", "prepare", "evaluate", "predict", "submit"])
def test_what_decodes_takes_workers(command: str) -> None:
    assert "workers" in options(command)


@pytest.mark.parametrize("command", ["check", "predict"])
def test_what_warns_of_burned_in_annotations_can_be_told_to_accept_them(command: str) -> None:
    assert "allow_burned_in" in options(command)


def test_an_option_means_the_same_in_every_command() -> None:
    meanings = defaultdict(set)
    for command in COMMANDS.keys() - {"train", "export"}:  # other workers, and another choice of --tta
        for name, meaning in options(command).items():
            meanings[name].add(meaning)
    for name in (
        *(
            "any_view",
            "any_modality",
            "any_body_part",
            "allow_burned_in",
            "follow_links",
            "workers",
            "operating_point",
            "tta",
        ),
        *("device", "threads", "batch_size", "overwrite", "quiet", "verbose"),
    ):
        assert len(meanings[name]) == 1, name


def test_the_configuration_is_shown_without_manifest_and_run_folder(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["train", "--show-config", "--preset", "quick", "--epochs", "3", "--set", "data.batch_size=2"]
    cli.app([*words, "--learning-rate", "1e-3", "--deterministic"], standalone_mode=False)
    shown = capsys.readouterr().out
    for line in ("  epochs: 3", "  batch_size: 2", "  learning_rate: 0.001", "deterministic: true"):
        assert line in shown.splitlines()
    assert "# Values: auto, bf16, fp16 or float32. Default: auto." in shown


def test_the_help_of_train_names_the_presets_that_there_are() -> None:
    assert str(options("train")["preset"][2]).endswith(f": {', '.join(presets())}.")


def test_an_operating_point_is_chosen_by_name() -> None:
    group = get_group(cli.app)
    for command in ("evaluate", "predict", "submit"):
        (option,) = [each for each in group.commands[command].params if each.name == "operating_point"]
        assert option.opts == ["--operating-point"]


def test_the_end_of_a_file_is_no_interruption(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def end(*_: object, **__: object) -> None:
        raise EOFError("No data left in file")

    monkeypatch.setattr(doctor, "doctor_report", end)
    monkeypatch.setattr(sys, "argv", ["pneumoseg", "doctor"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert "No data left in file" in told
    assert "interrupted" not in told


INTERRUPTED = """
import os, signal
from pneumoseg.pipeline.cli import app
def interrupted_import(**_):
    try:
        exec("os.kill(os.getpid(), signal.SIGINT)")
    except KeyboardInterrupt:
        pass
    {then}
signal.signal(signal.SIGINT, signal.default_int_handler)
app.app = interrupted_import
app.main()
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(
    "then", ["return 130", "raise AttributeError('partially initialized module')", "raise KeyboardInterrupt"]
)
def test_an_interruption_ends_with_130_and_one_line_wherever_it_comes(then: str) -> None:
    """Typer returns 130, a library raises anything, and Python ends itself by a signal after exec() is interrupted."""
    found = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.format(then=then)], stderr=subprocess.PIPE, text=True, check=False
    )
    assert (found.returncode, found.stderr) == (130, "error: interrupted\n")


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (
            submit.SubmitReport(images=10, predicted_positive=2, left_out=0, refused=()),
            ["10 images, 2 predicted positive (20.0%)"],
        ),
        (
            submit.SubmitReport(
                images=10,
                predicted_positive=0,
                left_out=3,
                refused=(),
                filled=("a",),
                repeated=("b: lines 2, 4",),
            ),
            [
                "10 images, 0 predicted positive (0.0%); 3 images left out, which the sample does not list",
                "warning: rows that are negative because their image is missing or cannot be read: 1",
                "  a",
                "warning: ids that the sample submission lists more than once (one row each): 1",
                "  b: lines 2, 4",
                "warning: no image is predicted positive: the submission scores what predicting nothing scores",
            ],
        ),
    ],
)
def test_submit_says_what_is_in_the_submission_and_what_is_odd_about_it(
    report: submit.SubmitReport,
    expected: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(submit, "write_submission", lambda *_, **__: report)
    words = [
        "submit",
        str(tmp_path / "model"),
        str(tmp_path),
        "--sample",
        "s.csv",
        "-o",
        "made.csv",
        "-d",
        "cpu",
    ]
    monkeypatch.setattr(sys, "argv", ["pneumoseg", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == report.exit_code
    said = capsys.readouterr()
    assert said.out.splitlines() == [expected[0], "wrote made.csv"]
    assert said.err.splitlines() == expected[1:]


def test_the_command_sets_the_allocator_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[None] = []
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: calls.append(None))
    monkeypatch.setattr(sys, "argv", ["pneumoseg", "--version"])
    with pytest.raises(SystemExit):
        cli.main()
    assert calls == [None]
