"""The folder that results go to, for one run at a time, or for several that each do a part."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.core.files import LOCK, claim_folder, empty_folder, locked, remove_unfinished
from pneumoseg.pipeline.results.planning import Part, Planned
from pneumoseg.pipeline.results.receipts import FOLDER, withdraw

_PARTS: Final = ".parts"
_COMMAND: Final = "predict"
_REGISTRATION_S: Final = 30.0  # other parts that start hold the lock for a moment only


@contextmanager
def claimed(output: Path, *, part: Part | None, overwrite: bool, inputs: Sequence[Path]) -> Iterator[None]:
    """Have the folder for a run, or for its part of one.

    Args:
        output: Made if it is not there; earlier results are gone on with.
        part: Parts may run at the same time, but neither one part twice nor beside a run of the whole.
        overwrite: Delete earlier results first.
        inputs: What the results are made from, and must not be deleted with earlier ones.

    Raises:
        UsageError: If the folder holds something else, or a part is to overwrite what others have made.
        JobError: If another process has it.
    """
    if part is not None and overwrite:
        raise UsageError("--overwrite with --num-parts would delete what other parts have made; leave it out")
    claim_folder(output, overwrite=False, command=_COMMAND, resume=True)
    with ExitStack() as locks:
        if part is None:
            locks.enter_context(locked(output))
            for other in _parts(output):
                with locked(other):
                    pass
            if overwrite:
                _check_inputs(output, inputs)
                empty_folder(output, keep={LOCK, f".pneumoseg-{_COMMAND}"})
            remove_unfinished(output)
        else:
            with locked(output, patience_s=_REGISTRATION_S):
                for other in _parts(output):
                    if not other.name.endswith(f"-of-{part.count}") and _is_at_work(other):
                        raise JobError(
                            f"{output} is in use by part {other.name}; all parts that run have to be of one number"
                        )
                own = output / _PARTS / str(part)
                own.mkdir(parents=True, exist_ok=True)
                locks.enter_context(locked(own))
        yield


def remove_unfinished_of_parts(output: Path, own: Part) -> None:
    """Delete what parts were writing when they were killed, if no other part is writing now.

    Args:
        output: The folder of the results.
        own: The part that asks, and is writing nothing.
    """
    with locked(output, patience_s=_REGISTRATION_S):  # no part begins meanwhile
        if not any(_is_at_work(part) for part in _parts(output) if part.name != str(own)):
            remove_unfinished(output)


def _parts(output: Path) -> list[Path]:
    return sorted((output / _PARTS).glob("*"))


def _is_at_work(part: Path) -> bool:
    try:
        with locked(part):
            return False
    except JobError:
        return True


def remove_leftovers(output: Path, planned: Sequence[Planned]) -> None:
    """Delete the results of files that are not there any more."""
    names = {file.name for file in planned}
    for path in sorted((output / FOLDER).glob("*.json")):
        if path.stem not in names:
            withdraw(output, path.stem)


def _check_inputs(output: Path, inputs: Sequence[Path]) -> None:
    for path in inputs:
        if path.resolve().is_relative_to(output.resolve()):
            raise UsageError(f"{path} lies in {output}, which would be emptied; name another folder")
