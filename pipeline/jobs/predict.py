"""Segment every radiograph under a folder: a row and the files that were asked for, for each."""

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from pneumoseg.pipeline.core.console import tracked
from pneumoseg.pipeline.core.devices import resolve_device
from pneumoseg.pipeline.core.interruption import InterruptedRunError, Interruption
from pneumoseg.pipeline.inference.model import Model, load_model
from pneumoseg.pipeline.inference.segment import NotRead, segment_files
from pneumoseg.pipeline.inference.segmentation import Segmentation
from pneumoseg.pipeline.jobs.report import write_report
from pneumoseg.pipeline.reading.folders import find_radiographs
from pneumoseg.pipeline.results.output_folder import claimed, remove_leftovers, remove_unfinished_of_parts
from pneumoseg.pipeline.results.planning import Part, Planned, content_sha256, plan, read_content
from pneumoseg.pipeline.results.receipts import Receipt, is_valid, read_receipt, withdraw, write_receipt
from pneumoseg.pipeline.results.rows import row_of, row_without_result
from pneumoseg.pipeline.results.run_log import counts, logged
from pneumoseg.pipeline.results.settings import DEFAULT_KINDS, check_kinds, make_settings
from pneumoseg.pipeline.results.tables import collect, was_trained_on, withdraw_tables, write_tables
from pneumoseg.pipeline.results.writing import Writer
from pneumoseg.transforms.measurements import measure
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.reasons import Outcome


@dataclass(frozen=True)
class PredictReport:
    """What became of the files of a folder, or of a part of it."""

    segmented: int
    predicted_positive: int
    reasons: Counter[str]
    """Files without a result, by reason."""
    refused: int
    """Those among them that should have been radiographs; the others are skipped, as they are none."""
    other_files: int
    kept: int = 0
    """Results of an earlier run that are whole, and were left as they are."""
    trained_on: int = 0
    """Segmented images that the model was trained on; their results say nothing about new images."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Images without a file of some kind, by kind and reason."""
    has_tables: bool = True
    """Whether the tables are written: not before all parts are done."""

    @property
    def exit_code(self) -> int:
        """0, or 3 where a file was refused."""
        return 3 if self.refused else 0


def predict_folder(
    model_folder: Path,
    folder: Path,
    output: Path,
    *,
    kinds: Collection[str] = DEFAULT_KINDS,
    aim: str | None = None,
    tta: Sequence[str] | None = None,
    calibrated: bool = False,
    dropout_passes: int = 0,
    device: str = "auto",
    batch_size: int = 4,
    acceptance: AcceptanceFilters | None = None,
    workers: int = 1,
    overwrite: bool = False,
    research: bool = False,
    part: Part | None = None,
) -> PredictReport:
    """Segment every radiograph under a folder, or go on where an earlier run was interrupted.

    Each file has a receipt, written last, of what its results were made from: a rerun makes only those anew whose
    file, model or settings have changed, or whose results are not whole.

    Args:
        model_folder: From `train_model`; its operating point decides.
        folder: Searched with its subfolders.
        output: Gets ``predictions.csv``, ``report.html``, a folder for each kind, ``receipts/`` and ``run.log``.
        kinds: Of `pneumoseg.pipeline.results.settings.KINDS`; ``predictions.csv`` is always written.
        aim: What the operating point is to be best for: see `point_for`; None takes the model's own.
        tta: Test-time augmentations: see `parse_tta`; None takes the model's own.
        calibrated: Give probabilities at the temperature that training has fitted; masks stay as they are.
        dropout_passes: Monte-Carlo dropout samples: their mean decides, and each result has its uncertainty, the
            standard deviation of the image probability. 0 leaves dropout off.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        batch_size: Images at a time.
        acceptance: Which files count as frontal chest radiographs, and whether text in one is harmless: without that
            no picture is made of it, for the text may be a name.
        workers: Processes that decode; none decodes in this one, without protection from damaged files.
        overwrite: Delete an earlier result in *output*.
        research: Keep out of all results what tells of a person: names, numbers, dates, paths, quoted tags.
        part: Do only this part; the one that is done last writes the tables.

    Raises:
        UsageError: If an argument does not fit.
        JobError: If the model cannot be used, the folder holds no radiograph, another process works on *output*, or
            a signal asked to stop.
    """
    check_kinds(kinds, dropout_passes=dropout_passes)
    acceptance = acceptance or AcceptanceFilters()
    model = load_model(
        model_folder,
        resolve_device(device),
        aim=aim,
        tta=tta,
        calibrated=calibrated,
        dropout_passes=dropout_passes,
    )
    found = find_radiographs(folder, leave_out=[output])
    settings = make_settings(
        kinds, acceptance=acceptance, research=research, batch_size=batch_size, model=model
    )
    with claimed(output, part=part, overwrite=overwrite, inputs=[model_folder, folder]):
        within = folder if folder.is_dir() else folder.parent
        planned = plan(found.images, within, research=research, max_bytes=acceptance.max_bytes)
        mine = part.of(planned) if part else planned
        facts = {"pneumoseg": version("pneumoseg"), "files": len(mine), "settings": settings.sha256[:16]}
        log_path = output / (f"run-{part}.log" if part else "run.log")
        with logged(log_path, facts=facts) as log, Interruption() as interruption:
            files = _Files(Writer(output, settings))
            due = files.due(mine)
            log.expect(len(due))
            if due:
                withdraw_tables(output)
            segmenting = segment_files(
                model,
                [file.path for file in due],
                acceptance=acceptance,
                batch_size=batch_size,
                workers=workers,
                even_batches=True,
                attention="attention" in settings.kinds,
            )
            with tracked("segment", total=len(due)) as advance, closing(segmenting):
                for number, (file, result) in enumerate(zip(due, segmenting, strict=True)):
                    if interruption.received:
                        raise InterruptedRunError(
                            f"interrupted; {number} of {len(due)} files are done, "
                            "the same command goes on with the rest",
                            interruption.received,
                        )
                    files.finish(file, result)
                    log.advance()
                    advance()
            receipts = collect(output, planned, settings)
            if receipts is not None:
                remove_leftovers(output, planned)
                write_tables(output, planned, receipts, settings, model)
                write_report(output)
                if part:
                    remove_unfinished_of_parts(output, part)
            own = receipts if part is None else collect(output, mine, settings)
            report = _report(
                own or [],
                model=model,
                other_files=found.others,
                kept=len(mine) - len(due),
                has_tables=receipts is not None,
            )
            log.line(
                f"segmented {report.segmented}, {report.kept} of them before; "
                f"without result: {counts(report.reasons)}"
            )
    return report


