"""What a job says when it cannot go on: one line, and the exit code of the command line."""


class JobError(Exception):
    """The job failed; the message says what was found, what would fit and what to look at."""

    exit_code = 1


class UsageError(JobError):
    """The command, an option or the configuration does not fit."""

    exit_code = 2
