"""Files through a model to result files and receipts: the same code in one process, in a part and on a cluster."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from pneumoseg.pipeline.core.names import shown
from pneumoseg.pipeline.inference.model import Model
from pneumoseg.pipeline.inference.segment import NotRead, Refuse, segment_files
from pneumoseg.pipeline.inference.segmentation import Segmentation
from pneumoseg.pipeline.reading.folders import look_for_uids
from pneumoseg.pipeline.reading.readers import Readers
from pneumoseg.pipeline.results.planning import Planned, content_sha256
from pneumoseg.pipeline.results.receipts import Receipt, history_of, read_receipt, withdraw, write_receipt
from pneumoseg.pipeline.results.rows import row_of, row_without_result
from pneumoseg.pipeline.results.writing import Writer
from pneumoseg.transforms.measurements import measure
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.radiograph import Radiograph
from pneumoseg.transforms.reader.reasons import RadiographError

Plan = Callable[[Path, str | None, str | None], Planned]
"""Names the results of a file by its path, SOPInstanceUID and SHA-256: see `Names.plan`."""


def process_files(
    model: Model,
    writer: Writer,
    paths: Sequence[Path],
    plan: Plan,
    *,
    workers: int = 1,
    readers: Readers[Radiograph] | None = None,
    refused: Mapping[Path, RadiographError] | None = None,
    refuse: Refuse | None = None,
) -> Generator[Path]:
    """Segment files, and write the results and the receipt of each before the next.

    Args:
        model: Loaded model.
        writer: Writer of the results; its settings are those of the run.
        paths: Paths of the files.
        plan: Names the results of a file.
        workers: Number of decoding processes.
        readers: Decoding processes to use; None starts *workers* of them, and ends them.
        refused: Errors of files that are not to be read.
        refuse: Function that is called with each radiograph, in order, and returns an error for one not to be used.

    Returns: The path of each file, once its receipt is written. Close the generator to stop early.
    """
    settings = writer.settings
    segmenting = segment_files(
        model,
        paths,
        acceptance=settings.acceptance,
        batch_size=settings.batch_size,
        workers=workers,
        readers=readers,
        even_batches=True,
        attention="attention" in settings.kinds,
        refused=refused,
        refuse=refuse,
    )
    with closing(segmenting):
        for path, result in zip(paths, segmenting, strict=True):
            uid, sha256 = _identity(path, result, settings.acceptance)
            _save(writer, plan(path, uid, sha256), result, input_sha256=sha256)
            yield path


def _identity(
    path: Path, result: Segmentation | NotRead, acceptance: AcceptanceFilters
) -> tuple[str | None, str | None]:
    """Give the SOPInstanceUID and the SHA-256 of a file; one that was not read to its end is opened again for them."""
    if isinstance(result, Segmentation):
        return result.radiograph.sop_instance_uid, result.radiograph.file_sha256
    if result.error.file_sha256:
        return result.error.sop_instance_uid, result.error.file_sha256
    return look_for_uids([path])[0], content_sha256(path, acceptance.max_bytes)


def _save(writer: Writer, file: Planned, result: Segmentation | NotRead, *, input_sha256: str | None) -> None:
    """Measure a segmentation, write its files and, last of all, the receipt."""
    output, settings = writer.output, writer.settings
    former = read_receipt(output, file.name)
    withdraw(output, file.name, keep=frozenset(writer.paths(file.name).values()))
    if isinstance(result, NotRead):
        writer.remove(file.name)
        receipt = Receipt(
            image=shown(file.shown),
            input_sha256=input_sha256,
            settings_sha256=settings.sha256,
            row=row_without_result(result, research=settings.research),
        )
    else:
        radiograph = result.radiograph
        measurements = measure(
            result.mask,
            probability=result.probability,
            spacing_mm=radiograph.spacing_mm,
            is_calibrated=radiograph.is_calibrated,
            patient_orientation=radiograph.patient_orientation,
            warned_of=[reason for reason, _ in radiograph.warnings],
        )
        history = history_of(former, input_sha256=input_sha256, analysis_sha256=settings.analysis_sha256)
        written = writer.write(file.name, result, measurements, history)
        receipt = Receipt(
            image=shown(file.shown),
            input_sha256=input_sha256,
            settings_sha256=settings.sha256,
            row=row_of(
                result,
                file.name,
                measurements,
                written.left_out,
                research=settings.research,
                header_changes=written.header_changes,
            ),
            outputs=written.outputs,
            analysis_sha256=settings.analysis_sha256,
            analysed_at=history.analysed_at.isoformat(),
            report=written.report,
            replaces=written.replaces,
        )
    write_receipt(output, file.name, receipt)