class _Files:
    """Does one file after the other.

    Args:
        writer: Of their results.
    """

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.output, self.settings = writer.output, writer.settings
        self._digests: dict[Path, str | None] = {}

    def due(self, planned: Sequence[Planned]) -> list[Planned]:
        """The files of which there is something to make."""
        due = []
        with tracked("look for earlier results", total=len(planned)) as advance:
            for file in planned:
                if not self._is_done(file):
                    due.append(file)
                advance()
        return due

    def _is_done(self, file: Planned) -> bool:
        """Whether an earlier run has made all that this one would make of a file."""
        digest = content_sha256(file.path, self.settings.acceptance.max_bytes)
        self._digests[file.path] = digest  # of before it is read: what is changed meanwhile is done again
        return is_valid(
            read_receipt(self.output, file.name),
            self.output,
            input_sha256=digest,
            settings_sha256=self.settings.sha256,
        )

    def finish(self, file: Planned, result: Segmentation | NotRead) -> None:
        """Write all that is asked for of a file, and at last its receipt."""
        withdraw(self.output, file.name, keep=frozenset(self.writer.paths(file.name).values()))
        research, outputs = self.settings.research, {}
        if isinstance(result, NotRead):
            row = row_without_result(result, research=research)
            for path in self.writer.paths(file.name).values():
                (self.output / path).unlink(missing_ok=True)
        else:
            radiograph = result.radiograph
            measurements = measure(
                result.mask,
                probability=result.probability,
                spacing_mm=radiograph.spacing_mm,
                patient_orientation=radiograph.patient_orientation,
                warned_of=[reason for reason, _ in radiograph.warnings],
            )
            written = self.writer.write(file.name, result, measurements, self._content(file))
            outputs = written.outputs
            row = row_of(result, file.name, measurements, written.left_out, research=research)
        write_receipt(
            self.output,
            file.name,
            Receipt(
                input_sha256=self._digests[file.path],
                settings_sha256=self.settings.sha256,
                row=row,
                outputs=outputs,
            ),
        )

    def _content(self, file: Planned) -> bytes | None:
        """The bytes of a file if they are needed, and still those that it had."""
        if not self.writer.needs_content:
            return None
        content = read_content(file.path, self.settings.acceptance.max_bytes)
        is_same = content is not None and hashlib.sha256(content).hexdigest() == self._digests[file.path]
        return content if is_same else None


def _report(
    receipts: Sequence[Receipt], *, model: Model, other_files: int, kept: int, has_tables: bool
) -> PredictReport:
    segmented = predicted_positive = refused = trained_on = 0
    reasons: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    for receipt in receipts:
        row = receipt.row
        segmented += receipt.is_result
        trained_on += was_trained_on(model, receipt)
        predicted_positive += row.get("decision") == "positive"
        refused += row["status"] == Outcome.REFUSED
        if not receipt.is_result:
            reasons[str(row["reason"])] += 1
        left_out.update(why for why in str(row.get("left_out") or "").split("; ") if why)
    return PredictReport(
        segmented=segmented,
        predicted_positive=predicted_positive,
        reasons=reasons,
        refused=refused,
        other_files=other_files,
        kept=kept,
        trained_on=trained_on,
        left_out=left_out,
        has_tables=has_tables,
    )
