"""Earlier results in the folder of a run: those of its own files that are kept, and those of other files."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from pneumoseg.pipeline.core.console import tracked
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.core.files import UNFINISHED
from pneumoseg.pipeline.core.names import shown
from pneumoseg.pipeline.results.planning import Planned, content_sha256
from pneumoseg.pipeline.results.receipts import FOLDER, Receipt, is_valid, read_receipt, withdraw
from pneumoseg.pipeline.results.settings import Settings
from pneumoseg.pipeline.results.tables import Receipts
from pneumoseg.pipeline.runtimes.libraries import RUNTIMES
from pneumoseg.transforms.reader.reasons import Reason


def due_files(
    output: Path,
    planned: Sequence[Planned],
    settings: Settings,
    *,
    duplicates: Collection[Path],
    known: Mapping[Path, str],
) -> list[Path]:
    """List the files without complete results; only files with a receipt of these settings are hashed.

    Args:
        output: Folder of the results.
        planned: The files.
        settings: Settings of the run.
        duplicates: Files that are to be refused as duplicates; that depends on other files and is done again each time.
        known: SHA-256 of files that need not be hashed, and whose results need not be looked at.
    """

    def is_done(file: Planned) -> bool:
        receipt = read_receipt(output, file.name)
        if receipt is None or not receipt.is_of(file.shown, settings.sha256) or file.path in duplicates:
            return False
        if file.path in known and receipt.input_sha256 == known[file.path] and not _is_duplicate(receipt):
            return True
        return is_valid(receipt, output, hash_input=partial(content_sha256, file.path, max_bytes))

    max_bytes, due = settings.acceptance.max_bytes, []
    with tracked("look for earlier results", total=len(planned)) as advance:
        for file in planned:
            if not is_done(file):
                due.append(file.path)
            advance()
    return due


def collect(
    output: Path,
    planned: Sequence[Planned],
    settings: Settings,
    *,
    own: Collection[Path],
    duplicates: Collection[Path] = (),
) -> Receipts | None:
    """Collect the receipts of files.

    A receipt of another run, as a part of this one is, is taken only if the file still has the content that it states.
    Such files are hashed last, and so by the last part only.

    Args:
        output: Folder of the results.
        planned: The files.
        settings: Settings of the run.
        own: Files among them that this run has processed, or whose receipts it has checked.
        duplicates: Files that have to be refused as duplicates.

    Returns: The receipts in the order of *planned*; None if one is missing, or one of another file or other settings.
    """
    for file in planned:
        receipt = read_receipt(output, file.name)
        if receipt is None or not receipt.is_of(file.shown, settings.sha256):
            return None
    for file in planned:
        if file.path in own:
            continue
        receipt = read_receipt(output, file.name)
        if receipt is None or _is_duplicate(receipt) != (file.path in duplicates):
            return None
        if receipt.input_sha256 != content_sha256(file.path, settings.acceptance.max_bytes):
            return None
    return Receipts(output, planned)


def check_others(output: Path, planned: Sequence[Planned], settings: Settings) -> None:
    """Check that the results of other files can stay in the tables of a run.

    Another runtime is no hindrance: ``auto`` chooses one by the number of files, and its outputs have been checked.

    Args:
        output: Folder of the results.
        planned: Files of the run.
        settings: Settings of the run.

    Raises: UsageError: If some of them were made with other settings, with which they cannot be made again.
    """
    present = {shown(file.shown) for file in planned}
    fitting = {replace(settings, runtime=name).sha256 for name in RUNTIMES}
    count = sum(
        receipt.image not in present and receipt.settings_sha256 not in fitting
        for _, receipt in _others(output, planned)
    )
    if count:
        raise UsageError(
            f"{output} holds results of {count} files that are gone or not among those given, made with other "
            "settings or another release; name another folder for the results, or give --overwrite to delete them"
        )


def keep_others(receipts: Receipts, settings: Settings) -> list[Planned]:
    """List the results of other files, which stay in the tables, and delete what the results of a run replace.

    Replaced is the result of a file of the run under another name; and, of a file with the content of one of the run,
    what is no result, or, for research, has no path to tell them apart.

    Args:
        receipts: Receipts of the files of the run.
        settings: Settings of the run.
    """
    if not (others := _others(receipts.output, receipts.planned)):
        return []
    present = {shown(file.shown) for file in receipts.planned}
    contents = {receipt.input_sha256 for receipt in receipts} - {None}
    kept = []
    for name, receipt in others:
        is_same = receipt.input_sha256 in contents and (settings.research or not receipt.is_result)
        if is_same or receipt.image in present:
            withdraw(receipts.output, name)
        else:
            kept.append(Planned(Path(receipt.image), receipt.image, name))
    return sorted(kept, key=lambda file: file.shown)


def remove_others(output: Path, planned: Sequence[Planned]) -> None:
    """Delete the results of other files.

    Args:
        output: Folder of the results.
        planned: Files of the run.
    """
    for name, _ in _others(output, planned):
        withdraw(output, name)


def _others(output: Path, planned: Sequence[Planned]) -> list[tuple[str, Receipt]]:
    """Read the receipts of all names but those of a run; what is no receipt is left alone."""
    names = {file.name for file in planned}
    found = sorted(
        path.stem for path in (output / FOLDER).glob("*.json") if not path.name.startswith(UNFINISHED)
    )
    receipts = ((name, read_receipt(output, name)) for name in found if name not in names)
    return [(name, receipt) for name, receipt in receipts if receipt is not None]


def _is_duplicate(receipt: Receipt) -> bool:
    return bool(receipt.row["reason"] == Reason.DUPLICATE_UID)
