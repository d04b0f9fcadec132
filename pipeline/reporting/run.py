"""Report of a training run: learning curves and evaluation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pneumoseg.pipeline.drawing.curves import learning_curves
from pneumoseg.pipeline.reporting.charts import axes_of_chart
from pneumoseg.pipeline.reporting.content import Chart, Charts, Folded, Page, Section, Tile, Tiles
from pneumoseg.pipeline.reporting.evaluation import how_it_was_made, result_sections, subtitle, warnings
from pneumoseg.pipeline.reporting.paired import EVALUATION, is_evaluation_of
from pneumoseg.pipeline.reporting.result_files import number, read_json, read_rows, results_of
from pneumoseg.pipeline.reporting.svg import to_svg

_NOTES: Final = {
    "Loss": "The levels differ, since positives are rarer in the validation: compare the trends.",
    "Dice": "The held-out fold, at the in-sample operating point of each epoch.",
    "Classification": "AUC of the image probability; sensitivity and specificity at the same points.",
}


def run_page(run: Path) -> Page:
    """Make the report of a training run, or of the available part of an unfinished one.

    Args:
        run: Run folder written by `train`.

    Raises: JobError: If the folder does not contain a training run.
    """
    with results_of(run):
        learning = [section for folder in _folds(run) if (section := _learning(folder, run)) is not None]
        configuration = _configuration(run)
        evaluation = run / EVALUATION
        if not is_evaluation_of(evaluation, run / "model"):
            title, why = _without_evaluation(run)
            return Page(
                title="Training", subtitle=title, sections=[*learning, *configuration], warnings=[why]
            )
        scores = read_json(evaluation / "scores.json")
        summary, *others = result_sections(evaluation)
        return Page(
            title="Training",
            subtitle=subtitle(scores),
            sections=[summary, *learning, *others, how_it_was_made(scores), *configuration],
            warnings=warnings(scores),
        )


def _without_evaluation(run: Path) -> tuple[str, str]:
    """Say in a few words what a run without an evaluation is, and in a sentence why there is none."""
    summary = run / "summary.json"
    if summary.is_file() and read_json(summary).get("fold", "all") is None:
        return "on all images", (
            "No image was held out: the scores of this model are those of the cross-validation before it, in its model "
            "card."
        )
    return (
        "not evaluated",
        "There is no evaluation of this model: the run has not ended, or was started or made longer without one. "
        "`pneumoseg evaluate` makes one.",
    )


def _folds(run: Path) -> list[Path]:
    """List the folders of a run with learning curves: the run folder, or one for each fold."""
    if (run / "metrics.csv").is_file():
        return [run]
    return sorted(
        (path.parent for path in run.glob("fold*/metrics.csv")), key=lambda path: (len(path.name), path.name)
    )


def _learning(folder: Path, run: Path) -> Section | None:
    rows = [{name: number(value) for name, value in row.items()} for row in read_rows(folder / "metrics.csv")]
    rows = [row for row in rows if row["epoch"] is not None]
    if not rows:
        return None
    title = "Learning" if folder == run else f"Learning, {folder.name}"
    tiles = []
    if (folder / "summary.json").is_file():
        tiles = [Tiles(_tiles(read_json(folder / "summary.json"), rows))]
    name = folder.name if folder != run else "run"
    return Section(title, [*tiles, Charts(_charts(rows, name))])


def _tiles(summary: Mapping[str, Any], rows: Sequence[Mapping[str, float | None]]) -> list[Tile]:
    best = str(summary["best_epoch"])
    how = "an average of weights was kept" if summary["averaged"] else "its weights were kept"
    seconds = sum(row.get("seconds") or 0 for row in rows)
    return [
        Tile("kept epoch", best, f"of {len(rows)}; {how}"),
        Tile("steps per epoch", str(summary["steps"]), f"{summary['skipped_steps']} skipped"),
        Tile(
            "time",
            f"{seconds / 60:.1f} min",
            f"on {summary['device']}, {summary['precision']}, in all epochs",
        ),
    ]


def _charts(rows: Sequence[Mapping[str, float | None]], run: str) -> list[Chart]:
    made = []
    for title, draw in learning_curves(rows).items():
        with axes_of_chart() as (figure, axes):
            draw(axes, rows)
        made.append(Chart(title, to_svg(figure, name=f"{run}-{title.lower()}"), _NOTES.get(title, "")))
    return made


def _configuration(run: Path) -> list[Section]:
    for path in (run / "config.yaml", run / "fold0" / "config.yaml"):
        if path.is_file():
            return [Section("Configuration", [Folded("config.yaml", path.read_text(encoding="utf-8"))])]
    return []
