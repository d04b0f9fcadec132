"""Summaries of the results of jobs: lines and tables to print."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.table import Column, Table

from pneumoseg.pipeline.core.console import console, warn
from pneumoseg.pipeline.dataset.groups import PatientCount
from pneumoseg.pipeline.scoring.cells import NO_INTERVAL, interval_cell, number_cell, why_no_interval
from pneumoseg.transforms.reader.reasons import Outcome, Reason

if TYPE_CHECKING:  # the jobs load MONAI
    from pneumoseg.pipeline.dataset.manifest import Manifest
    from pneumoseg.pipeline.jobs.check import CheckReport
    from pneumoseg.pipeline.jobs.doctor import DoctorReport
    from pneumoseg.pipeline.jobs.evaluate import EvaluateReport
    from pneumoseg.pipeline.jobs.predict import PredictReport
    from pneumoseg.pipeline.jobs.prepare import PrepareReport
    from pneumoseg.pipeline.model.description import ModelDescription
    from pneumoseg.pipeline.scoring.case_curves import OperatingPointScores
    from pneumoseg.pipeline.scoring.headline import ScoredImages


def prepare_summary(report: "PrepareReport") -> list[str | Table]:
    """Count images and labels, state whether patients can leak, and lay out the folds and the reasons of refusals."""
    manifest = report.manifest
    refused, skipped = report.reasons(Outcome.REFUSED), report.reasons(Outcome.SKIPPED)
    lines: list[str | Table] = [
        f"{manifest.size + len(manifest.unlabelled)} images: {manifest.size} labelled, {report.positive} of them "
        f"positive; {len(manifest.unlabelled)} unlabelled",
        f"{refused.total()} files refused, {skipped.total()} skipped, {report.other_files} unrelated files"
        f"{links_not_followed(report.links)}",
        report.grouping.leakage,
    ]
    if report.labels_without_image:
        first = report.labels_without_image[0]
        lines.append(
            f"{len(report.labels_without_image)} labels have no image, such as {first}{_like(first, manifest)}"
        )
    if manifest.refused:
        lines.append(reasons_table(refused + skipped))
    folds = number_table("fold", "images", "positive", "groups", title="Folds")
    folds.columns[0].justify = "right"
    for fold in range(manifest.folds):
        cases = [case for case in manifest.training if case.fold == fold]
        positive = sum(case.is_positive for case in cases)
        folds.add_row(str(fold), str(len(cases)), str(positive), str(len({case.group for case in cases})))
    return [*lines, folds]


def _like(label: str, manifest: "Manifest") -> str:
    """Name an unlabelled image whose name differs in its suffix, or in small and capital letters, only."""
    from pneumoseg.transforms.reader.radiograph import image_name

    alike = [
        image.id
        for image in manifest.unlabelled
        if image_name(image.id).casefold() == image_name(label).casefold()
    ]
    return f"; an image without a label is called {alike[0]}, and names have to be equal" if alike else ""


def operating_point_table(scores: "OperatingPointScores", *, title: str) -> Table:
    """Lay out the scores at an in-sample operating point beside those of an empty mask for every image.

    Args:
        scores: Scores of a validation.
        title: Title above the table.
    """
    score = scores.score
    table = number_table("", "model", "predict nothing", title=title)
    rows: list[tuple[str, float | None, float | None]] = [
        ("Dice (the challenge's score)", score.dice, score.predict_nothing),
        ("Dice on positives", score.dice_positive, 0.0 if score.positives else None),
        ("sensitivity", score.sensitivity, 0.0 if score.positives else None),
        ("specificity", score.specificity, 1.0 if score.positives < score.images else None),
        ("AUC of the image probability", scores.auc, 0.5 if scores.auc is not None else None),
    ]
    for name, model, nothing in rows:
        table.add_row(name, number_cell(model), number_cell(nothing))
    images = f"{score.images} images, {score.positives} with a pneumothorax"
    table.caption = (
        f"{images}; {score.predicted_positive} predicted positive, at the in-sample operating point"
    )
    table.caption_justify = "left"
    return table


def print_evaluation(report: "EvaluateReport", *, title: str) -> None:
    """Print the scores of an evaluation, and warn if the model was trained on images among them.

    Args:
        report: Evaluation of a model.
        title: Title above the table.
    """
    console.print(evaluation_table(report, title=title))
    if report.trained_on:
        warn(
            f"the model was trained on {report.trained_on} of these {report.scores.score.images} images "
            "(column trained_on of cases.csv): this score does not predict the score on new images"
        )


def evaluation_table(report: "EvaluateReport", *, title: str) -> Table:
    """Lay out the scores of an evaluation; the column headers name the kind of operating point.

    Args:
        report: Evaluation of a model.
        title: Title above the table.
    """
    kind = report.operating_point
    column = "model" if kind == "fixed" else kind
    return scores_table(report.images, title=title, column=column, cross_fitted=report.cross_fitted)


def scores_table(
    images: "ScoredImages",
    *,
    title: str,
    column: str = "model",
    cross_fitted: "ScoredImages | None" = None,
) -> Table:
    """Lay out every score with its interval, beside that of an empty mask for every image.

    Args:
        images: Images to compute the scores from.
        title: Title above the table.
        column: Header of the first column of scores.
        cross_fitted: The same images at cross-fitted operating points. Their scores are the ones to quote; those of
            *images* then fill a column of their own, as in-sample.
    """
    from pneumoseg.pipeline.scoring.headline import TITLES

    in_sample, nothing = images.measure(), images.predicting_nothing()
    quoted = cross_fitted.measure() if cross_fitted else in_sample
    in_two_lines = "predict\nnothing"  # so that names of scores fit beside it in 80 columns
    table = number_table(
        "", column, "95 % interval", *(["in-sample"] if cross_fitted else []), in_two_lines, title=title
    )
    table.columns[2].no_wrap = True
    for name, measured in quoted.items():
        beside = [in_sample[name].value] if cross_fitted else []
        value, *others = (number_cell(each, of=name) for each in (measured.value, *beside, nothing[name]))
        table.add_row(TITLES[name], value, interval_cell(measured, of=name), *others)
    count = PatientCount.of(images.groups)
    table.caption = f"{count}, {count.resampled_by}"
    if cross_fitted:
        table.caption += f"; cross-fitted: at the operating point tuned without the {count.unit}"
    elif column == "in-sample":
        table.caption += "; in-sample: at the operating point tuned on these images"
    if any(interval_cell(measured, of=name) == NO_INTERVAL for name, measured in quoted.items()):
        table.caption += f". {why_no_interval(count.unit)}"
    table.caption_justify = "left"
    return table


def predict_summary(report: "PredictReport") -> list[str | Table]:
    """Count segmented, refused and skipped files, and lay out why files have no result."""
    skipped = report.reasons.total() - report.refused
    lines: list[str | Table] = [
        f"{report.segmented} images segmented, {report.predicted_positive} predicted positive; "
        f"{report.refused} refused, {skipped} skipped, {report.other_files} unrelated files"
        f"{links_not_followed(report.links)}"
    ]
    if report.expectation:
        lines.append(report.expectation)
    if report.review:
        lines.append(
            f"{report.review} of them have to be reviewed: the reason is in the table and the report"
        )
    if report.kept:
        lines.append(f"{report.kept} of them had their results from an earlier run")
    if report.others:
        lines.append(
            f"{report.others} earlier results and refusals of other files are in the table, too: --overwrite would "
            "delete them"
        )
    if report.trained_on:
        lines.append(
            f"{report.trained_on} of them were in the model's training set, and do not test the model"
        )
    lines += [f"{count} images without {why}" for why, count in report.left_out.most_common()]
    if report.incomplete:
        lines.append(f"{report.incomplete} images lack a DICOM result that was requested")
    lines += [f"{count} images: {what}" for what, count in report.header_changes.most_common()]
    return [*lines, reasons_table(report.reasons)] if report.reasons else lines


def check_summary(report: "CheckReport") -> list[str | Table]:
    """Count accepted and other files, and lay out the reasons of warnings and refusals."""
    counts = [f"{report.statuses[status]} {status}" for status in ("accepted", *reversed(Outcome))]
    lines: list[str | Table] = [
        f"{', '.join(counts)}; {report.other_files} unrelated files{links_not_followed(report.links)}"
    ]
    return [*lines, reasons_table(report.reasons)] if report.reasons else lines


def models_table(models: Mapping[str, "ModelDescription"]) -> Table:
    """Lay out models by name: what they are, and how they scored on images that were held out of training.

    Args:
        models: Description of each model by its name.
    """
    table = number_table("model", "input", "networks", "trained on", "Dice", "predict nothing", "AUC")
    table.columns[0].no_wrap = True
    for name, model in models.items():
        search = model.operating_point_search
        cross_fitted = search.cross_fitted.dice if search and search.cross_fitted else None
        table.add_row(
            name,
            f"{model.preprocessing.image_size} px",
            str(len(model.members)),
            f"{model.trained_on.cases} images",
            number_cell(model.validation.get("dice") if cross_fitted is None else cross_fitted),
            *(number_cell(model.validation.get(key)) for key in ("predict_nothing", "auc")),
        )
    return table


def doctor_summary(report: "DoctorReport") -> list[str | Table]:
    """Lay out the versions of libraries and which are too old, the decoders, the devices, and advice."""
    libraries = Table("library", "installed", "required", "status")
    for library in report.libraries:
        status = "ok" if library.is_ok else "too old" if library.found else "missing"
        libraries.add_row(library.name, library.found or "-", library.floor or "-", status)
    decoders = Table(Column("transfer syntax", no_wrap=True), "name", "decoder", "status")
    for decoder in report.decoders:
        status = "ok" if decoder.available else "missing"
        decoders.add_row(decoder.transfer_syntax, decoder.syntax_name, decoder.library, status)
    return [libraries, decoders, *report.devices, *report.runtimes, *report.advice]


def number_table(*heads: str, title: str | None = None) -> Table:
    """Make a table whose columns hold numbers, except the first one.

    Args:
        heads: Column headings.
        title: Title above the table.
    """
    numbers = (Column(head, justify="right") for head in heads[1:])
    return Table(heads[0], *numbers, title=title, title_justify="left")


def links_not_followed(links: int) -> str:
    """Count links that were not followed, as the end of a line; empty where there are none.

    Args:
        links: Their number.
    """
    return f", {links} links not followed (--follow-links follows them)" if links else ""


def reasons_table(reasons: Mapping[str, int]) -> Table:
    """Lay out how many files have each reason, and what it means: refusals first, and the most frequent among them.

    Args:
        reasons: Number of files by the name of the reason.
    """
    table = Table("files", "outcome", "reason", "meaning")
    rank = list(Outcome).index
    for name, count in sorted(reasons.items(), key=lambda item: (rank(Reason[item[0]].outcome), -item[1])):
        table.add_row(str(count), Reason[name].outcome, name, Reason[name].sentence)
    return table
