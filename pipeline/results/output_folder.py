"""Lock and clean the folder of the results, for one run at a time or for several parts of a run."""

import hashlib
import os
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
from pneumoseg.pipeline.core.files import write_text
from pneumoseg.pipeline.results.planning import Part
from pneumoseg.pipeline.results.receipts import FOLDER

_PARTS: Final = ".parts"
_COMMAND: Final = "predict"
_MARKER: Final = f".pneumoseg-{_COMMAND}"  # as `claim_folder` names it
_REGISTRATION_S: Final = 30.0  # other parts that start hold the lock for a moment only


@contextmanager
def claimed(
    output: Path, *, part: Part | None, overwrite: bool, source: Path, inputs: Sequence[Path] = ()
) -> Iterator[None]:
    """Lock the folder of the results for a run or for a part of one.

    Args:
        output: Folder of the results; it is made if needed, and earlier results are kept.
        part: Part of the run; different parts may run at the same time, but neither the same part twice nor a part
            beside a run of the whole.
        overwrite: Delete earlier results first, except their receipts, which tell when an image was first analysed.
        source: Folder of the files that the results are made of; those of another one are not mixed with them.
        inputs: Files and folders that the results are made from, and that must not be deleted with earlier results.

    Raises:
        UsageError: If the folder holds unrelated files or results of another folder, or a part is to overwrite the
            results of others.
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
            is_same = _check_source(output, source, overwrite=overwrite)
            if overwrite:
                for path in inputs:
                    if path.resolve().is_relative_to(output.resolve()):
                        raise UsageError(
                            f"{path} lies in {output}, which would be emptied; name another folder"
                        )
                empty_folder(output, keep={LOCK, _MARKER, *([FOLDER] if is_same else [])})
            write_text(output / _MARKER, _digest(output, source))
            remove_unfinished(output)
        else:
            with locked(output, patience_s=_REGISTRATION_S):
                for other in _parts(output):
                    if not other.name.endswith(f"-of-{part.count}") and is_in_use(other):
                        raise JobError(
                            f"{output} is in use by part {other.name}; parts that run together need one --num-parts"
                        )
                _check_source(output, source, overwrite=False)
                write_text(output / _MARKER, _digest(output, source))
                own = output / _PARTS / str(part)
                own.mkdir(parents=True, exist_ok=True)
                locks.enter_context(locked(own))
        yield


def _check_source(output: Path, source: Path, *, overwrite: bool) -> bool:
    """Tell whether the results in a folder, if there are any, are made of the files in another one.

    Raises: UsageError: If they are not and may not be overwritten.
    """
    is_same = (output / _MARKER).read_text(encoding="utf-8", errors="replace") in (
        "",
        _digest(output, source),
    )
    if not (is_same or overwrite):
        raise UsageError(
            f"{output} holds results of files in another folder than {source}; name another folder for the results, "
            "or give --overwrite to delete them"
        )
    return is_same


def _digest(output: Path, source: Path) -> str:
    """Hash where a folder lies, seen from the results: both may be moved together, and its name may be a person's."""
    try:
        place = os.path.relpath(source.resolve(), output.resolve())
    except ValueError:  # they are on two drives
        place = str(source.resolve())
    return hashlib.sha256(os.fsencode(place)).hexdigest()


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
