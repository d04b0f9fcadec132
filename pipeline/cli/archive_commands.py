"""Commands that talk to an archive: listen and pull."""

from pathlib import Path
from typing import Annotated

import typer

from pneumoseg.pipeline.core.console import say, warn_some


def listen(
    config: Annotated[Path, typer.Argument(help="YAML file: peers, rules, destinations, model.")],
) -> None:
    """Receive studies by C-STORE, run inference on them, and send SEG, SR and SC back.

    Runs until SIGINT or SIGTERM; the next start continues with what has been received.
    """
    from pneumoseg.pipeline.jobs.listen import listen_to_archive
    from pneumoseg.pipeline.pacs.config import load_listen_config

    checked = load_listen_config(config)
    listen_to_archive(
        checked, on_ready=lambda: say(f"listening on {checked.host}:{checked.port} as {checked.ae_title}")
    )
    say("stopped; what has been received is kept")


def pull(
    url: Annotated[
        str, typer.Argument(help="Root of the DICOMweb services, such as http://localhost:8042/dicom-web.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the images.")],
    query: Annotated[
        list[str] | None,
        typer.Option(
            help="Condition KEYWORD=VALUE on studies or series, such as StudyDate=20260101-20260131; repeat it for "
            "more. Default: Modality=CR and Modality=DX."
        ),
    ] = None,
    credentials: Annotated[
        str,
        typer.Option(
            help="Prefix of the environment variables with the credentials: PREFIX_USER and PREFIX_PASSWORD, or "
            "PREFIX_TOKEN."
        ),
    ] = "PNEUMOSEG_DICOMWEB",
    limit: Annotated[int | None, typer.Option(min=1, help="Largest number of studies to fetch.")] = None,
) -> None:
    """Fetch radiographs from an archive by DICOMweb (QIDO-RS and WADO-RS).

    To resume, repeat the command: files that are there are not fetched again.
    """
    from pneumoseg.pipeline.jobs.pull import pull_images

    report = pull_images(url, output, query=query or [], credentials=credentials, limit=limit)
    warn_some(report.failed, "instances that could not be fetched (the same command tries them again)")
    say(
        f"{report.studies} studies: fetched {report.fetched} images, {report.kept} were there, "
        f"{len(report.failed)} failed; they are in {output}"
    )
    raise typer.Exit(report.exit_code)
