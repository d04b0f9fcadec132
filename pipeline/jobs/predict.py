"""Segment every radiograph under a folder, and write a row and the requested files for each."""

import logging
import os
from collections import Counter
from collections.abc import Collection, Generator
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from pneumoseg.pipeline.core.console import Pace, tracked
from pneumoseg.pipeline.core.devices import resolve_device
from pneumoseg.pipeline.core.interruption import InterruptedRunError, Interruption
from pneumoseg.pipeline.core.names import REVIEW
from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.inference.model import Model, ModelOptions, load_model
from pneumoseg.pipeline.inference.runtime_choice import choose_runtime
from pneumoseg.pipeline.jobs.cluster import LOCAL, RAY, check_engine, connected, process_on_ray
from pneumoseg.pipeline.jobs.report import write_report
from pneumoseg.pipeline.model.operating_points import expectation
from pneumoseg.pipeline.reading.duplicates import Duplicates, find_duplicates
from pneumoseg.pipeline.reading.folders import find_radiographs, look_for_uids
from pneumoseg.pipeline.reading.readers import Readers
from pneumoseg.pipeline.results.earlier import check_others, collect, due_files, keep_others, remove_others
from pneumoseg.pipeline.results.output_folder import claimed, remove_unfinished_of_parts
from pneumoseg.pipeline.results.planning import Names, Part
from pneumoseg.pipeline.results.processing import process_files
from pneumoseg.pipeline.results.receipts import Receipt, has_receipts
from pneumoseg.pipeline.results.run_log import counts, logged
from pneumoseg.pipeline.results.settings import (
    DEFAULT_KINDS,
    Settings,
    algorithm_parameters,
    check_kinds,
    check_uid_root,
    make_settings,
)
from pneumoseg.pipeline.results.tables import Receipts, was_trained_on, withdraw_tables, write_tables
from pneumoseg.pipeline.results.writing import Writer, lacks_requested_object
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.radiograph import Radiograph
from pneumoseg.transforms.reader.reasons import Outcome, RadiographError


@dataclass
class PredictReport:
    """Numbers of files of a folder, or of a part of it, by their results.

    Attributes:
        segmented: Segmented images.
        predicted_positive: Images among them with a mask that is not empty.
        reasons: Files without a result, by reason.
        refused: Files without a result that should have been radiographs; the others are skipped as they are none.
        other_files: Unrelated files.
        review: Segmented images whose result a person has to review.
        links: Links that were not followed.
        kept: Complete results of an earlier run, which were left as they are.
        others: Earlier results and refusals of files that are gone, or not among those given; no other number counts
            them.
        trained_on: Segmented images that the model was trained on; their results say nothing about new images.
        left_out: Images without a file of a requested kind, by kind and reason.
        incomplete: Images of which a requested DICOM result could not be made; withheld pictures of images with text in
            them do not count.
        header_changes: Images in whose DICOM results a value was cut, dropped, replaced or guessed, by what.
        has_tables: Whether the tables are written; they are written after the last part.
        expectation: How many pneumothoraces the operating point finds in validation; None if that is unknown.
    """

    segmented: int = 0
    predicted_positive: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    other_files: int = 0
    review: int = 0
    links: int = 0
    kept: int = 0
    others: int = 0
    trained_on: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    incomplete: int = 0
    header_changes: Counter[str] = field(default_factory=Counter)
    has_tables: bool = True
    expectation: str | None = None

    @property
    def exit_code(self) -> int:
        """0, or 3 where a file was refused, a result has to be reviewed, or a DICOM result could not be made."""
        return 3 if self.refused or self.review or self.incomplete else 0

    def count(self, receipt: Receipt, *, trained_on: bool) -> None:
        """Count one more file.

        Args:
            receipt: Receipt of the file.
            trained_on: Whether the model was trained on it.
        """
        row = receipt.row
        if receipt.is_result:
            self.segmented += 1
        else:
            self.reasons[str(row["reason"])] += 1
        self.trained_on += trained_on
        self.predicted_positive += row.get("decision") == "positive"
        self.review += row["status"] == REVIEW
        self.refused += row["status"] == Outcome.REFUSED
        self.left_out.update(why for why in str(row.get("left_out") or "").split("; ") if why)
        self.header_changes.update(what for what in str(row.get("header") or "").split("; ") if what)
        self.incomplete += lacks_requested_object(row)


