"""The `pneumoseg` command: it reads the words, calls one job, and says what came of it.

Jobs are imported inside their commands: MONAI takes seconds to import, and `--help` should not.
"""

import functools
import inspect
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pneumoseg.pipeline.core.console import complain, console, say, warn
from pneumoseg.pipeline.core.errors import JobError, UsageError

if TYPE_CHECKING:
    from pneumoseg.pipeline.jobs.evaluate import EvaluateReport
    from pneumoseg.pipeline.scoring.case_curves import OperatingPointScores

_SHOWN_PROBLEMS: Final = 5
_PRESETS: Final = sorted(path.stem for path in Path(__file__).with_name("presets").glob("*.yaml"))


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Find and outline pneumothorax on chest radiographs. Research software, not a medical device.",
)


class _Verbosity:
    """What -v and -q set."""

    tracebacks = False

    @classmethod
    def be_verbose(cls, value: bool) -> None:
        cls.tracebacks = cls.tracebacks or value

    @classmethod
    def be_quiet(cls, value: bool) -> None:
        console.quiet = console.quiet or value


_VERBOSITY: Final = {
    "verbose": Annotated[
        bool,
        typer.Option(
            "-v", "--verbose", callback=_Verbosity.be_verbose, help="Show where an error comes from."
        ),
    ],
    "quiet": Annotated[
        bool, typer.Option("-q", "--quiet", callback=_Verbosity.be_quiet, help="Only warnings and errors.")
    ],
}


def _with_verbosity(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options -v and -q, which have done their work before it is called."""

    @functools.wraps(function)
    def call(**options: Any) -> None:
        function(**{name: value for name, value in options.items() if name not in _VERBOSITY})

    signature = inspect.signature(function)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
        for name, annotation in _VERBOSITY.items()
    ]
    parameters = [*signature.parameters.values(), *added]
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _command(function: Callable[..., None]) -> None:
    app.command()(_with_verbosity(function))


Device = Annotated[str, typer.Option("-d", "--device", help="auto, cpu or cuda:N.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Processor threads of the network; all if left out.")
]
BatchSize = Annotated[int, typer.Option(min=1, help="Images at a time.")]
ModelFolder = Annotated[
    Path, typer.Argument(help="Model folder: the model/ of a training run.", show_default=False)
]
ManifestFile = Annotated[Path, typer.Argument(help="Made by `pneumoseg prepare`.", show_default=False)]
AnyView = Annotated[bool, typer.Option("--any-view", help="Take other views than AP and PA.")]
AnyModality = Annotated[
    bool,
    typer.Option("--any-modality", help="Take other modalities than CR and DX, of any view and body part."),
]
AnyBodyPart = Annotated[bool, typer.Option("--any-body-part", help="Take other body parts than the chest.")]
AllowBurnedIn = Annotated[
    bool, typer.Option("--allow-burned-in", help="Take text burned into an image for harmless.")
]
Workers = Annotated[int, typer.Option(min=1, help="Processes that decode.")]
Tta = Annotated[
    str | None,
    typer.Option(
        help="Test-time augmentation to apply: flip, scale, both with a comma, or none; default: the model's own.",
        show_default=False,
    ),
]
Aim = Annotated[
    str | None,
    typer.Option(
        help="What the search is to be best for: challenge, specificity, screening, or like specificity=0.9.",
        show_default=False,
    ),
]
Calibrated = Annotated[
    bool, typer.Option("--calibrated", help="Probabilities at the temperature that training has fitted.")
]
DropoutPasses = Annotated[
    int, typer.Option(min=0, help="Monte-Carlo dropout samples for the uncertainty estimate.")
]


def main() -> None:
    """Run the command; every error is one line and an exit code."""
    try:
        code = app(standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        code = _fail("interrupted", code=130)
    except typer.TyperException as error:
        message = error.format_message()  # empty where the help was asked for by giving no argument
        code = _fail(f"{message} See --help.", code=error.exit_code) if message else error.exit_code
    except JobError as error:
        code = _fail(*str(error).split("\n"), code=error.exit_code)
    except OSError as error:  # a full disk, a folder that may not be written to
        code = _fail(f"{error.filename or 'a file'}: {error.strerror or error}", code=1)
    except Exception as error:  # noqa: BLE001  (the last resort: a defect of ours, in one line all the same)
        code = _fail(
            f"{type(error).__name__}: {error}; this is a defect of pneumoseg, -v shows where", code=1
        )
    sys.exit(code)


def _fail(message: str, *details: str, code: int) -> int:
    if _Verbosity.tracebacks:
        complain(*traceback.format_exc().splitlines())
    complain(f"error: {message}", *details)
    return code


def _print_version(value: bool) -> None:
    if value:
        say(f"pneumoseg {version('pneumoseg')}")
        raise typer.Exit


@app.callback()
@_with_verbosity
def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take what stands before the command."""


@_command
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for all that is made.")] = Path(
        "demo"
    ),
    overwrite: Overwrite = False,
    device: Device = "auto",
    threads: Threads = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the phantoms and of the training.")] = 0,
) -> None:
    """Go through the whole pipeline on built-in phantom radiographs, in minutes."""
    from pneumoseg.pipeline.jobs.demo import run_demo

    _set_threads(threads)
    raise typer.Exit(run_demo(output, device=device, seed=seed, overwrite=overwrite).exit_code)


