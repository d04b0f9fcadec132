"""Label CSV files of the SIIM-ACR challenge in all their versions, read row by row.

An invalid row drops its image, never the whole file, and is reported with its line. An image with several rows has the
union of their masks; ``-1`` means no pneumothorax; an empty cell means that the label is unknown.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pneumoseg.transforms.labels.rle import RLEError, looks_absolute, parse_runs
from pneumoseg.transforms.labels.runs import Runs, area_px, merge_runs
from pneumoseg.transforms.labels.text_table import (
    MAX_BYTES,
    UNKNOWN,
    LabelFileError,
    is_rounded,
    read_rows,
)

RLE_COLUMN = "EncodedPixels"

_RUN_LENGTHS = re.compile(r"[-+0-9][-+0-9.eE\s]*")
_UNSAFE_IN_ID = re.compile(r"[/\\,;:*?\"<>|]")


@dataclass(frozen=True, slots=True)
class LabelIssue:
    """Problem with one row, or with the whole file (`image_id` is empty)."""

    line: int
    image_id: str
    kind: str
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.kind}: {self.message}"


@dataclass(frozen=True, slots=True, eq=False)
class ImageLabel:
    """Label of one image, joined from all of its rows.

    Attributes:
        texts: Run-length text of each mask, ready for `decode_rle`; empty if there is no pneumothorax.
        runs: Union of the masks, shape ``(n, 2)``: ``[start, stop)`` in pixels down each column.
        lines: Line of each row.
    """

    texts: tuple[str, ...]
    runs: Runs
    lines: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Content of a label file.

    Attributes:
        images: Labels of the images whose rows are all valid, in the order of the file.
        unknown: Images with an empty cell, and its line; they are neither positive nor negative.
        errors: Invalid rows, including empty cells; their images are not in `images`.
        warnings: ``OVERLAP`` where two masks of an image share pixels; ``LOOKS_ABSOLUTE``, once, where the starts of
            most masks ascend as in the format of other challenges, so that no mask is at its place.
    """

    images: dict[str, ImageLabel]
    unknown: dict[str, int]
    errors: list[LabelIssue]
    warnings: list[LabelIssue]


def read_labels(
    path: str | Path,
    *,
    shape: tuple[int, int] = (1024, 1024),
    id_column: str = "ImageId",
    max_bytes: int = MAX_BYTES,
) -> Labels:
    """Read a label file: CSV, or CSV compressed by gzip.

    Columns are identified by name, regardless of order, case and surrounding spaces. A file without a header is
    accepted if it has two columns, an id and run lengths.

    Args:
        path: Path of the file.
        shape: Size of every image as ``(rows, columns)`` in pixels.
        id_column: Name of the column with the ids.
        max_bytes: Largest uncompressed size of a file that is read.

    Raises: LabelFileError: If the file as a whole cannot be read; a bad row does not raise.
    """
    rows = read_rows(Path(path), max_bytes=max_bytes)
    first_line, first_cells = next(rows)
    columns = _find_columns(first_cells, id_column, path)
    reading = _Reading(shape)
    if not columns.has_header:
        reading.add(first_line, columns, first_cells)
    for line, cells in rows:
        reading.add(line, columns, cells)
    return reading.finish()


def is_safe_id(text: str) -> bool:
    """Check whether an id is safe in a file name, a CSV cell and a log line.

    Args:
        text: Id of an image.
    """
    return (
        0 < len(text) <= 200
        and text[0] not in "=+-@."  # a formula of a spreadsheet, a parent folder or a hidden file
        and text.isprintable()
        and _UNSAFE_IN_ID.search(text) is None
    )


@dataclass(frozen=True, slots=True)
class _Columns:
    id: int
    rle: int
    count: int
    has_header: bool


def _find_columns(cells: Sequence[str], id_column: str, path: str | Path) -> _Columns:
    names = [cell.strip().casefold() for cell in cells]
    wanted = [id_column.strip().casefold(), RLE_COLUMN.casefold()]
    is_row = len(names) == 2 and (names[1] in UNKNOWN or _RUN_LENGTHS.fullmatch(names[1]))
    if is_row and not set(names) & set(wanted):
        return _Columns(id=0, rle=1, count=2, has_header=False)
    for name, spelled in zip(wanted, (id_column, RLE_COLUMN), strict=True):
        if name not in names:
            found = ", ".join(repr(cell.strip()[:40]) for cell in cells[:8])
            other = " `prepare --id-column` takes the ids from another column" if name == wanted[0] else ""
            raise LabelFileError(
                "MISSING_COLUMN",
                f"{path} has no column {spelled}, only {found}; is this a label file?{other}",
            )
        if names.count(name) > 1:
            raise LabelFileError(
                "DUPLICATE_COLUMN", f"{path} has {names.count(name)} columns {spelled}; one would fit"
            )
    return _Columns(id=names.index(wanted[0]), rle=names.index(wanted[1]), count=len(names), has_header=True)


