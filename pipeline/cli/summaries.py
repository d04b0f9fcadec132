"""What a job did, as a few lines and tables for people."""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.table import Column, Table

from pneumoseg.pipeline.scoring.cells import interval_cell, number_cell
from pneumoseg.transforms.reader.reasons import Outcome, Reason

if TYPE_CHECKING:  # the jobs load MONAI
    from pneumoseg.pipeline.jobs.check import CheckReport
    from pneumoseg.pipeline.jobs.doctor import DoctorReport
    from pneumoseg.pipeline.jobs.evaluate import EvaluateReport
    from pneumoseg.pipeline.jobs.predict import PredictReport
    from pneumoseg.pipeline.jobs.prepare import PrepareReport
    from pneumoseg.pipeline.scoring.case_curves import OperatingPointScores
    from pneumoseg.pipeline.scoring.headline import ScoredImages


def prepare_summary(report: "PrepareReport") -> list[str | Table]:
    """Counts, whether patients can leak, the folds, and why files were left out."""
    manifest = report.manifest
    refused, skipped = report.reasons(Outcome.REFUSED), report.reasons(Outcome.SKIPPED)
    lines: list[str | Table] = [
        f"{manifest.size + len(manifest.unlabelled)} images: {manifest.size} labelled, {report.positive} of them "
        f"positive; {len(manifest.unlabelled)} unlabelled",
        f"{refused.total()} files refused, {skipped.total()} skipped, {report.other_files} other files",
        report.grouping.leakage,
    ]
    if report.labels_without_image:
        lines.append(f"{len(report.labels_without_image)} labels have no image here")
    if manifest.refused:
        lines.append(reasons_table(refused + skipped))
    folds = Table("fold", "images", "positive", "groups", title="Folds", title_justify="left")
    for column in folds.columns:
        column.justify = "right"
    for fold in range(manifest.folds):
        cases = [case for case in manifest.training if case.fold == fold]
        positive = sum(case.is_positive for case in cases)
        folds.add_row(str(fold), str(len(cases)), str(positive), str(len({case.group for case in cases})))
    return [*lines, folds]


def operating_point_table(found: "OperatingPointScores", *, title: str) -> Table:
    """Lay out the scores at an in-sample operating point beside those of an empty mask for every image."""
    score = found.score
    table = Table("", "model", "predict nothing", title=title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    rows: list[tuple[str, float | None, float | None]] = [
        ("Dice (the challenge's score)", score.dice, score.predict_nothing),
        ("Dice on positives", score.dice_positive, 0.0 if score.positives else None),
        ("sensitivity", score.sensitivity, 0.0 if score.positives else None),
        ("specificity", score.specificity, 1.0 if score.positives < score.images else None),
        ("AUC of the image probability", found.auc, 0.5 if found.auc is not None else None),
    ]
    for name, ours, nothing in rows:
        table.add_row(name, *("-" if value is None else f"{value:.4f}" for value in (ours, nothing)))
    images = f"{score.images} images, {score.positives} with a pneumothorax"
    table.caption = (
        f"{images}; {score.predicted_positive} predicted positive, at the in-sample operating point"
    )
    table.caption_justify = "left"
    return table


def evaluation_table(report: "EvaluateReport", *, title: str) -> Table:
    """Lay out the scores of an evaluation; the heads of the columns tell the operating points apart."""
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
    """Lay out every number with its interval, beside what an empty mask for every image would have.

    Args:
        images: What the numbers come from.
        title: Title above the table.
        column: Head of the first column of numbers.
        cross_fitted: The same images at cross-fitted operating points: their numbers are those to quote, and those of
            *images* stand beside them as in-sample.
    """
    from pneumoseg.pipeline.scoring.headline import TITLES  # noqa: PLC0415  (late, as `--help` does not need it)

    in_sample, nothing = images.measure(), images.predicting_nothing()
    quoted = cross_fitted.measure() if cross_fitted else in_sample
    table = Table("", column, "95 % interval", title=title, title_justify="left")
    if cross_fitted:
        table.add_column("in-sample")
    table.add_column("predict nothing")
    for each in table.columns[1:]:
        each.justify = "right"
    table.columns[2].no_wrap = True
    for name, measured in quoted.items():
        beside = [number_cell(in_sample[name].value)] if cross_fitted else []
        cells = number_cell(measured.value), interval_cell(measured), *beside, number_cell(nothing[name])
        table.add_row(TITLES[name], *cells)
    table.caption = f"{len(images)} images of {len(set(images.groups))} patients, resampled by patient"
    if cross_fitted:
        table.caption += "; cross-fitted: at the operating point tuned without the patient"
    elif column == "in-sample":
        table.caption += "; in-sample: at the operating point tuned on these images"
    table.caption_justify = "left"
    return table


def predict_summary(report: "PredictReport") -> list[str | Table]:
    """Counts, and why files have no result."""
    skipped = report.reasons.total() - report.refused
    lines: list[str | Table] = [
        f"{report.segmented} images segmented, {report.predicted_positive} called positive; {report.refused} refused, "
        f"{skipped} skipped, {report.other_files} other files"
    ]
    if report.kept:
        lines.append(f"{report.kept} of them had their results from an earlier run")
    if report.trained_on:
        lines.append(f"{report.trained_on} of them were in the model's training set: no test of the model")
    lines += [f"{count} images without {why}" for why, count in report.left_out.most_common()]
    return [*lines, reasons_table(report.reasons)] if report.reasons else lines


def check_summary(report: "CheckReport") -> list[str | Table]:
    """How many files are accepted, and why others are not or with a warning."""
    counts = [f"{report.statuses[status]} {status}" for status in ("accepted", *reversed(Outcome))]
    links = f", {report.links} links not followed" if report.links else ""
    lines: list[str | Table] = [f"{', '.join(counts)}; {report.other_files} other files{links}"]
    return [*lines, reasons_table(report.reasons)] if report.reasons else lines


def doctor_summary(report: "DoctorReport") -> list[str | Table]:
    """Libraries and whether they are new enough, decoders, devices, and advice."""
    libraries = Table("library", "found", "at least", "")
    for library in report.libraries:
        judgement = "ok" if library.is_ok else "too old" if library.found else "missing"
        libraries.add_row(library.name, library.found or "-", library.floor or "-", judgement)
    decoders = Table(Column("transfer syntax", no_wrap=True), "name", "decoder", "")
    for decoder in report.decoders:
        judgement = "ok" if decoder.available else "missing"
        decoders.add_row(decoder.transfer_syntax, decoder.syntax_name, decoder.library, judgement)
    return [libraries, decoders, *report.devices, *report.advice]


def reasons_table(reasons: Mapping[str, int]) -> Table:
    """How many files have each reason, and what it means."""
    table = Table("files", "reason", "what it means")
    for name, count in Counter(reasons).most_common():
        table.add_row(str(count), name, Reason[name].sentence)
    return table