@_command
def prepare(
    images: Annotated[
        Path, typer.Argument(help="Folder of DICOM and PNG files, with subfolders.", show_default=False)
    ],
    labels: Annotated[
        list[Path],
        typer.Option("--labels", help="CSV of run lengths; may be given several times.", show_default=False),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The manifest.")] = Path("manifest.json"),
    groups: Annotated[Path | None, typer.Option(help="CSV with the columns ImageId,PatientGroup.")] = None,
    folds: Annotated[int, typer.Option(min=2, help="Parts that are held out in turn.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the assignment to folds.")] = 0,
    id_column: Annotated[
        str, typer.Option(help="Label column that holds the names of the files.")
    ] = "ImageId",
    label_shape: Annotated[
        tuple[int, int], typer.Option(help="Rows and columns that the run lengths are counted over.")
    ] = (1024, 1024),
    name: Annotated[
        str | None, typer.Option(help="What the collection is called; the folder's name if left out.")
    ] = None,
    any_view: AnyView = False,
    any_modality: AnyModality = False,
    any_body_part: AnyBodyPart = False,
    overwrite: Overwrite = False,
    workers: Workers = 1,
) -> None:
    """Match radiographs with labels, and divide the patients into folds."""
    from pneumoseg.pipeline.cli.summaries import prepare_summary
    from pneumoseg.pipeline.jobs.prepare import prepare_manifest

    report = prepare_manifest(
        images,
        labels,
        output,
        groups=groups,
        folds=folds,
        seed=seed,
        id_column=id_column,
        label_shape=label_shape,
        name=name,
        acceptance=_acceptance(any_view=any_view, any_modality=any_modality, any_body_part=any_body_part),
        workers=workers,
        overwrite=overwrite,
    )
    _warn_some(report.label_problems, "label rows cannot be trusted")
    _warn_some(report.label_warnings, "remarks on the labels")
    console.print(*prepare_summary(report), sep="\n")
    say(f"wrote {output}")
    raise typer.Exit(report.exit_code)


@_command
def train(
    manifest: Annotated[
        Path | None,
        typer.Argument(
            help="Manifest written by `pneumoseg prepare`; with --resume only needed if it has moved.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Run folder.", show_default=False)
    ] = None,
    fold: Annotated[
        str | None,
        typer.Option(
            help="Fold to hold out, or `all` to hold out each in turn; default: 0.", show_default=False
        ),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help=f"Named configuration: {', '.join(_PRESETS)}.", show_default=False)
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file with values that replace the preset's.", show_default=False)
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="section.key=value, which replaces the file's value.", show_default=False),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs at the final resolution.", show_default=False)
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Side of the network's input in pixels.", show_default=False)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images per step.", show_default=False)
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Highest learning rate of the schedule.", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the run.", show_default=False)] = None,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Use deterministic algorithms only.")
    ] = False,
    show_config: Annotated[
        bool,
        typer.Option(
            "--show-config", help="Print all keys with their meaning, values and defaults, and stop."
        ),
    ] = False,
    initial: Annotated[
        Path | None,
        typer.Option("--init", help="Model folder whose weights to start from.", show_default=False),
    ] = None,
    allow_seen: Annotated[
        bool, typer.Option("--allow-seen", help="Hold out images that the weights of --init have seen.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Resume the run in -o after its last saved step; only --epochs may differ, and only grow.",
        ),
    ] = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode, and later load, images.")] = 0,
    threads: Threads = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder of decoded images; default: beside the manifest.", show_default=False),
    ] = None,
    mlflow: Annotated[
        str | None, typer.Option(help="MLflow tracking store, like sqlite:///mlruns.db.", show_default=False)
    ] = None,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Evaluate at the end and write report.html.")
    ] = True,
) -> None:
    """Train a network on all folds but one, or one for each fold, and write a model folder.

    `pneumoseg train --resume -o RUN` resumes a run; --epochs may then be higher than before, and the schedule is
    computed anew over the new length.
    """
    from pneumoseg.pipeline.core.config import explain_config, load_config
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
        fold = str(read_record(resumed).fold)
    loaded = load_config(config, settings, preset=preset, base=resumed and resumed / CONFIG, options=values)
    if show_config:
        say(explain_config(loaded))
        return
    if output is None:
        raise UsageError("train needs a run folder; give -o RUN")
    if resume and overwrite:
        raise UsageError("--resume continues a run and --overwrite deletes it; give one of them")
    if fold not in (None, "all") and not fold.isdecimal():
        raise UsageError(f"--fold {fold}: a number or `all` would fit")
    _set_threads(threads)
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
    if fold == "all":
        from pneumoseg.pipeline.jobs.cross_validate import cross_validate

        whole = cross_validate(manifest, output, **options)
        _say_scores(
            whole.out_of_fold,
            whole.evaluation,
            whole.model,
            title=f"each of {whole.folds} folds by the network that held it out",
        )
        raise typer.Exit(whole.exit_code)
    from pneumoseg.pipeline.jobs.train import train_model

    trained = train_model(manifest, output, fold=None if fold is None else int(fold), **options)
    others = "" if trained.members == 1 else f" and {trained.members - 1} more"
    _say_scores(
        trained.validation,
        trained.evaluation,
        trained.model,
        title=f"fold {trained.fold}, weights of epoch {trained.best_epoch}{others}",
    )
    raise typer.Exit(trained.exit_code)


