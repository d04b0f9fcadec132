"""Write the HTML report of a training run, an evaluation or a prediction, or one that compares several models."""

from collections.abc import Sequence
from pathlib import Path

from pneumoseg.pipeline.core.claims import refuse_links
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.core.files import write_text
from pneumoseg.pipeline.core.names import REPORT
from pneumoseg.pipeline.reporting import evaluation, prediction
from pneumoseg.pipeline.reporting.comparison import comparison_page
from pneumoseg.pipeline.reporting.evaluation import evaluation_page
from pneumoseg.pipeline.reporting.html import render
from pneumoseg.pipeline.reporting.prediction import prediction_page
from pneumoseg.pipeline.reporting.run import run_page


def write_report(folder: str | Path, output: str | Path | None = None) -> Path:
    """Write the HTML report of a folder; the same files give the same bytes.

    Args:
        folder: Folder written by `train`, `evaluate` or `predict`.
        output: Path of the report; None writes ``report.html`` in *folder*.

    Returns: Path of the report.

    Raises:
        UsageError: If the folder was written by another command, or *output* may be one of its results.
        JobError: If a file in the folder is damaged, or there is a link in it.
    """
    folder = Path(folder)
    output = None if output is None else Path(output)
    if folder.is_dir():
        refuse_links(folder)
    path = output or folder / REPORT
    if path.suffix != ".html" and path.resolve().is_relative_to(folder.resolve()):
        raise UsageError(
            f"{path} may be a result in {folder}; give a name that ends in .html, or another folder"
        )
    if (folder / "config.yaml").is_file() or (folder / "fold0" / "config.yaml").is_file():
        page = run_page(folder)
    elif (folder / evaluation.FILES[0]).is_file():
        page = evaluation_page(folder)
    elif (folder / prediction.TABLE).is_file():
        page = prediction_page(folder)
    else:
        raise UsageError(
            f"{folder}: holds no run, evaluation or prediction; give a folder that train, evaluate or predict made"
        )
    write_text(path, render(page))
    return path


def write_comparison(folders: Sequence[str | Path], output: str | Path) -> Path:
    """Write the HTML report that compares several models with the first one, paired by case.

    The models have to be evaluated on the same labels; cases that not all of them have scored are left out.

    Args:
        folders: Folders written by `evaluate` or `train`, or model folders of runs; at least two.
        output: Path of the report.

    Returns: Path of the report.

    Raises:
        UsageError: If there are fewer than two folders, or one holds no evaluation.
        JobError: If an evaluation is damaged, no case is in all of them, or a case has two labels.
    """
    if len(folders) < 2:
        raise UsageError("a comparison needs at least two folders that evaluate or train made")
    write_text(Path(output), render(comparison_page([Path(folder) for folder in folders])))
    return Path(output)
