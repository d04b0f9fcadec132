"""Commands about results and networks: score, report and describe."""

from pathlib import Path
from typing import Annotated

import typer

from pneumoseg.pipeline.cli.options import Overwrite
from pneumoseg.pipeline.core.console import complain, console, say, warn_some
from pneumoseg.pipeline.core.errors import UsageError


def score(
    submissions: Annotated[
        list[Path],
        typer.Argument(metavar="SUBMISSION", help="CSV files to score; several are compared with the first."),
    ],
    truth: Annotated[Path, typer.Argument(help="CSV file of true masks, in any format of the challenge.")],
    groups: Annotated[
        Path | None,
        typer.Option(help="CSV file with the columns ImageId,PatientGroup, for intervals by patient."),
    ] = None,
    faults: Annotated[
        Path | None, typer.Option(help="CSV file to write all faults of all submissions to.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Score submissions as the leaderboard does; list the faults of an invalid one instead."""
    from pneumoseg.pipeline.cli.score_tables import comparison_table, score_table
    from pneumoseg.pipeline.core.claims import claim_file
    from pneumoseg.pipeline.jobs.score import score_submissions
    from pneumoseg.pipeline.scoring.submission import InvalidSubmissionError, write_faults

    if faults:
        claim_file(faults, overwrite=overwrite, inputs=[*submissions, truth])
    results = score_submissions(submissions, truth, groups=groups)
    if faults:
        write_faults(faults, results)
    valid = [result for result in results if not isinstance(result, InvalidSubmissionError)]
    unscored = valid[0].unscored if valid else ()
    warn_some([str(issue) for issue in unscored], "rows of the truth that are refused")
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


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER...",
            help="Output folder of train, evaluate or predict; several are compared with the first.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Path of the page; default: report.html in the folder; for several folders, comparison.html in the "
            "current one.",
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the HTML report of a run, an evaluation or a prediction again, or compare several models.

    The page is one self-contained file. A comparison is paired by case: differences from the first model have
    intervals and p-values.
    """
    from pneumoseg.pipeline.core.claims import claim_file
    from pneumoseg.pipeline.jobs.report import write_comparison, write_report

    compares = len(folders) > 1
    page = output or (Path("comparison.html") if compares else None)
    if page is not None:
        claim_file(page, overwrite=overwrite)
    say(f"wrote {write_comparison(folders, page) if compares and page else write_report(folders[0], page)}")


def describe(
    model: Annotated[
        Path | None,
        typer.Argument(
            help="Model folder, or a name that `pneumoseg models` lists; default: the network of --preset and --set."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Path of the block diagram: .png, .svg or .pdf.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Preset whose network to describe; default: the article's.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="network.key=value, which replaces the preset's value.")
    ] = None,
    image_size: Annotated[
        tuple[int, int] | None,
        typer.Option(
            help="Rows and columns of the input image in pixels; default: the model's own, else 160 160."
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Print the table of layers of a network, and write its block diagram."""
    from pneumoseg.pipeline.core.claims import claim_file
    from pneumoseg.pipeline.core.config_files import load_config
    from pneumoseg.pipeline.jobs.describe import describe_model
    from pneumoseg.pipeline.model.catalogue import find_model
    from pneumoseg.pipeline.model.description import read_description
    from pneumoseg.pipeline.model.weights import make_network

    if model is not None and (preset or settings):
        raise UsageError("a model folder has its own network; leave out either it or --preset and --set")
    if output is not None:
        claim_file(output, overwrite=overwrite)
    if model is None:
        network, side = load_config(None, settings, preset=preset).network, 160
    else:
        description = read_description(find_model(model))
        network, side = description.network, description.preprocessing.image_size
    say(describe_model(make_network(network), image_size=image_size or (side, side), output=output))
    if output is not None:
        say(f"wrote {output}")