@_command
def evaluate(
    model: ModelFolder,
    manifest: ManifestFile,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for scores.json and tables.", show_default=False)
    ],
    fold: Annotated[str | None, typer.Option(help="A fold, or `all`; the one held out if left out.")] = None,
    aim: Aim = None,
    tta: Tta = None,
    calibrated: Calibrated = False,
    dropout_passes: DropoutPasses = 0,
    examples: Annotated[int, typer.Option(min=0, help="Cases of each kind in the report's gallery.")] = 3,
    overwrite: Overwrite = False,
    device: Device = "auto",
    batch_size: BatchSize = 8,
    workers: Workers = 1,
    threads: Threads = None,
) -> None:
    """Score a model on the fold that it never saw, beside predicting nothing."""
    from pneumoseg.pipeline.cli.summaries import evaluation_table
    from pneumoseg.pipeline.inference.tta import parse_tta
    from pneumoseg.pipeline.jobs.evaluate import evaluate_model

    if fold is not None and fold != "all" and not fold.isdecimal():
        raise UsageError(f"--fold {fold}: a number or `all` would fit")
    _set_threads(threads)
    report = evaluate_model(
        model,
        manifest,
        output,
        fold=int(fold) if fold not in (None, "all") else None,
        all_folds=fold == "all",
        aim=aim,
        tta=parse_tta(tta),
        calibrated=calibrated,
        dropout_passes=dropout_passes,
        device=device,
        batch_size=batch_size,
        workers=workers,
        examples=examples,
        overwrite=overwrite,
    )
    title = "all folds" if report.fold is None else f"fold {report.fold}"
    console.print(evaluation_table(report, title=title))
    _warn_seen(report)
    say(f"wrote {output / 'report.html'}, {output / 'scores.json'} and {output / 'cases.csv'}")
    raise typer.Exit(report.exit_code)


