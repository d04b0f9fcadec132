"""The audit log: what was received, refused, analysed and sent, one JSON object a line, without identifiers."""

import hashlib
import hmac
import json
import logging
import secrets
import time
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

from pneumoseg.pipeline.core.claims import check_place
from pneumoseg.pipeline.core.files import write_text
from pneumoseg.pipeline.core.names import shown

FILE: Final = "audit.log"
_KEY: Final = "audit.key"
_BYTES, _FILES = 10 * 2**20, 10


class Audit:
    """Writer of the audit log.

    UIDs appear as keyed hashes only. The key stays in the spool, so that who has a UID and the key can find it in the
    log, and nobody else can.

    Args:
        folder: Folder of the log, ``audit.log``; old logs are numbered, and at most ten are kept.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        key = folder / _KEY
        check_place(key)
        if not key.exists():
            write_text(key, secrets.token_hex(32))
            key.chmod(0o600)
        self._key = key.read_bytes().strip()
        check_place(folder / FILE)
        self._log = logging.Logger("pneumoseg.audit")  # has no parent: no other handler gets its lines
        self._log.addHandler(
            _Rotating(folder / FILE, maxBytes=_BYTES, backupCount=_FILES - 1, encoding="utf-8", delay=True)
        )

    def hash_of(self, uid: str) -> str:
        """Hash an identifier with the key of the log.

        Args:
            uid: Identifier, such as a StudyInstanceUID.

        Returns: 16 hexadecimal digits.
        """
        return hmac.new(self._key, uid.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:16]

    def write(self, event: str, *, study: str = "", instance: str = "", **facts: str | float) -> None:
        """Write a line.

        Args:
            event: What happened.
            study: StudyInstanceUID, which is hashed.
            instance: SOPInstanceUID, which is hashed.
            facts: Further values; they must not identify a person.
        """
        line: dict[str, object] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "event": event,
        }
        line |= {name: self.hash_of(uid) for name, uid in (("study", study), ("instance", instance)) if uid}
        line |= {name: shown(value) if isinstance(value, str) else value for name, value in facts.items()}
        self._log.info(json.dumps(line))

    def close(self) -> None:
        """Close the file."""
        for handler in self._log.handlers:
            handler.close()


class _Rotating(RotatingFileHandler):
    """A log that loses lines rather than end the listener when the disk is full."""

    _warned_at = 0.0

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802  (the name is logging's)
        """Report at most once a minute that lines are lost."""
        if time.monotonic() - self._warned_at > 60:
            self._warned_at = time.monotonic()
            logging.getLogger("pneumoseg").warning("the audit log cannot be written; lines are lost")
