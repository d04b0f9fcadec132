"""Commands for data: prepare and check."""

from pathlib import Path
from typing import Annotated

import typer

from pneumoseg.pipeline.cli.option_groups import AcceptanceChoice
from pneumoseg.pipeline.cli.options import AllowBurnedIn, ImageFolder, Overwrite, Workers, parse_shape
from pneumoseg.pipeline.core.console import console, say


def prepare(
    *,
    images: ImageFolder,
    labels: Annotated[list[Path], typer.Option(help="CSV file of run lengths; can be given several times.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Path of the manifest.")] = Path(
        "manifest.json"
    ),
    groups: Annotated[
        Path | None, typer.Option(help="CSV file with the columns ImageId,PatientGroup.")
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Number of folds.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the assignment to folds.")] = 0,
    id_column: Annotated[
        str, typer.Option(help="Column of the labels that holds the names of the image files.")
    ] = "ImageId",
    label_shape: Annotated[
        str,
        typer.Option(
            metavar="ROWS,COLUMNS", help="Rows and columns of the masks that the run lengths encode."
        ),
    ] = "1024,1024",
    name: Annotated[
        str | None,
        typer.Option(help="Name of the data set in models and reports; default: a hash of its images."),
    ] = None,
    files: AcceptanceChoice,
    overwrite: Overwrite = False,
    workers: Workers = 1,
) -> None:
    """Match radiographs with labels, assign patients to folds, and write a manifest."""
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
        label_shape=parse_shape(label_shape),
        name=name,
        acceptance=files.filters(),
        workers=workers,
        overwrite=overwrite,
        follow_links=files.follow_links,
    )
    console.print(*prepare_summary(report), sep="\n")
    say(f"wrote {output}")
    raise typer.Exit(report.exit_code)


def check(
    *,
    folder: ImageFolder,
    output: Annotated[Path, typer.Option("-o", "--output", help="Path of the table.")] = Path("check.csv"),
    files: AcceptanceChoice,
    allow_burned_in: AllowBurnedIn = False,
    overwrite: Overwrite = False,
    workers: Workers = 1,
) -> None:
    """Check whether each file under a folder is accepted as a radiograph, and write the reasons."""
    from pneumoseg.pipeline.cli.summaries import check_summary
    from pneumoseg.pipeline.jobs.check import check_folder

    report = check_folder(
        folder,
        output,
        acceptance=files.filters(allow_burned_in=allow_burned_in),
        workers=workers,
        follow_links=files.follow_links,
        overwrite=overwrite,
    )
    console.print(*check_summary(report), sep="\n")
    say(f"wrote {output}")
    raise typer.Exit(report.exit_code)