@_command
def submit(
    model: ModelFolder,
    images: Annotated[
        Path, typer.Argument(help="Folder of DICOM and PNG files, with subfolders.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The submission.")] = Path("submission.csv"),
    sample: Annotated[
        Path | None, typer.Option(help="sample_submission.csv: which images, in which order.")
    ] = None,
    aim: Aim = None,
    tta: Tta = None,
    any_view: AnyView = False,
    any_modality: AnyModality = False,
    any_body_part: AnyBodyPart = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
    batch_size: BatchSize = 4,
    workers: Workers = 1,
    threads: Threads = None,
) -> None:
    """Write a submission to the challenge, valid or not at all."""
    from pneumoseg.pipeline.inference.tta import parse_tta
    from pneumoseg.pipeline.jobs.submit import write_submission

    _set_threads(threads)
    report = write_submission(
        model,
        images,
        output,
        sample=sample,
        aim=aim,
        tta=parse_tta(tta),
        device=device,
        batch_size=batch_size,
        acceptance=_acceptance(any_view=any_view, any_modality=any_modality, any_body_part=any_body_part),
        workers=workers,
        overwrite=overwrite,
    )
    _warn_some([f"{item.path.name}: {item.error}" for item in report.refused], "files have no row")
    left_out = f"; {report.left_out} images left out, as the sample does not ask for them" if sample else ""
    share = f" ({report.predicted_positive / report.images:.1%})" if report.images else ""
    before = "" if report.validation_rate is None else f"; in validation it was {report.validation_rate:.1%}"
    say(f"{report.images} images, {report.predicted_positive} called positive{share}{before}{left_out}")
    if report.trained_on:
        warn(f"{report.trained_on} of {report.images} images were in the model's training set")
    if report.surprising:
        warn(
            "that is far from the validation: are these images of another kind, or was something else tuned?"
        )
    say(f"wrote {output}")
    raise typer.Exit(report.exit_code)


