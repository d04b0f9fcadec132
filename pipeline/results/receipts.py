"""Receipts: what was made of a file, from which input and settings; written last, so results with one are complete."""

import hashlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

from pneumoseg.pipeline.core.files import sha256_of, to_json, write_text
from pneumoseg.pipeline.core.names import RESULTS, shown
from pneumoseg.transforms.reader.elements import is_uid
from pneumoseg.transforms.reader.reasons import Reason

FOLDER: Final = "receipts"
REPORT_UIDS: Final = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
"""Keywords of the UIDs by which one DICOM SR names another."""
_FORMAT: Final[Literal[3]] = 3
Row = dict[str, Any]


Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(max_length=300, pattern=r"^[^\x00]*$")]
Text = Annotated[str, Field(max_length=2**26)]  # run lengths are the longest ones


def _are_reasons(text: str) -> str:
    if unknown := set(text.split()) - set(Reason.__members__):
        raise ValueError(f"unknown reasons {unknown}")
    return text


class _Row(BaseModel):
    """The values of a row that jobs rely on, and any others in cells of a table."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[Name, bool | int | float | Text | None]

    status: Literal["segmented", "review", "refused", "skipped"]
    reason: Annotated[str, Field(max_length=2000), AfterValidator(_are_reasons)]
    components: Annotated[list[dict[Name, Any]], Field(max_length=100_000)] | None = None


def _checked_row(row: Row) -> Row:
    _Row.model_validate(row)
    return row


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """The record of one processed file; what is read from a file is checked against the annotations.

    Attributes:
        image: What the tables call the file, without characters that cannot be printed: see `Planned`.
        input_sha256: SHA-256 of the bytes that were decoded; None if the file could not be read.
        settings_sha256: SHA-256 of the model and all settings.
        row: Row of the file in the tables.
        outputs: SHA-256 of each result, by its path within the output folder.
        analysis_sha256: SHA-256 of the settings that decide the content of DICOM results.
        analysed_at: When the file was first analysed with these settings, in ISO 8601 with its time zone.
        report: UIDs of the DICOM SR among the results.
        replaces: UIDs of the earlier DICOM SR that it names as its predecessor.
    """

    format_version: Literal[3] = _FORMAT
    image: Text
    input_sha256: Digest | None
    settings_sha256: Digest
    row: Annotated[Row, AfterValidator(_checked_row)]
    outputs: dict[Name, Digest] = field(default_factory=dict)
    analysis_sha256: Digest | Literal[""] = ""
    analysed_at: Name = ""
    report: dict[Name, Name] | None = None
    replaces: dict[Name, Name] | None = None

    @property
    def is_result(self) -> bool:
        """Whether the file was segmented; a refused file is tried again in the next run."""
        return self.row.get("status") in RESULTS

    def is_of(self, image: str, settings_sha256: str) -> bool:
        """Tell whether it is one of a file, by what the tables call it, and of these settings."""
        return self.image == shown(image) and self.settings_sha256 == settings_sha256


_SCHEMA: Final = TypeAdapter(Receipt)


@dataclass(frozen=True)
class History:
    """What earlier runs have made of a file.

    Attributes:
        analysed_at: When it was first analysed with the present settings, with a time zone.
        report: UIDs of the DICOM SR of the last run; None without one.
        replaces: UIDs of the predecessor of that SR.
    """

    analysed_at: datetime
    report: dict[str, str] | None = None
    replaces: dict[str, str] | None = None


def now() -> datetime:
    """Read the clock, to the second and with the time zone of this machine."""
    return datetime.now().astimezone().replace(microsecond=0)


def history_of(former: Receipt | None, *, input_sha256: str | None, analysis_sha256: str) -> History:
    """Recall earlier runs from their receipt, so that the same results are dated the same.

    Args:
        former: Receipt of an earlier run.
        input_sha256: SHA-256 of the bytes that were decoded; nothing is recalled of others.
        analysis_sha256: SHA-256 of the settings that decide the content of DICOM results; the first analysis with these
            was now, unless the receipt is one of them.
    """
    if former is None or not former.is_result or former.input_sha256 != input_sha256:
        return History(now())
    recalled = _moment(former.analysed_at) if former.analysis_sha256 == analysis_sha256 else None
    return History(recalled or now(), _uids(former.report), _uids(former.replaces))


def _moment(given: object) -> datetime | None:
    """Read a time with its zone; None if it is none."""
    try:
        moment = datetime.fromisoformat(str(given))
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def _uids(given: object) -> dict[str, str] | None:
    """Check the UIDs of a report; None if they are not whole."""
    if not isinstance(given, dict) or set(given) != set(REPORT_UIDS):
        return None
    return given if all(isinstance(uid, str) and is_uid(uid) for uid in given.values()) else None


def receipt_path(output: Path, name: str) -> Path:
    """Path of the receipt of this name."""
    return output / FOLDER / f"{name}.json"


def has_receipts(output: Path) -> bool:
    """Check whether an earlier run has left any receipt in a folder of results."""
    return next((output / FOLDER).glob("*.json"), None) is not None


def read_receipt(output: Path, name: str) -> Receipt | None:
    """Read a receipt; None if there is none, or none that can be used, since it is damaged or forged."""
    try:
        text = receipt_path(output, name).read_text(encoding="utf-8")
        receipt = _SCHEMA.validate_python(json.loads(text, parse_float=_finite, parse_constant=_finite))
    except (OSError, ValueError, RecursionError):
        return None
    own = re.compile(rf"[a-z]+/{re.escape(name)}(\.[a-z]+)+")
    is_own = all(map(own.fullmatch, receipt.outputs)) and receipt.row.get("name", name) == name
    return receipt if is_own else None


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is no finite number")
    return value


def write_receipt(output: Path, name: str, receipt: Receipt) -> None:
    """Write a receipt, after all results that it lists."""
    # on one line: Python writes indented JSON ten times slower, and each image has a receipt
    write_text(receipt_path(output, name), to_json(asdict(receipt)) + "\n")


def is_valid(receipt: Receipt, output: Path, *, hash_input: Callable[[], str | None]) -> bool:
    """Tell whether the results of a file are complete, and those of its present content.

    Args:
        receipt: Receipt of the file and of the present settings.
        output: Folder of the results.
        hash_input: Computes the SHA-256 of the file; called only if it has a result.
    """
    if not receipt.is_result or receipt.input_sha256 is None or receipt.input_sha256 != hash_input():
        return False
    return all(_has(output / path, digest) for path, digest in receipt.outputs.items())


def withdraw(output: Path, name: str, *, keep: frozenset[str] = frozenset()) -> None:
    """Delete a receipt, and then the results that it lists.

    Args:
        output: Folder of the results.
        name: Name of the receipt.
        keep: Paths of results that will be replaced, and may stay until then.
    """
    receipt = read_receipt(output, name)
    receipt_path(output, name).unlink(missing_ok=True)
    for path in receipt.outputs if receipt else ():
        if path not in keep:
            (output / path).unlink(missing_ok=True)


def digest_of(content: object) -> str:
    """Compute the SHA-256 of a value that can be written as JSON."""
    return hashlib.sha256(to_json(content).encode("utf-8", "surrogatepass")).hexdigest()


def _has(path: Path, digest: str) -> bool:
    try:
        return sha256_of(path) == digest
    except OSError:
        return False
