"""Check which files of a folder can be read as radiographs, and why the others cannot."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pneumoseg.pipeline.core.claims import claim_file
from pneumoseg.pipeline.core.console import tracked
from pneumoseg.pipeline.core.files import write_csv
from pneumoseg.pipeline.reading.duplicates import Duplicates
from pneumoseg.pipeline.reading.facts import Facts, read_facts
from pneumoseg.pipeline.reading.folders import FoundFiles, find_radiographs
from pneumoseg.pipeline.reading.readers import Readers
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.reasons import Outcome, RadiographError, Reason

COLUMNS: Final = (
    "file", "status", "reason", "detail", "rows", "columns", "bits_stored", "photometric_interpretation",
    "transfer_syntax", "modality", "view", "spacing_mm", "sop_instance_uid", "pixel_sha256",
)  # fmt: skip
ACCEPTED: Final = "accepted"
Row = dict[str, object]

_WINDOW: Final = 256  # results without pixels are small, and a slow file should not hold up other workers


@dataclass(frozen=True)
class CheckReport:
    """Numbers of files of a folder, by the result of the check.

    Attributes:
        statuses: Files by status: accepted, warned, skipped or refused.
        reasons: Files by reason; one file may have several.
        other_files: Unrelated files.
        links: Links that were not followed.
    """

    statuses: Counter[str]
    reasons: Counter[str]
    other_files: int
    links: int

    @property
    def exit_code(self) -> int:
        """0, or 3 where a file was refused."""
        return 3 if self.statuses[Outcome.REFUSED] else 0


def check_folder(
    folder: str | Path,
    output: str | Path,
    *,
    acceptance: AcceptanceFilters | None = None,
    workers: int = 1,
    follow_links: bool = False,
    overwrite: bool = False,
) -> CheckReport:
    """Read every radiograph under a folder, and write a table with a row for each file: accepted, or why not.

    Files that are DICOM or PNG neither by content nor by name are only counted.

    Args:
        folder: Folder to search, with its subfolders.
        output: Path of the table, a CSV file.
        acceptance: Which files are accepted as frontal chest radiographs.
        workers: Processes that decode; 0 decodes in this process, without protection from damaged files.
        follow_links: Whether to follow links.
        overwrite: Replace an earlier table.

    Returns: Numbers of files by the result of the check.

    Raises:
        UsageError: If an argument does not fit.
        JobError: If the folder holds no radiograph.
    """
    folder, output = Path(folder), Path(output)
    claim_file(output, overwrite=overwrite, inputs=[folder])
    with Readers(read_facts, acceptance=acceptance, workers=workers, window=_WINDOW) as readers:
        found = find_radiographs(folder, leave_out=[output], follow_links=follow_links)
        table = _Table()
        with tracked("check", total=len(found.images)) as advance:
            for path, result in zip(found.images, readers.read(found.images), strict=True):
                table.add(_name(path, folder), result)
                advance()
    write_csv(output, table.rows, COLUMNS)
    return table.report(found)


def _name(path: Path, folder: Path) -> str:
    return path.name if path == folder else path.relative_to(folder).as_posix()


@dataclass
class _Table:
    """Rows in the order of their files, and the UIDs and pixel hashes seen so far.

    The same pixels under another UID are counted but not mentioned in a row: the row of an accepted file does not
    depend on other files, and equal `pixel_sha256` show which files they are.
    """

    rows: list[Row] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    duplicates: Duplicates = field(default_factory=Duplicates)
    pixels: set[str] = field(default_factory=set)
    """Hashes of all pixels."""

    def add(self, where: str, result: Facts | RadiographError) -> None:
        """Add the row of one file."""
        error = result if isinstance(result, RadiographError) else self.duplicates.check(where, result)
        if error is not None:
            row = _verdict(error.outcome, [(error.reason, error.detail)])
        else:
            assert isinstance(result, Facts)  # noqa: S101  (else there is an error)
            row = _verdict(Outcome.WARNED if result.warnings else ACCEPTED, result.warnings)
            self.reasons[Reason.DUPLICATE_IMAGE] += result.pixel_sha256 in self.pixels
            self.pixels.add(result.pixel_sha256)
        if isinstance(result, Facts):
            row |= _columns(result)
        self.reasons.update(str(row["reason"]).split())
        self.rows.append({"file": where} | row)

    def report(self, found: FoundFiles) -> CheckReport:
        """Count the rows by status."""
        statuses = Counter(str(row["status"]) for row in self.rows)
        return CheckReport(statuses, +self.reasons, found.others, found.links)


def _verdict(status: str, reasons: Sequence[tuple[Reason, str]]) -> Row:
    return {
        "status": status,
        "reason": " ".join(dict.fromkeys(reason for reason, _ in reasons)),
        "detail": "; ".join(detail for _, detail in reasons),
    }


def _columns(facts: Facts) -> Row:
    rows, columns = facts.shape
    return {
        "rows": rows,
        "columns": columns,
        "bits_stored": facts.bits_stored,
        "photometric_interpretation": facts.photometric_interpretation,
        "transfer_syntax": facts.transfer_syntax,
        "modality": facts.modality,
        "view": facts.view,
        "spacing_mm": facts.spacing_mm and "{:.6g} {:.6g}".format(*facts.spacing_mm),
        "sop_instance_uid": facts.sop_instance_uid,
        "pixel_sha256": facts.pixel_sha256,
    }
