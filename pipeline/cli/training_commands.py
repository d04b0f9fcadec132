"""Commands that make or change a model: train, tune and quantize."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pneumoseg.pipeline.cli.options import (
    BatchSize,
    Device,
    ManifestFile,
    ModelFolder,
    Overwrite,
    Threads,
    Tta,
    Workers,
    check_fold,
    set_threads,
)
from pneumoseg.pipeline.core.console import console, say, warn
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.core.preset_files import presets

if TYPE_CHECKING:  # the jobs load MONAI
    from pneumoseg.pipeline.jobs.cross_validate import CrossValidateReport
    from pneumoseg.pipeline.jobs.train import TrainReport


def train(
    manifest: Annotated[
        Path | None,
        typer.Argument(
            help="Manifest written by `pneumoseg prepare`; with --resume or --after only needed if it has moved."
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Run folder.")] = None,
    fold: Annotated[
        str | None, typer.Option(help="Fold to hold out, or `all` to hold out each in turn; default: 0.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help=f"Named configuration: {', '.join(presets())}.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file with values that replace the preset's.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="section.key=value, which replaces the value of the file or preset."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs at the final resolution.")] = None,
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Side of the network's input in pixels.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images per optimizer step.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Highest learning rate of the schedule.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the run.")] = None,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Use deterministic algorithms only.")
    ] = False,
    show_config: Annotated[
        bool,
        typer.Option(
            "--show-config",
            help="Print all configuration keys with descriptions, values and defaults, and exit.",
        ),
    ] = False,
    initial: Annotated[
        Path | None,
        typer.Option(
            "--init",
            help="Model whose weights to start from: a folder, or a name that `pneumoseg models` lists.",
        ),
    ] = None,
    allow_seen: Annotated[
        bool,
        typer.Option(
            "--allow-seen", help="Accept held-out images that the weights of --init were trained on."
        ),
    ] = False,
    after: Annotated[
        Path | None,
        typer.Option(
            help="Run folder of a cross-validation with optimization.keep=last: train its configuration on the images "
            "of all folds, with its operating points, calibration and scores.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Resume the run in -o after its last saved step; only --epochs may differ, and only grow.",
        ),
    ] = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Processes that decode images and later load them from the cache; default: 0 on a processor, up to 2 "
            "beside a GPU.",
        ),
    ] = None,
    threads: Threads = None,
    cache: Annotated[
        Path | None, typer.Option(help="Cache folder for decoded images; default: beside the manifest.")
    ] = None,
    mlflow: Annotated[
        str | None, typer.Option(help="MLflow tracking store, for example sqlite:///mlruns.db.")
    ] = None,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Evaluate at the end and write report.html.")
    ] = True,
) -> None:
    """Train a network on all folds but one, one network per fold, or one on all folds, and write a model folder.

    `pneumoseg train --resume -o RUN` resumes a run; --epochs may then be higher than before, and the schedule is
    recomputed for the new length.
    """
    from pneumoseg.pipeline.core.config_files import explain_config, load_config
    from pneumoseg.pipeline.training.run_record import CONFIG, read_record

    values = {
        "epochs": epochs,
        "image_size": image_size,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
        "deterministic": deterministic or None,
    }
    resumed = output if resume else None
    if resumed and fold is None:
        before = read_record(resumed).fold
        fold = None if before is None else str(before)
    if after is not None:
        read_record(after)  # says what is missing
    base = resumed or after
    loaded = load_config(config, settings, preset=preset, base=base and base / CONFIG, options=values)
    if show_config:
        say(explain_config(loaded))
        return
    if output is None:
        raise UsageError("train needs a run folder; give -o RUN")
    if resume and overwrite:
        raise UsageError("--resume continues a run and --overwrite deletes it; give one of them")
    check_fold(fold)
    set_threads(threads)
    options: dict[str, Any] = {
        "config": loaded,
        "device": device,
        "workers": workers,
        "resume": resume,
        "overwrite": overwrite,
        "cache": cache,
        "initial": initial,
        "allow_seen": allow_seen,
        "mlflow": mlflow,
        "report": report,
    }
    if fold == "all" and after is not None:
        raise UsageError("--after trains on the images of all folds at once; leave out --fold")
    if fold == "all":
        from pneumoseg.pipeline.jobs.cross_validate import cross_validate

        whole = cross_validate(manifest, output, **options)
        _print_scores(whole, title=f"all {whole.folds} folds, each predicted by the network that held it out")
        return
    from pneumoseg.pipeline.jobs.train import train_model

    trained = train_model(manifest, output, fold=None if fold is None else int(fold), after=after, **options)
    others = "" if trained.members == 1 else f" and {trained.members - 1} more"
    _print_scores(trained, title=f"fold {trained.fold}, weights of epoch {trained.best_epoch}{others}")


def _print_scores(report: "TrainReport | CrossValidateReport", *, title: str) -> None:
    """Print the evaluation of a trained model, or the scores of its validation if it was not evaluated."""
    from pneumoseg.pipeline.cli.summaries import operating_point_table, print_evaluation
    from pneumoseg.pipeline.model.description import read_description

    if report.validation is None:
        say(
            f"wrote {report.model}, with operating points and scores of the cross-validation in its model card"
        )
        return
    if report.evaluation is not None:
        print_evaluation(report.evaluation, title=title)
        say(f"wrote {report.model} and {report.model.parent / 'report.html'}")
        return
    console.print(operating_point_table(report.validation, title=title))
    description = read_description(report.model)
    search = description.operating_point_search
    if search and search.cross_fitted:
        in_sample = search.objectives["challenge"].dice
        say(
            f"Dice: {in_sample:.4f} at the in-sample operating point, "
            f"{search.cross_fitted.dice:.4f} at the cross-fitted ones, which were tuned on other "
            + ("images" if description.trained_on.grouped_by == "nothing" else "patients")
        )
    say(f"wrote {report.model}")


def tune(
    model: ModelFolder,
    manifest: ManifestFile,
    output: Annotated[Path, typer.Option("-o", "--output", help="Model folder to write.")],
    add: Annotated[
        list[Path] | None,
        typer.Option(
            help="Another model whose networks join the ensemble, of another fold or seed; repeat it for more."
        ),
    ] = None,
    members: Annotated[
        str | None,
        typer.Option(
            help="Networks to keep, as comma-separated indices of model.json; those of --add follow in order. "
            "Default: all."
        ),
    ] = None,
    tta: Tta = None,
    average: Annotated[
        bool,
        typer.Option("--average", help="Average the weights of the networks of each model into one network."),
    ] = False,
    half: Annotated[
        bool, typer.Option("--half", help="Store the kernels in half precision: files of half the size.")
    ] = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
    batch_size: BatchSize = 8,
    workers: Workers = 1,
    threads: Threads = None,
) -> None:
    """Tune the operating points of a model anew, with other networks or another augmentation."""
    from pneumoseg.pipeline.cli.summaries import operating_point_table
    from pneumoseg.pipeline.core.runtime import Runtime
    from pneumoseg.pipeline.inference.passes import parse_tta
    from pneumoseg.pipeline.jobs.tune import tune_model

    if members is not None and not re.fullmatch(r"[0-9]{1,4}(,[0-9]{1,4})*", members):
        raise UsageError(f"--members {members}: indices with commas, such as 0,2, would fit")
    set_threads(threads)
    report = tune_model(
        model,
        manifest,
        output,
        added=add or (),
        members=None if members is None else [int(word) for word in members.split(",")],
        tta=parse_tta(tta),
        average=average,
        half=half,
        runtime=Runtime(device=device, batch_size=batch_size, workers=workers),
        overwrite=overwrite,
    )
    if report.scores is None:
        say("no image was held out: operating points and scores stay those of the cross-validation")
    else:
        console.print(operating_point_table(report.scores, title="Held-out cases, in-sample operating point"))
    if report.cross_fitted is not None:
        say(f"at cross-fitted operating points, Dice is {report.cross_fitted:.4f}")
    say(f"wrote {report.model}; networks: {report.members}")


def quantize(
    model: ModelFolder,
    manifest: ManifestFile,
    images: Annotated[int, typer.Option(min=1, help="Images of the calibration.")] = 64,
    overwrite: Overwrite = False,
    workers: Workers = 1,
    threads: Threads = None,
) -> None:
    """Quantise a model to int8 for --precision int8, and print the Dice that it costs."""
    from pneumoseg.pipeline.jobs.quantize import MOST_LOST, quantize_model

    set_threads(threads)
    report = quantize_model(model, manifest, images=images, workers=workers, overwrite=overwrite)
    exact, quantized = report.exact.dices.mean(), report.quantized.dices.mean()
    say(
        f"Dice on {len(report.exact.dices)} held-out images: {exact:.4f} in float32, {quantized:.4f} in int8; "
        f"difference {-report.lost:+.4f}, on the {report.exact.score.positives} positive ones "
        f"{-report.lost_of_positives:+.4f}"
    )
    if report.exit_code:
        warn(
            f"more than {MOST_LOST} is lost: use the model in float32 or bf16, or calibrate with more --images"
        )
    say(f"wrote {report.folder}")
    raise typer.Exit(report.exit_code)
