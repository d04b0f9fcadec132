"""``run.log``: the beginning, progress and end of a run; it contains no name, number or path of an image."""

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from pneumoseg.pipeline.core.claims import check_place


class _File(logging.FileHandler):
    """A log file in UTC that loses lines rather than end a run when the disk is full."""

    def __init__(self, path: Path) -> None:
        check_place(path)
        super().__init__(path, encoding="utf-8")
        formatter = logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        formatter.converter = time.gmtime
        self.setFormatter(formatter)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (the name is logging's)
        """Drop the line; writing the results will report the full disk."""


@contextmanager
def logged(path: Path, *, facts: Mapping[str, object]) -> Iterator[logging.Logger]:
    """Log a run, appending to the log of earlier runs.

    Args:
        path: Path of the log file.
        facts: Names and values for the first line.

    Returns: A context with the logger; messages must not quote anything from an image or its path.
    """
    log = logging.Logger("pneumoseg.predict")  # has no parent: no other handler gets its lines
    handler = _File(path)
    log.addHandler(handler)
    try:
        log.info("begin " + " ".join(f"{key}={value}" for key, value in facts.items()))
        yield log
    except BaseException as error:
        log.error(f"ended by {type(error).__name__}")  # noqa: TRY400  (its text may quote a file)
        raise
    else:
        log.info("end")
    finally:
        with suppress(OSError):  # lines that did not fit on the disk
            handler.close()


def counts(reasons: Counter[str]) -> str:
    """Format reasons and the number of files with each."""
    return " ".join(f"{reason}={count}" for reason, count in sorted(reasons.items())) or "none"
