"""Errors that end a job: a message of one line, and the exit code of the command."""

from collections.abc import Sequence

from pneumoseg.pipeline.core.names import shown


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
