"""What a job says when it cannot go on: one line, and the exit code of the command line."""

from collections.abc import Sequence

from pneumoseg.pipeline.core.names import shown


class JobError(Exception):
    """The job failed; the message says what was found, what would fit and what to look at.

    Args:
        message: One line, whatever names are in it.
        details: Further lines, where one cannot say it all.
    """

    exit_code = 1

    def __init__(self, message: str, *, details: Sequence[str] = ()) -> None:
        super().__init__("\n  ".join(map(shown, (message, *details))))


class UsageError(JobError):
    """The command, an option or the configuration does not fit."""

    exit_code = 2
