"""Lock and clean the folder of the results, for one run at a time or for several parts of a run."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from pneumoseg.pipeline.core.claims import (
    LOCK,
    claim_folder,
    empty_folder,
    is_in_use,
    locked,
    remove_unfinished,
)
from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.results.planning import Part, Planned
from pneumoseg.pipeline.results.receipts import FOLDER, withdraw

_PARTS: Final = ".parts"
_COMMAND: Final = "predict"
_REGISTRATION_S: Final = 30.0  # other parts that start hold the lock for a moment only


@contextmanager
def claimed(output: Path, *, part: Part | None, overwrite: bool, inputs: Sequence[Path]) -> Iterator[None]:
    """Lock the folder of the results for a run or for a part of one.

    Args:
        output: Folder of the results; it is made if needed, and earlier results are kept.
        part: Part of the run; different parts may run at the same time, but neither the same part twice nor a part
            beside a run of the whole.
        overwrite: Delete earlier results first, except their receipts, which tell when an image was first analysed.
        inputs: Files and folders that the results are made from, and that must not be deleted with earlier results.

    Raises:
        UsageError: If the folder holds unrelated files, or a part is to overwrite the results of others.
        JobError: If another process uses the folder.
    """
    if part is not None and overwrite:
        raise UsageError("--overwrite with --num-parts would delete the results of other parts; leave it out")
    claim_folder(output, overwrite=False, command=_COMMAND, resume=True)
    with ExitStack() as locks:
        if part is None:
            locks.enter_context(locked(output))
            for other in _parts(output):
                with locked(other):
                    pass
            if overwrite:
                for path in inputs:
                    if path.resolve().is_relative_to(output.resolve()):
                        raise UsageError(
                            f"{path} lies in {output}, which would be emptied; name another folder"
                        )
                empty_folder(output, keep={LOCK, f".pneumoseg-{_COMMAND}", FOLDER})
            remove_unfinished(output)
        else:
            with locked(output, patience_s=_REGISTRATION_S):
                for other in _parts(output):
                    if not other.name.endswith(f"-of-{part.count}") and is_in_use(other):
                        raise JobError(
                            f"{output} is in use by part {other.name}; parts that run together need one --num-parts"
                        )
                own = output / _PARTS / str(part)
                own.mkdir(parents=True, exist_ok=True)
                locks.enter_context(locked(own))
        yield


def remove_unfinished_of_parts(output: Path, own: Part) -> None:
    """Delete unfinished files of parts that were killed, unless another part is running.

    Args:
        output: Folder of the results.
        own: The calling part, which must not be writing.
    """
    with locked(output, patience_s=_REGISTRATION_S):  # no part can start meanwhile
        if not any(is_in_use(part) for part in _parts(output) if part.name != str(own)):
            remove_unfinished(output)


def _parts(output: Path) -> list[Path]:
    return sorted((output / _PARTS).glob("*"))


def remove_leftovers(output: Path, planned: Sequence[Planned]) -> None:
    """Delete the results of files that no longer exist."""
    names = {file.name for file in planned}
    for path in sorted((output / FOLDER).glob("*.json")):
        if path.stem not in names:
            withdraw(output, path.stem)
