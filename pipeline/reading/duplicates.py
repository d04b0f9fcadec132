"""Files that share a SOPInstanceUID: one rule for all jobs."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pneumoseg.pipeline.core.names import shown
from pneumoseg.pipeline.reading.facts import Facts, read_facts
from pneumoseg.pipeline.reading.readers import Readers
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.radiograph import Radiograph
from pneumoseg.transforms.reader.reasons import Outcome, RadiographError, Reason


class Duplicates:
    """The rule: of files with one UID the first is used; later ones are skipped, or refused if their pixels differ.

    The first is that which comes first in the order of paths and is accepted. Only UIDs and hashes are in memory.
    """

    def __init__(self) -> None:
        self._first: dict[str, tuple[str, str]] = {}

    def check(self, name: str, facts: Facts | Radiograph) -> RadiographError | None:
        """Look for an earlier file with the same UID; call for all accepted files in the order of their paths.

        Args:
            name: Name of the file, for the errors of later ones.
            facts: Attributes of the file, or all of it.

        Returns: Error of a file whose UID has been seen; None for any other file, and for one without a UID.
        """
        if facts.sop_instance_uid is None:
            return None
        first, pixels = self._first.setdefault(facts.sop_instance_uid, (name, facts.pixel_sha256))
        if first == name:
            return None
        if pixels == facts.pixel_sha256:
            error = RadiographError(
                Reason.DUPLICATE_UID, f"the same image as {shown(first)}", Outcome.SKIPPED
            )
        else:
            error = RadiographError(Reason.DUPLICATE_UID, f"{shown(first)} has other pixels")
        error.file_sha256, error.sop_instance_uid = facts.file_sha256, facts.sop_instance_uid
        return error


def find_duplicates(
    paths: Sequence[Path],
    uids: Sequence[str | None],
    folder: Path,
    *,
    acceptance: AcceptanceFilters | None = None,
    workers: int = 1,
) -> dict[Path, RadiographError]:
    """Apply the rule before files are processed, so that it holds in every part of a run and when it is resumed.

    Only files are read that have the UID of another file.

    Args:
        paths: Paths of all files, in their order.
        uids: UID of each file: see `look_for_uids`.
        folder: Folder that names of files are relative to, in the errors.
        acceptance: Which files are accepted as frontal chest radiographs.
        workers: Number of decoding processes; 0 decodes in this process, without protection from damaged files.

    Returns: Errors of the duplicates.
    """
    count = Counter(uids)
    shared = [path for path, uid in zip(paths, uids, strict=True) if uid and count[uid] > 1]
    rule, errors = Duplicates(), dict[Path, RadiographError]()
    if shared:
        with Readers(read_facts, acceptance=acceptance, workers=workers) as readers:
            for path, result in zip(shared, readers.read(shared), strict=True):
                if not isinstance(result, RadiographError):
                    error = rule.check(os.path.relpath(path, folder), result)
                    errors |= {} if error is None else {path: error}
    return errors
