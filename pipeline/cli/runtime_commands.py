"""Command that prepares a model for a faster runtime: quantize."""

from typing import Annotated

import typer

from pneumoseg.pipeline.cli.options import ManifestFile, ModelFolder, Overwrite, Threads, Workers, set_threads
from pneumoseg.pipeline.core.console import say, warn


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
        f"Dice on {len(report.exact.dices)} held-out images: {exact:.4f} in float32, {quantized:.4f} in int8, "
        f"{report.lost:.4f} lost; of the {report.exact.score.positives} positive ones {report.lost_of_positives:.4f}"
    )
    if report.exit_code:
        warn(
            f"more than {MOST_LOST} is lost: use the model in float32 or bf16, or calibrate with more --images"
        )
    say(f"wrote {report.folder}")
    raise typer.Exit(report.exit_code)
