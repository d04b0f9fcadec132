"""Commands that need no data: demo, models, export and doctor."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pneumoseg.pipeline.cli.options import (
    Device,
    ModelFolder,
    OperatingPointName,
    Overwrite,
    Threads,
    set_threads,
)
from pneumoseg.pipeline.core.console import console, say


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
    run_demo(output, device=device, seed=seed, overwrite=overwrite)


def models() -> None:
    """List the trained models that come with the package."""
    from pneumoseg.pipeline.cli.summaries import models_table
    from pneumoseg.pipeline.model.catalogue import available_models
    from pneumoseg.pipeline.model.description import read_description

    folders = available_models()
    if not folders:
        say("this release comes with no model; train one, or name a model folder")
        return
    console.print(models_table({name: read_description(folder) for name, folder in folders.items()}))
    for name, folder in folders.items():
        say(f"{name}: {folder}; read its MODEL_CARD.md before use")


def export(
    model: ModelFolder,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the exported files.")],
    formats: Annotated[
        str,
        typer.Option(
            "-t",
            "--type",
            help="Formats to write, separated by commas: onnx, openvino, browser, bundle, keras.",
        ),
    ] = "onnx",
    operating_point: OperatingPointName = None,
    tta: Annotated[
        str | None,
        typer.Option(
            help="Test-time augmentation in the graph: flip or none; default: the model's own setting."
        ),
    ] = None,
    standardized: Annotated[
        bool,
        typer.Option(
            "--standardized", help="Expect standardised images as input, instead of grey values in [0, 1]."
        ),
    ] = False,
    precision: Annotated[
        Literal["float32", "fp16", "bf16"],
        typer.Option(
            help="Number format of ONNX and OpenVINO files; bf16 (ONNX only) stores the weights in it and "
            "computes in float32."
        ),
    ] = "float32",
    libraries: Annotated[
        Path | None,
        typer.Option(
            help="Folder with the npm archives that the page for a browser needs; default: fetch them by npm."
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a model for other programs: ONNX Runtime, OpenVINO, a browser, MONAI, Keras."""
    from pneumoseg.pipeline.inference.passes import parse_tta
    from pneumoseg.pipeline.jobs.export import export_model

    files = export_model(
        model,
        output,
        [word.strip() for word in formats.split(",")],
        tta=parse_tta(tta),
        operating_point=operating_point,
        standardizes=not standardized,
        precision=precision,
        libraries=libraries,
        overwrite=overwrite,
    )
    for file in files:
        parity = (
            ""
            if file.difference is None
            else f"; probabilities differ by at most {file.difference:.1e} from the model's"
        )
        say(f"wrote {file.path}{parity}")


def doctor() -> None:
    """Check versions, decoders and devices, and advise what to fix."""
    from pneumoseg.pipeline.cli.summaries import doctor_summary
    from pneumoseg.pipeline.jobs.doctor import doctor_report

    report = doctor_report()
    console.print(*doctor_summary(report), sep="\n")
    raise typer.Exit(report.exit_code)