@_command
def score(
    submissions: Annotated[
        list[Path],
        typer.Argument(
            metavar="SUBMISSION",
            help="CSVs to score; several are compared with the first.",
            show_default=False,
        ),
    ],
    truth: Annotated[Path, typer.Argument(help="CSV of true masks, of any generation.", show_default=False)],
    groups: Annotated[
        Path | None, typer.Option(help="CSV with the columns ImageId,PatientGroup, for intervals by patient.")
    ] = None,
    faults: Annotated[
        Path | None, typer.Option(help="CSV to write with every fault of every submission.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Replay the leaderboard; a submission with faults gets their list instead."""
    from pneumoseg.pipeline.cli.score_tables import comparison_table, score_table
    from pneumoseg.pipeline.core.files import claim_file
    from pneumoseg.pipeline.jobs.score import InvalidSubmissionError, score_submissions, write_faults

    if faults:
        claim_file(faults, overwrite=overwrite, inputs=[*submissions, truth])
    results = score_submissions(submissions, truth, groups=groups)
    if faults:
        write_faults(faults, results)
    valid = [result for result in results if not isinstance(result, InvalidSubmissionError)]
    unscored = valid[0].unscored if valid else ()
    _warn_some([str(issue) for issue in unscored], "rows of the truth cannot be trusted")
    names = [path.name for path in submissions]
    for name, result in zip(names, results, strict=True):
        if isinstance(result, InvalidSubmissionError):
            message, *details = str(result).split("\n")
            complain(f"error: {message}", *details)
        else:
            console.print(score_table(result, title=name if len(results) > 1 else "Challenge score"))
    if len(results) > 1:
        console.print(comparison_table(names, results))
    raise typer.Exit(valid[0].exit_code if len(valid) == len(results) else 1)


@_command
def predict(
    model: ModelFolder,
    folder: Annotated[Path, typer.Argument(help="Searched with its subfolders.", show_default=False)],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for the results.", show_default=False)
    ],
    kinds: Annotated[
        str,
        typer.Option(
            "-t",
            "--type",
            help="What to write, with commas: csv, json, png, nifti, seg, sr, sc, overlay, attention, probability "
            "(of each pixel, as PNG of 16 bits: 65535 is 1), uncertainty (needs --dropout-passes; white is 0.5).",
        ),
    ] = "csv,json,png,nifti,overlay",
    aim: Aim = None,
    tta: Tta = None,
    calibrated: Calibrated = False,
    dropout_passes: DropoutPasses = 0,
    research: Annotated[
        bool, typer.Option("--research", help="Keep names, dates, paths and quoted tags out of all results.")
    ] = False,
    num_parts: Annotated[int, typer.Option(min=1, help="Runs that share the folder, as in a job array.")] = 1,
    part_id: Annotated[int | None, typer.Option(min=0, help="Which of them this is, from 0.")] = None,
    any_view: AnyView = False,
    any_modality: AnyModality = False,
    any_body_part: AnyBodyPart = False,
    allow_burned_in: AllowBurnedIn = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
    batch_size: BatchSize = 4,
    workers: Workers = 1,
    threads: Threads = None,
) -> None:
    """Segment every radiograph under a folder: a row, and a result or a reason, for each file.

    An interrupted run is gone on with by the same command.
    """
    from pneumoseg.pipeline.cli.summaries import predict_summary
    from pneumoseg.pipeline.inference.tta import parse_tta
    from pneumoseg.pipeline.jobs.predict import predict_folder
    from pneumoseg.pipeline.results.planning import Part

    if num_parts > 1 and part_id is None:
        raise UsageError(f"--num-parts {num_parts} needs --part-id: which of them this run is, from 0")
    _set_threads(threads)
    report = predict_folder(
        model,
        folder,
        output,
        kinds=[kind.strip() for kind in kinds.split(",") if kind.strip()],
        aim=aim,
        tta=parse_tta(tta),
        calibrated=calibrated,
        dropout_passes=dropout_passes,
        device=device,
        batch_size=batch_size,
        acceptance=_acceptance(
            any_view=any_view,
            any_modality=any_modality,
            any_body_part=any_body_part,
            allow_burned_in=allow_burned_in,
        ),
        workers=workers,
        overwrite=overwrite,
        research=research,
        part=None if part_id is None else Part(part_id, num_parts),
    )
    console.print(*predict_summary(report), sep="\n")
    say(
        f"wrote {output / 'predictions.csv'} and {output / 'report.html'}"
        if report.has_tables
        else f"wrote results to {output}; the part that is done last writes predictions.csv"
    )
    raise typer.Exit(report.exit_code)


@_command
def describe(
    model: Annotated[
        Path | None,
        typer.Argument(
            help="Model folder; without one, the network of --preset and --set.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Picture of the blocks: .png, .svg or .pdf.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Preset whose network to describe; default: the article's network.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="network.key=value, over the preset.", show_default=False),
    ] = None,
    image_size: Annotated[
        tuple[int, int], typer.Option(help="Rows and columns of the image that shapes are computed for.")
    ] = (160, 160),
    overwrite: Overwrite = False,
) -> None:
    """Print the table of layers, and draw the block picture."""
    from pneumoseg.pipeline.core.config import load_config
    from pneumoseg.pipeline.core.files import claim_file
    from pneumoseg.pipeline.jobs.describe import describe_model
    from pneumoseg.pipeline.model.description import read_description
    from pneumoseg.pipeline.model.weights import make_network

    if model is not None and (preset or settings):
        raise UsageError("a model folder has its own network; leave away either it or --preset and --set")
    if output is not None:
        claim_file(output, overwrite=overwrite)
    config = read_description(model).network if model else load_config(None, settings, preset=preset).network
    network = make_network(config)
    say(describe_model(network, image_size=image_size, output=output))
    if output is not None:
        say(f"wrote {output}")


@_command
def check(
    folder: Annotated[Path, typer.Argument(help="Searched with its subfolders.", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", help="The table.")] = Path("check.csv"),
    any_view: AnyView = False,
    any_modality: AnyModality = False,
    any_body_part: AnyBodyPart = False,
    allow_burned_in: AllowBurnedIn = False,
    follow_links: Annotated[bool, typer.Option("--follow-links", help="Look behind links as well.")] = False,
    overwrite: Overwrite = False,
    workers: Workers = 1,
) -> None:
    """Say of every file under a folder whether it can be read as a radiograph, or why not."""
    from pneumoseg.pipeline.cli.summaries import check_summary
    from pneumoseg.pipeline.jobs.check import check_folder

    report = check_folder(
        folder,
        output,
        acceptance=_acceptance(
            any_view=any_view,
            any_modality=any_modality,
            any_body_part=any_body_part,
            allow_burned_in=allow_burned_in,
        ),
        workers=workers,
        follow_links=follow_links,
        overwrite=overwrite,
    )
    console.print(*check_summary(report), sep="\n")
    say(f"wrote {output}")
    raise typer.Exit(report.exit_code)


@_command
def report(
    folder: Annotated[
        Path, typer.Argument(help="A folder that train, evaluate or predict made.", show_default=False)
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="The page; report.html in the folder if left out.", show_default=False
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Make the HTML report of a run, an evaluation or a prediction anew: one file that needs no other."""
    from pneumoseg.pipeline.core.files import claim_file
    from pneumoseg.pipeline.jobs.report import write_report

    if output is not None:
        claim_file(output, overwrite=overwrite)
    say(f"wrote {write_report(folder, output)}")


@_command
def doctor() -> None:
    """Look at versions, decoders and devices, and say what should be mended."""
    from pneumoseg.pipeline.cli.summaries import doctor_summary
    from pneumoseg.pipeline.jobs.doctor import doctor_report

    report = doctor_report()
    console.print(*doctor_summary(report), sep="\n")
    raise typer.Exit(report.exit_code)


def _say_scores(
    validation: "OperatingPointScores", evaluation: "EvaluateReport | None", model: Path, *, title: str
) -> None:
    """What a training came to: the evaluation, or where there is none the scores of its validation."""
    from pneumoseg.pipeline.cli.summaries import evaluation_table, operating_point_table
    from pneumoseg.pipeline.model.description import read_description

    search = read_description(model).operating_point_search
    if evaluation is not None:
        console.print(evaluation_table(evaluation, title=title))
        _warn_seen(evaluation)
        say(f"wrote {model} and {model.parent / 'report.html'}")
        return
    console.print(operating_point_table(validation, title=title))
    if search and search.cross_fitted:
        tuned = search.aims["challenge"].dice
        say(
            f"Dice at the size of the stored maps: {tuned:.4f} at the in-sample operating point, "
            f"{search.cross_fitted.dice:.4f} at the cross-fitted ones, each tuned without the patient"
        )
    say(f"wrote {model}")


def _warn_seen(report: "EvaluateReport") -> None:
    """Warn where the weights have seen images that they are scored on."""
    if report.trained_on:
        warn(
            f"the model was trained on {report.trained_on} of these {report.scores.score.images} images "
            "(column trained_on of cases.csv): this score says nothing about new ones"
        )


def _set_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _acceptance(
    *, any_view: bool, any_modality: bool, any_body_part: bool, allow_burned_in: bool = False
) -> Any:
    """Make the acceptance filters of the options; any modality includes any view and any body part."""
    from pneumoseg.transforms.reader.acceptance import AcceptanceFilters

    return AcceptanceFilters(
        any_view=any_view or any_modality,
        any_modality=any_modality,
        any_body_part=any_body_part or any_modality,
        allow_burned_in=allow_burned_in,
    )


def _warn_some(lines: list[str] | tuple[str, ...], what: str) -> None:
    """Show the first of many remarks, and how many there are."""
    if not lines:
        return
    warn(f"{len(lines)} {what}" + ("" if len(lines) <= _SHOWN_PROBLEMS else f"; the first {_SHOWN_PROBLEMS}"))
    complain(*(f"  {line}" for line in lines[:_SHOWN_PROBLEMS]))
