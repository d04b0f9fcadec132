"""Files that share a SOPInstanceUID: one rule for all jobs."""

import os
from collections import Counter
from pathlib import Path

from pneumoseg.pipeline.core.names import shown
from pneumoseg.pipeline.reading.facts import Facts, read_facts
from pneumoseg.pipeline.reading.folders import FoundFiles
from pneumoseg.pipeline.reading.readers import Readers
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.reasons import Outcome, RadiographError, Reason


class Duplicates:
    """The rule: of files with one UID the first is used; later ones are skipped, or refused if their pixels differ.

    The first is that which comes first in the order of paths and is accepted. Only UIDs and hashes are in memory.
    """

    def __init__(self) -> None:
        self._first: dict[str, tuple[str, str]] = {}

    def check(self, name: str, facts: Facts) -> RadiographError | None:
        """Look for an earlier file with the same UID; call for all accepted files in the order of their paths.

        Args:
            name: Name of the file, for the errors of later ones.
            facts: Attributes of the file.

        Returns: Error of a file whose UID has been seen; None for any other file, and for one without a UID.
        """
        if facts.sop_instance_uid is None:
            return None
        first, pixels = self._first.setdefault(facts.sop_instance_uid, (name, facts.pixel_sha256))
        if first == name:
            return None
        if pixels == facts.pixel_sha256:
            return RadiographError(Reason.DUPLICATE_UID, f"the same image as {shown(first)}", Outcome.SKIPPED)
        return RadiographError(Reason.DUPLICATE_UID, f"{shown(first)} has other pixels")


def find_duplicates(
    found: FoundFiles,
    folder: Path,
    *,
    acceptance: AcceptanceFilters | None = None,
    workers: int = 1,
) -> dict[Path, RadiographError]:
    """Apply the rule before files are processed, so that it holds in every part of a run and when it is resumed.

    Only files are read whose first bytes name the same UID as those of another file.

    Args:
        found: Files and their UIDs.
        folder: Folder that names of files are relative to, in the errors.
        acceptance: Which files are accepted as frontal chest radiographs.
        workers: Number of decoding processes; 0 decodes in this process, without protection from damaged files.

    Returns: Errors of the duplicates.
    """
    count = Counter(found.uids)
    shared = [path for path, uid in zip(found.images, found.uids, strict=True) if uid and count[uid] > 1]
    rule, errors = Duplicates(), dict[Path, RadiographError]()
    if shared:
        with Readers(read_facts, acceptance=acceptance, workers=workers) as readers:
            for path, result in zip(shared, readers.read(shared), strict=True):
                if not isinstance(result, RadiographError):
                    error = rule.check(os.path.relpath(path, folder), result)
                    errors |= {} if error is None else {path: error}
    return errors
