"""Report of a prediction, made from its tables and pictures."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.names import RESULTS, REVIEW
from pneumoseg.pipeline.reporting import charts
from pneumoseg.pipeline.reporting.content import (
    Charts,
    Page,
    Picture,
    PictureGallery,
    Section,
    Shown,
    Table,
    Text,
    Tile,
    Tiles,
)
from pneumoseg.pipeline.reporting.panels import jpeg_of
from pneumoseg.pipeline.reporting.result_files import Row, number_or_text, read_rows, results_of
from pneumoseg.transforms.measurements import probability_text
from pneumoseg.transforms.reader.reasons import Reason

TABLE: Final = "predictions.csv"
PICTURES: Final = {"overlay": "overlays", "attention": "attention", "uncertainty": "uncertainty"}
_SHOWN_ROWS: Final = 5000
_SHOWN_CASES: Final = 8  # of a kind
_COLUMNS: Final = {
    "image": "image", "status": "status", "decision": "decision", "probability": "probability",
    "uncertainty": "uncertainty", "side": "side", "area px": "area_px", "area mm2": "area_mm2", "width mm": "width_mm",
    "height mm": "height_mm", "components": "components", "reasons": "reason",
}  # fmt: skip


def prediction_page(folder: Path) -> Page:
    """Make the report of a prediction.

    Args:
        folder: Folder written by `predict`.

    Raises: JobError: If the folder does not contain a prediction.
    """
    rows = read_rows(folder / TABLE, without=("rle",))
    with results_of(folder):
        segmented = [row for row in rows if row["status"] in RESULTS]
        others = [row for row in rows if row["status"] not in RESULTS]
        segmented.sort(key=lambda row: (-float(row["probability"]), row["image"]))
        sections = [Section("Summary", _summary(segmented, others))]
        if gallery := _gallery(folder, segmented):
            sections.append(Section("Gallery", [Text(_HOW_CHOSEN), PictureGallery(gallery)]))
        if segmented:
            sections.append(Section("Images", [_image_table(segmented)]))
        if others:
            sections.append(Section("Files without a result", [_reason_table(others), _other_table(others)]))
        return Page(
            title="Prediction",
            subtitle=f"{len(rows)} files, {len(segmented)} of them segmented",
            sections=sections,
            warnings=_warnings(segmented, others),
        )


def _warnings(segmented: Sequence[Row], others: Sequence[Row]) -> list[str]:
    warnings = []
    if refused := sum(row["status"] == "refused" for row in others):
        warnings.append(
            f"Refused: {refused} of {len(segmented) + len(others)} files should be radiographs, but cannot be read "
            "correctly."
        )
    if review := sum(row["status"] == REVIEW for row in segmented):
        warnings.append(
            f"To be reviewed: {review} of {len(segmented)} images do not look as the model needs them; without an "
            "outline they are indeterminate, not negative."
        )
    if seen := sum(row["trained_on"] == "1" for row in segmented):
        warnings.append(
            f"The model was trained on {seen} of these {len(segmented)} images: their results say nothing about new "
            "images."
        )
    return warnings


_HOW_CHOSEN: Final = (
    "Review these images first: those that do not look as the model needs them, the findings with the highest "
    "probability, and those next to the threshold between positive and negative. Pictures show the stored pixels, also "
    "where these are rotated or mirrored according to the header."
)


def _summary(segmented: Sequence[Row], others: Sequence[Row]) -> list[Any]:
    positive = sum(row["decision"] == "positive" for row in segmented)
    warnings = Counter(reason for row in segmented for reason in row["reason"].split())
    statuses = Counter(row["status"] for row in others)
    tiles = [
        Tile("images", str(len(segmented)), "segmented"),
        Tile(
            "predicted positive",
            str(positive),
            f"{positive / len(segmented):.1%} of the images" if segmented else "",
        ),
        Tile(
            "to be reviewed",
            str(sum(row["status"] == REVIEW for row in segmented)),
            "do not look as the model needs them",
        ),
        Tile("with a warning", str(sum(bool(row["reason"]) for row in segmented)), "about file or picture"),
        *(Tile(status, str(count), "files without a result") for status, count in sorted(statuses.items())),
    ]
    blocks: list[Any] = [Tiles(tiles)]
    if segmented:
        decisions = np.array([row["decision"] for row in segmented])
        probabilities = np.array([float(row["probability"]) for row in segmented])
        names = {"positive": "predicted positive", "negative": "predicted negative"}
        if "indeterminate" in decisions:
            names["indeterminate"] = "indeterminate"
        made = charts.histogram_chart(
            {name: probabilities[decisions == decision] for decision, name in names.items()},
            title="Image probability",
            label="image probability",
            limits=(0.0, 1.0),
        )
        blocks.append(Charts([made]))
    if warnings:
        blocks.append(Text("Warnings about images with a result:"))
        blocks.append(Table(("images", "warning", "what it means"), _counted(warnings)))
    return blocks


def _counted(reasons: Counter[str]) -> list[list[str | float | int | None]]:
    return [
        [count, name, Reason[name].sentence.replace("`", "") if name in Reason.__members__ else None]
        for name, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    ]


def _gallery(folder: Path, ranked: Sequence[Row]) -> list[Shown]:
    """Select the images to review first, among those that have pictures."""
    positive = [row for row in ranked if row["decision"] == "positive"]
    negative = [row for row in ranked if row["decision"] == "negative"]
    shown: list[Shown] = []
    taken: set[str] = set()
    for kind, rows in (
        ("to be reviewed", [row for row in ranked if row["status"] == REVIEW]),
        ("highest probability", positive),
        ("positive near the threshold", positive[::-1]),
        ("negative near the threshold", negative),
    ):
        new = ((row, _pictures(folder, row["name"])) for row in rows if row["name"] not in taken)
        for row, pictures in islice((each for each in new if each[1]), _SHOWN_CASES):
            taken.add(row["name"])
            facts = {"probability": probability_text(float(row["probability"]), digits=3)}
            shown.append(Shown(kind, row["image"], facts, pictures, text=row["sentence"]))
    return shown


def _pictures(folder: Path, name: str) -> list[Picture]:
    found = []
    for kind, place in PICTURES.items():
        path = folder / place / Path(f"{name}.png").name
        if path.is_file():
            found.append(Picture(kind, jpeg_of(_pixels(path))))
    return found


def _pixels(path: Path) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise JobError(f"{path}: cannot be read ({error}); predict anew") from None


def _image_table(rows: Sequence[Row]) -> Table:
    columns = {head: name for head, name in _COLUMNS.items() if any(row.get(name) for row in rows)}
    return Table(
        list(columns),
        [
            [row[name] if name == "image" else number_or_text(row[name]) for name in columns.values()]
            for row in rows[:_SHOWN_ROWS]
        ],
        filters=[head for head in ("status", "decision", "side", "reasons") if head in columns],
        left_out=max(0, len(rows) - _SHOWN_ROWS),
        file=TABLE,
    )


def _reason_table(rows: Sequence[Row]) -> Table:
    return Table(("files", "reason", "what it means"), _counted(Counter(row["reason"] for row in rows)))


def _other_table(rows: Sequence[Row]) -> Table:
    return Table(
        ("file", "status", "reason", "detail"),
        [[row["image"], row["status"], row["reason"], row["detail"] or None] for row in rows[:_SHOWN_ROWS]],
        filters=("status", "reason"),
        left_out=max(0, len(rows) - _SHOWN_ROWS),
        file=TABLE,
    )
