"""Commands that use a model: evaluate, submit and predict."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from pneumoseg.pipeline.cli.option_groups import (
    AcceptanceChoice,
    Computation,
    ModelUse,
    ModelUseWithUncertainty,
)
from pneumoseg.pipeline.cli.options import (
    AllowBurnedIn,
    ManifestFile,
    ModelAndImages,
    ModelFolder,
    Overwrite,
    check_fold,
    model_and_images,
)
from pneumoseg.pipeline.core.console import console, say, warn, warn_some
from pneumoseg.pipeline.core.errors import UsageError


def evaluate(
    *,
    model: ModelFolder,
    manifest: ManifestFile,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for the report, scores.json and tables.")
    ],
    fold: Annotated[
        str | None, typer.Option(help="Fold to score, or `all`; default: the fold held out.")
    ] = None,
    use: ModelUseWithUncertainty,
    examples: Annotated[
        int, typer.Option(min=0, help="Cases of each kind in the gallery of the report.")
    ] = 3,
    card: Annotated[bool, typer.Option("--card", help="Write the scores into the model card, too.")] = False,
    overwrite: Overwrite = False,
    computation: Computation,
) -> None:
    """Score a model on the fold that was held out, beside predicting nothing."""
    from pneumoseg.pipeline.cli.summaries import print_evaluation
    from pneumoseg.pipeline.jobs.evaluate import evaluate_model

    check_fold(fold)
    report = evaluate_model(
        model,
        manifest,
        output,
        options=use.options(computation),
        runtime=computation.start(),
        fold=int(fold) if fold not in (None, "all") else None,
        all_folds=fold == "all",
        examples=examples,
        card=card,
        overwrite=overwrite,
    )
    title = "all folds" if report.fold is None else f"fold {report.fold}"
    print_evaluation(report, title=title)
    say(f"wrote {output / 'report.html'}, {output / 'scores.json'} and {output / 'cases.csv'}")


def submit(
    *,
    paths: ModelAndImages,
    output: Annotated[Path, typer.Option("-o", "--output", help="Path of the submission.")] = Path(
        "submission.csv"
    ),
    sample: Annotated[
        Path | None, typer.Option(help="sample_submission.csv, which lists the images in order.")
    ] = None,
    missing: Annotated[
        Literal["error", "negative"],
        typer.Option(
            help="What to do with an image of the sample that is missing or cannot be read: write nothing, or an empty "
            "mask."
        ),
    ] = "error",
    use: ModelUse,
    files: AcceptanceChoice,
    overwrite: Overwrite = False,
    computation: Computation,
) -> None:
    """Write a valid submission to the challenge, or none."""
    from pneumoseg.pipeline.cli.summaries import links_not_followed
    from pneumoseg.pipeline.jobs.submit import write_submission

    report = write_submission(
        *model_and_images(paths),
        output,
        options=use.options(computation),
        runtime=computation.start(),
        sample=sample,
        missing=missing,
        acceptance=files.filters(),
        overwrite=overwrite,
        follow_links=files.follow_links,
    )
    refused = [f"{item.path.name}: {item.error}" for item in report.refused]
    warn_some(refused, "files that cannot be read" if sample else "files without a row")
    warn_some(report.filled, "rows that are negative because their image is missing or cannot be read")
    warn_some(report.repeated, "ids that the sample submission lists more than once (one row each)")
    left_out = (
        f"; {report.left_out} images left out, which the sample does not list"
        if report.left_out and sample
        else ""
    )
    share = f" ({report.predicted_positive / report.images:.1%})" if report.images else ""
    expected = "" if report.validation_rate is None else f"; in validation {report.validation_rate:.1%}"
    say(
        f"{report.images} images, {report.predicted_positive} predicted positive{share}{expected}{left_out}"
        f"{links_not_followed(report.links)}"
    )
    if report.review:
        warn(
            f"{report.review} of {report.images} images look unlike an upright frontal chest and have to be reviewed: "
            "`pneumoseg predict` lists them"
        )
    if report.trained_on:
        warn(f"{report.trained_on} of {report.images} images were in the model's training set")
    if not report.predicted_positive:
        warn("no image is predicted positive: the submission scores what predicting nothing scores")
    if report.surprising:
        warn(
            "the share of predicted positives differs from validation: check the source of the images and the "
            "operating point"
        )
    say(f"wrote {output}")
    raise typer.Exit(report.exit_code)


def predict(
    *,
    paths: ModelAndImages,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")],
    kinds: Annotated[
        str,
        typer.Option(
            "-t",
            "--type",
            help="Output types to write, separated by commas: csv, json, png, nifti, seg, sr, sc, gsps, fhir, "
            "overlay, attention, probability (per pixel, as 16-bit PNG: 65535 is 1), uncertainty (standard deviation "
            "per pixel, needs --dropout-passes; white is 0.5).",
        ),
    ] = "csv,json,png,nifti,overlay",
    use: ModelUseWithUncertainty,
    research: Annotated[
        bool, typer.Option("--research", help="Leave names, dates, paths and quoted tags out of all results.")
    ] = False,
    num_parts: Annotated[
        int, typer.Option(min=1, help="Number of runs that share the folder, as in a job array.")
    ] = 1,
    part_id: Annotated[int | None, typer.Option(min=0, help="Index of this run among them, from 0.")] = None,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(
            help="Where to process files: local, in this process, or ray, on the machines of a Ray cluster."
        ),
    ] = "local",
    files: AcceptanceChoice,
    allow_burned_in: AllowBurnedIn = False,
    uid_root: Annotated[
        str | None,
        typer.Option(
            help="Registered root for the UIDs of DICOM results; default: 2.25, which needs no registration."
        ),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Keep running, and process files as soon as they are complete.")
    ] = False,
    settle: Annotated[
        float,
        typer.Option(min=0.1, help="With --watch: seconds without a change until a file counts as complete."),
    ] = 5.0,
    overwrite: Overwrite = False,
    computation: Computation,
) -> None:
    """Run inference on every radiograph under a folder.

    To resume an interrupted run, repeat the command.
    """
    from pneumoseg.pipeline.cli.summaries import predict_summary
    from pneumoseg.pipeline.jobs.predict import PredictReport, predict_folder
    from pneumoseg.pipeline.jobs.watch import watch_folder
    from pneumoseg.pipeline.results.planning import Part

    if num_parts > 1 and part_id is None:
        raise UsageError(f"--num-parts {num_parts} needs --part-id, the index of this run, from 0")

    def show(report: PredictReport) -> None:
        console.print(*predict_summary(report), sep="\n")
        say(
            f"wrote {output / 'predictions.csv'} and {output / 'report.html'}"
            if report.has_tables
            else f"wrote results to {output}; the part that finishes last writes predictions.csv; repeat parts whose "
            "files have changed since"
        )

    run = partial(watch_folder, settle_s=settle, on_pass=show) if watch else predict_folder
    report = run(
        *model_and_images(paths),
        output,
        options=use.options(computation),
        runtime=computation.start(),
        kinds=[kind.strip() for kind in kinds.split(",") if kind.strip()],
        acceptance=files.filters(allow_burned_in=allow_burned_in),
        overwrite=overwrite,
        follow_links=files.follow_links,
        research=research,
        part=None if part_id is None else Part(part_id, num_parts),
        uid_root=uid_root,
        engine=engine,
    )
    if isinstance(report, PredictReport):
        show(report)
        raise typer.Exit(report.exit_code)
    say("stopped; the same command continues")
