"""Commands that need no data: demo and doctor."""

from pathlib import Path
from typing import Annotated

import typer

from pneumoseg.pipeline.cli.options import (
    Device,
    Overwrite,
    Threads,
    set_threads,
)
from pneumoseg.pipeline.core.console import console


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for all results.")] = Path("demo"),
    overwrite: Overwrite = False,
    device: Device = "auto",
    threads: Threads = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the phantoms and of the training.")] = 0,
) -> None:
    """Run the whole pipeline on built-in phantom radiographs; takes minutes."""
    from pneumoseg.pipeline.jobs.demo import run_demo

    set_threads(threads)
    raise typer.Exit(run_demo(output, device=device, seed=seed, overwrite=overwrite).exit_code)


def doctor() -> None:
    """Check versions, decoders and devices, and advise what to fix."""
    from pneumoseg.pipeline.cli.summaries import doctor_summary
    from pneumoseg.pipeline.jobs.doctor import doctor_report

    report = doctor_report()
    console.print(*doctor_summary(report), sep="\n")
    raise typer.Exit(report.exit_code)
