"""Errors that end a job: a message of one line, and the exit code of the command."""

import re
from collections.abc import Sequence
from typing import Final

from pneumoseg.pipeline.core.names import shown

_NO_MEMORY: Final = re.compile(
    r"out of memory|can't allocate memory|not enough memory"
    # as cuBLAS and cuDNN say it, and cuDNN where no algorithm is left that has enough
    r"|ALLOC_FAILED|ALLOCATION_FAILED|unable to find an engine",
    re.IGNORECASE,
)


class JobError(Exception):
    """Report that a job failed: what was found, what would fit and what to look at.

    Args:
        message: One line; characters in it that cannot be printed are escaped.
        details: Further lines, where one is not enough.
    """

    exit_code = 1

    def __init__(self, message: str, *, details: Sequence[str] = ()) -> None:
        super().__init__("\n  ".join(map(shown, (message, *details))))


class UsageError(JobError):
    """Report that a command, an option or the configuration is not valid."""

    exit_code = 2


def is_out_of_memory(error: BaseException) -> bool:
    """Check whether an error means that a device, or this computer, has too little memory.

    Args:
        error: Any error; PyTorch raises a plain RuntimeError for the memory of the CPU.
    """
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None
    )


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or the name of its type if it has none.

    Args:
        error: Any error; those of libraries may have many lines.
    """
    return (str(error).splitlines() or [type(error).__name__])[0]


def explain(error: Exception) -> str:
    """Describe an error in one line, and say what would help where the cause is known.

    Args:
        error: Any error but a `JobError`, which describes itself.
    """
    if is_out_of_memory(error):
        return (
            f"too little memory ({first_line(error)}); a smaller batch size, fewer --workers or fewer "
            "other programs would fit"
        )
    if isinstance(error, OSError):  # like a full disk, or a folder without permission to write
        return f"{error.filename or 'a file'}: {error.strerror or error}"
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("pneumoseg"):
        package = error.name.partition(".")[0]
        return f"the package {package} is not installed; install it with pip, or look at `pneumoseg doctor`"
    return f"{type(error).__name__}: {error}; this is a bug in pneumoseg, -v prints the traceback"
