"""Receipts: what was made of a file, from what and how; written last, so that what has one is whole."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from pneumoseg.pipeline.core.files import sha256_of, to_json, write_json

FOLDER: Final = "receipts"
_FORMAT: Final = 1
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What became of one file.

    Attributes:
        input_sha256: Of the file; None where it could not be read.
        settings_sha256: Of the model and of all that was asked for.
        row: What the tables say of it.
        outputs: SHA-256 of each result, by its path within the output folder.
    """

    format_version: int = _FORMAT
    input_sha256: str | None
    settings_sha256: str
    row: Row
    outputs: dict[str, str] = field(default_factory=dict)

    @property
    def is_result(self) -> bool:
        """Whether the file was segmented; what was refused may be read the next time."""
        return bool(self.row.get("status") == "segmented")


def receipt_path(output: Path, name: str) -> Path:
    """Where the receipt of this name lies."""
    return output / FOLDER / f"{name}.json"


def read_receipt(output: Path, name: str) -> Receipt | None:
    """Read a receipt; None where there is none, or none that can be used."""
    try:
        receipt = Receipt(**json.loads(receipt_path(output, name).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    is_whole = isinstance(receipt.row, dict) and isinstance(receipt.outputs, dict)
    return receipt if is_whole and receipt.format_version == _FORMAT else None


def write_receipt(output: Path, name: str, receipt: Receipt) -> None:
    """Write a receipt, after all that it vouches for."""
    write_json(receipt_path(output, name), asdict(receipt))


def is_valid(
    receipt: Receipt | None, output: Path, *, input_sha256: str | None, settings_sha256: str
) -> bool:
    """Whether the results of a file are there, whole, and what would be made of it again."""
    if receipt is None or not receipt.is_result or input_sha256 is None:
        return False
    if (receipt.input_sha256, receipt.settings_sha256) != (input_sha256, settings_sha256):
        return False
    return all(_has(output / path, digest) for path, digest in receipt.outputs.items())


def withdraw(output: Path, name: str, *, keep: frozenset[str] = frozenset()) -> None:
    """Delete a receipt, and then the results that it vouched for.

    Args:
        output: The folder of the results.
        name: Of the receipt.
        keep: Paths of results that are to be written anew, and may stay until then.
    """
    receipt = read_receipt(output, name)
    receipt_path(output, name).unlink(missing_ok=True)
    for path in receipt.outputs if receipt else ():
        if path not in keep and (output / path).resolve().is_relative_to(output.resolve()):
            (output / path).unlink(missing_ok=True)


def digest_of(content: object) -> str:
    """The SHA-256 of something that can be written as JSON."""
    return hashlib.sha256(to_json(content).encode("utf-8", "surrogatepass")).hexdigest()


def _has(path: Path, digest: str) -> bool:
    try:
        return sha256_of(path) == digest
    except OSError:
        return False