def predict_folder(
    model_folder: str | Path,
    folder: str | Path,
    output: str | Path,
    *,
    kinds: Collection[str] = DEFAULT_KINDS,
    options: ModelOptions = ModelOptions(),
    runtime: Runtime = Runtime(),
    acceptance: AcceptanceFilters | None = None,
    overwrite: bool = False,
    research: bool = False,
    part: Part | None = None,
    uid_root: str | None = None,
    follow_links: bool = False,
    model: Model | None = None,
    only: Collection[str | Path] | None = None,
    known: dict[Path, str] | None = None,
    readers: Readers[Radiograph] | None = None,
    engine: str = LOCAL,
) -> PredictReport:
    """Segment every radiograph under a folder, or continue an earlier run.

    Each file gets a receipt, written last, with the hashes of the file, the settings and the results. A rerun skips
    files with a valid receipt: those whose content, model and settings are the same, and whose results are complete.

    Args:
        model_folder: Model folder written by `train_model`, or the name of a model of the package.
        folder: Folder to search, with its subfolders.
        output: Folder for ``predictions.csv``, ``report.html``, a folder for each kind, ``receipts/`` and ``run.log``.
        kinds: Kinds of results, of `pneumoseg.pipeline.results.settings.KINDS`; ``predictions.csv`` is always written.
        options: How to use the model.
        runtime: Device, batch size and workers. The batch size is one of the settings that a receipt is valid for.
        acceptance: Which files are accepted as frontal chest radiographs, and whether to assume that text in an image
            is not identifying; without that, no picture is made of it.
        overwrite: Delete earlier results in *output*, and make them again. The time of an analysis stays the first.
            Otherwise the results of files that are gone, or not among those given, stay in the tables.
        research: Keep everything that identifies a person out of all results: names, dates, paths, quoted tags.
        part: Process only this part; the part that ends last writes the tables.
        uid_root: Root of the UIDs of DICOM results; None makes UIDs under 2.25.
        follow_links: Whether to follow links in *folder*.
        model: Model that was loaded from *model_folder* with *options* before; None loads it.
        only: Paths of the files to process, of those in *folder*; None for all.
        known: SHA-256 of files that have not changed since an earlier call of this process: neither they nor their
            results are read again. The files of this call are added.
        readers: Decoding processes that serve several calls, with the filters of *acceptance*; None starts some.
        engine: Where files are processed: ``local``, in this process, or ``ray``, on a Ray cluster whose machines see
            the same folders.

    Returns: Numbers of files by their results.

    Raises:
        UsageError: If an argument does not fit, or *output* holds results of another folder, or results of other files
            that were made with other settings.
        JobError: If the model cannot be used, the folder holds no radiograph, another process uses *output*, or a
            signal was received.
    """
    model_folder, folder, output = Path(model_folder), Path(folder), Path(output)
    check_kinds(kinds, dropout_passes=options.dropout_passes)
    check_uid_root(uid_root)
    check_engine(engine, part)
    acceptance = acceptance or AcceptanceFilters()
    within = folder if folder.is_dir() else folder.parent
    loaded = model or load_model(model_folder, resolve_device(runtime.device), options)
    found = find_radiographs(
        folder,
        leave_out=[output],
        follow_links=follow_links,
        warn_of_archives=not known,
        only=None if only is None else set(map(Path, only)),
    )
    model = model or choose_runtime(loaded, images=len(found.images), batch_size=runtime.batch_size)
    settings = make_settings(
        kinds,
        acceptance=acceptance,
        research=research,
        batch_size=runtime.batch_size,
        model=model,
        uid_root=uid_root,
    )
    with (
        connected() if engine == RAY else nullcontext(),
        claimed(output, part=part, overwrite=overwrite, source=within, inputs=[model_folder, folder]),
    ):
        names = Names(within, research=research, max_bytes=acceptance.max_bytes)
        mine = part.of(found.images) if part else found.images
        facts = {"pneumoseg": version("pneumoseg"), "files": len(mine), "settings": settings.sha256[:16]}
        log_path = output / (f"run-{part}.log" if part else "run.log")
        with logged(log_path, facts=facts) as log, Interruption() as interruption:
            writer = Writer(output, settings, algorithm_parameters(model))
            due, refused, rule = mine, dict[Path, RadiographError](), Duplicates()
            # otherwise names come from the one read of each file
            if part or engine == RAY or has_receipts(output):
                uids = look_for_uids(found.images)
                planned = list(map(names.plan, found.images, uids))
                refused = find_duplicates(
                    found.images, uids, within, acceptance=acceptance, workers=runtime.workers
                )
                if overwrite:
                    remove_others(output, planned)
                else:
                    check_others(output, planned, settings)
                    due = due_files(
                        output,
                        part.of(planned) if part else planned,
                        settings,
                        duplicates=refused,
                        known=known or {},
                    )
            if due:
                withdraw_tables(output)
            if engine == RAY:
                processing = process_on_ray(
                    model,
                    options,
                    writer,
                    [names.files[path] for path in due],
                    workers=runtime.workers,
                    refused=refused,
                )
            else:
                processing = process_files(
                    model,
                    writer,
                    due,
                    names.plan,
                    workers=runtime.workers,
                    readers=readers,
                    refused=refused,
                    refuse=(lambda path, read: names.files[path].check(read))
                    if names.files
                    else lambda path, read: rule.check(os.path.relpath(path, within), read),
                )
            _follow(processing, len(due), log, interruption)
            planned = list(names.files.values())
            receipts = collect(output, planned, settings, own=set(mine), duplicates=refused)
            others = 0 if receipts is None else _write_tables(receipts, settings, model)
            if receipts is not None and part:
                remove_unfinished_of_parts(output, part)
            own = Receipts(output, part.of(planned) if part else planned)
            report = PredictReport(
                other_files=found.others,
                links=found.links,
                kept=len(mine) - len(due),
                others=others,
                has_tables=receipts is not None,
                expectation=expectation(model.description, model.objective),
            )
            for file, receipt in zip(own.planned, own, strict=True):
                report.count(receipt, trained_on=was_trained_on(model, receipt))
                if known is not None and receipt.input_sha256 is not None:
                    known[file.path] = receipt.input_sha256
            log.info(
                f"segmented {report.segmented}, {report.kept} of them in an earlier run; to review: {report.review}; "
                f"without a result: {counts(report.reasons)}"
            )
            if report.expectation:
                log.info(report.expectation)
    return report


def _write_tables(receipts: Receipts, settings: Settings, model: Model) -> int:
    """Write tables and report of the files of a run and of others with earlier results; returns how many these are."""
    output, planned = receipts.output, receipts.planned
    others = keep_others(receipts, settings)
    rows = [*planned, *others]
    write_tables(output, rows, Receipts(output, rows), settings, model)
    write_report(output)
    return len(others)


def _follow(processing: Generator[Path], total: int, log: logging.Logger, interruption: Interruption) -> None:
    """Process all files, with a display and a log of the progress; a signal ends it after the file at hand."""
    pace = Pace(total)
    with tracked("segment", total=total) as advance, closing(processing):
        for done, _ in enumerate(processing, 1):
            advance()
            if (progress := pace.advance()) is not None:
                log.info(progress)
            if interruption.received and done < total:
                raise InterruptedRunError(
                    f"interrupted; {done} of {total} files are done, the same command continues with the rest",
                    interruption.received,
                )
