"""Options and arguments that several commands share, and what they translate to."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pneumoseg.pipeline.core.console import console, say
from pneumoseg.pipeline.core.errors import UsageError

_MODEL, _FILES, _COMPUTATION = "Use of the model", "Accepted files", "Computation"  # headings of --help

ModelFolder = Annotated[
    Path,
    typer.Argument(
        help="Model folder, as model/ of a training run, or a name that `pneumoseg models` lists."
    ),
]
ManifestFile = Annotated[Path, typer.Argument(help="Manifest written by `pneumoseg prepare`.")]
ImageFolder = Annotated[Path, typer.Argument(help="Folder of DICOM and PNG files, with subfolders.")]
ModelAndImages = Annotated[
    list[Path],
    typer.Argument(
        metavar="[MODEL] IMAGES",
        help="Folder of DICOM and PNG files, with subfolders; before it, a model folder or a name that `pneumoseg "
        "models` lists; default: `reference`, if this release contains it.",
    ),
]


class Printing:
    """State of the process that -v sets; -q sets that of the console. Neither is turned off again.

    Attributes:
        tracebacks: Whether an error is printed with its traceback.
    """

    tracebacks = False

    @classmethod
    def be_verbose(cls, value: bool) -> None:
        """Print tracebacks if *value* is true."""
        cls.tracebacks = cls.tracebacks or value

    @classmethod
    def be_quiet(cls, value: bool) -> None:
        """Silence standard output if *value* is true."""
        console.quiet = console.quiet or value


Verbose = Annotated[
    bool,
    typer.Option("-v", "--verbose", callback=Printing.be_verbose, help="Print the traceback of an error."),
]
Quiet = Annotated[
    bool, typer.Option("-q", "--quiet", callback=Printing.be_quiet, help="Print only warnings and errors.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace earlier results.")]

Device = Annotated[
    str,
    typer.Option("-d", "--device", rich_help_panel=_COMPUTATION, help="Device to use: auto, cpu or cuda:N."),
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, rich_help_panel=_COMPUTATION, help="Processor threads of the network; default: all."),
]
BatchSize = Annotated[int, typer.Option(min=1, rich_help_panel=_COMPUTATION, help="Images per batch.")]
Workers = Annotated[
    int, typer.Option(min=1, rich_help_panel=_COMPUTATION, help="Processes that decode images.")
]

FollowLinks = Annotated[
    bool, typer.Option("--follow-links", rich_help_panel=_FILES, help="Follow symbolic links.")
]

AnyView = Annotated[
    bool, typer.Option("--any-view", rich_help_panel=_FILES, help="Accept views other than AP and PA.")
]
AnyModality = Annotated[
    bool,
    typer.Option(
        "--any-modality",
        rich_help_panel=_FILES,
        help="Accept modalities other than CR, DX, DR and RG, with any view and body part.",
    ),
]
AnyBodyPart = Annotated[
    bool,
    typer.Option("--any-body-part", rich_help_panel=_FILES, help="Accept body parts other than the chest."),
]
AllowBurnedIn = Annotated[
    bool,
    typer.Option(
        "--allow-burned-in",
        rich_help_panel=_FILES,
        help="Assume that burned-in annotations contain no identifying text.",
    ),
]

OperatingPointName = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=_MODEL,
        help="Operating point to use: challenge, specificity, screening, or a bound such as sensitivity=0.9 or "
        "specificity=0.9; default: the model's own setting.",
    ),
]
Tta = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=_MODEL,
        help="Test-time augmentation to apply: flip, scale, both as flip,scale, or none; "
        "default: the model's own setting.",
    ),
]
Calibrated = Annotated[
    bool,
    typer.Option(
        "--calibrated",
        rich_help_panel=_MODEL,
        help="Report calibrated image probabilities; the calibration was fitted on held-out images in training. Masks "
        "do not change.",
    ),
]
RuntimeChoice = Annotated[
    str,
    typer.Option(
        rich_help_panel=_COMPUTATION,
        help="Runtime of the networks: torch, torch.compile, onnx, openvino, or auto: the installed runtime that "
        "finishes this number of images first, if its outputs agree with torch.",
    ),
]
PrecisionChoice = Annotated[
    str,
    typer.Option(
        rich_help_panel=_COMPUTATION,
        help="Number format: float32, bf16, fp16 (CUDA), int8 (after `pneumoseg quantize`), or auto, that of the "
        "model's validation.",
    ),
]
DropoutPasses = Annotated[
    int,
    typer.Option(
        min=0,
        rich_help_panel=_MODEL,
        help="Monte-Carlo dropout samples for the uncertainty estimate, 2 or more; their mean then gives probability "
        "and mask. 0 leaves dropout off.",
    ),
]


def check_fold(fold: str | None) -> None:
    """Check the value of `--fold`.

    Args:
        fold: Number of a fold, ``all``, or None for the default.

    Raises: UsageError: If it is none of these.
    """
    if fold not in (None, "all") and not fold.isdecimal():
        raise UsageError(f"--fold {fold}: a number or `all` would fit")


def model_and_images(paths: Sequence[Path]) -> tuple[Path, Path]:
    """Tell the arguments ``[MODEL] IMAGES`` apart, and say which model is used if none is named.

    Args:
        paths: The arguments.

    Raises: UsageError: If these are more than two, a model without images, or images without a model.
    """
    from pneumoseg.pipeline.model.catalogue import DEFAULT, available_models
    from pneumoseg.pipeline.model.description import DESCRIPTION

    if len(paths) > 2:
        raise UsageError(
            f"{' '.join(map(str, paths))}: one folder of images, with a model before it, would fit"
        )
    if len(paths) == 2:
        return paths[0], paths[1]
    (images,) = paths
    if (images / DESCRIPTION).is_file():
        raise UsageError(f"{images} is a model folder; name the folder of images after it")
    default = available_models().get(DEFAULT)
    if default is None:
        raise UsageError(f"{images}: name a model folder before the images; this release comes with no model")
    say(f"using the model `{DEFAULT}`, which comes with the package; `pneumoseg models` describes it")
    return default, images  # not its name, which a folder here may have, too


def set_threads(threads: int | None) -> None:
    """Set the processor threads of the network.

    Args:
        threads: Number of threads; None keeps the default of torch.
    """
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def parse_shape(text: str) -> tuple[int, int]:
    """Parse the size of an image, such as ``1024,1024`` or ``1024x1024``.

    Args:
        text: Rows and columns in pixels.

    Raises: UsageError: If these are not two positive numbers.
    """
    match = re.fullmatch(r"\s*([0-9]{1,6})\s*[,x ]\s*([0-9]{1,6})\s*", text)
    rows, columns = (int(part) for part in match.groups()) if match else (0, 0)
    if not rows or not columns:
        raise UsageError(f"--label-shape {text}: rows and columns in pixels, such as 1024,1024, would fit")
    return rows, columns