@dataclass(slots=True, eq=False)
class _Reading:
    """State of the images while the rows are read."""

    shape: tuple[int, int]
    rows_of: dict[str, list[tuple[int, str, Runs]]] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    unknown: dict[str, int] = field(default_factory=dict)
    errors: list[LabelIssue] = field(default_factory=list)
    warnings: list[LabelIssue] = field(default_factory=list)
    telling_masks: int = 0  # masks of several runs: only these tell relative from absolute starts
    absolute_lines: list[int] = field(default_factory=list)

    def add(self, line: int, columns: _Columns, cells: Sequence[str]) -> None:
        """Add one row, or report its error."""
        image_id = cells[columns.id].strip() if columns.id < len(cells) else ""
        text = cells[columns.rle].strip() if columns.rle < len(cells) else ""
        if not is_safe_id(image_id):
            self._refuse(
                line, _shown(image_id), "BAD_ID", f"id '{_shown(image_id)}'; a name without / , = would fit"
            )
            return
        if is_rounded(image_id):
            message = f"id {image_id} was rounded by a spreadsheet; save the column as text"
            self._refuse(line, image_id, "BAD_ID", message)
            return
        if any(cell.strip() for cell in cells[columns.count :]):
            self._refuse(line, image_id, "EXTRA_CELL", f"{len(cells)} cells under {columns.count} columns")
            return
        try:
            runs = parse_runs(text, self.shape)
        except RLEError as error:
            self._refuse(line, image_id, error.kind, str(error))
            if error.kind == "EMPTY":
                self.unknown.setdefault(image_id, line)
            if error.kind == "PAST_END" and looks_absolute(text, self.shape):
                self.absolute_lines.append(line)
            return
        # starts that count from the end of the previous run do not ascend in a mask of three columns, unless it is dust
        if len(runs) > 2 and looks_absolute(text, self.shape):
            self.absolute_lines.append(line)
        else:
            self.telling_masks += len(runs) > 1
        others = self.rows_of.setdefault(image_id, [])
        if others and (len(others[0][2]) > 0) != (len(runs) > 0):
            self._refuse(
                line, image_id, "CONFLICT", f"-1 and a mask for one image; line {others[0][0]} says the other"
            )
        others.append((line, text, runs))

    def finish(self) -> Labels:
        """Join the rows of each image whose rows are all valid."""
        images = {}
        for image_id, rows in self.rows_of.items():
            if image_id not in self.dropped:
                images[image_id] = self._join(image_id, rows)
        absolute = len(self.absolute_lines)
        if absolute > max(1, self.telling_masks):
            message = (
                f"{absolute} of {absolute + self.telling_masks} masks have starts that count from the first pixel, not "
                "from the end of the previous run; this file is of another format, and no mask in it is to be trusted"
            )
            self.warnings.append(LabelIssue(self.absolute_lines[0], "", "LOOKS_ABSOLUTE", message))
        return Labels(images, self.unknown, self.errors, self.warnings)

    def _join(self, image_id: str, rows: list[tuple[int, str, Runs]]) -> ImageLabel:
        lines, texts, parts = zip(*rows, strict=True)
        runs = merge_runs(parts)
        shared = sum(map(area_px, parts)) - area_px(runs) if len(parts) > 1 else 0
        if shared:
            message = f"rows of one image share {shared} px; their union is taken"
            self.warnings.append(LabelIssue(lines[-1], image_id, "OVERLAP", message))
        return ImageLabel(texts if len(runs) else (), runs, lines)

    def _refuse(self, line: int, image_id: str, kind: str, message: str) -> None:
        self.errors.append(LabelIssue(line, image_id, kind, message))
        self.dropped.add(image_id)


def _shown(text: str) -> str:
    """Shorten a foreign text, and escape its control characters."""
    return repr(text[:80])[1:-1]
