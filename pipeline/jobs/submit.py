"""Write a submission to the challenge: a row of run lengths for each image of the sample submission."""

import csv
import io
import os
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scipy.stats import fisher_exact

from pneumoseg.pipeline.core.console import tracked
from pneumoseg.pipeline.core.devices import resolve_device
from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.files import claim_file, written_atomically
from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.dataset.trusted_labels import read_trusted_labels
from pneumoseg.pipeline.inference.model import Model, ModelOptions, load_model
from pneumoseg.pipeline.inference.segment import NotRead, segment_files
from pneumoseg.pipeline.reading.duplicates import Duplicates
from pneumoseg.pipeline.reading.folders import find_radiographs
from pneumoseg.pipeline.scoring.submission import CHALLENGE_SHAPE, check_submission
from pneumoseg.transforms.labels.challenge_csv import is_safe_id
from pneumoseg.transforms.labels.rle import encode_rle
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.reasons import Outcome

SURPRISE: Final = 0.001
"""P-value below which a rate of positive predictions is reported as surprising."""


@dataclass(frozen=True)
class SubmitReport:
    """Contents of a submission.

    Attributes:
        images: Number of rows.
        predicted_positive: Number of rows with a mask that is not empty.
        left_out: Number of images of the folder that are not in the sample submission.
        repeated: Ids that the sample submission lists more than once, each with its lines; they have one row.
        refused: Files that could not be used; without a sample submission they have no row.
        links: Links that were not followed.
        trained_on: Number of images that the model was trained on; their masks say nothing about new images.
        review: Number of images whose mask a person has to review; their rows are like those of all others.
        validation_rate: Share of the validation images that were predicted positive; None if it is unknown.
        surprising: Whether the share of images predicted positive differs from that in validation by more than chance.
    """

    images: int
    predicted_positive: int
    left_out: int
    refused: tuple[NotRead, ...]
    repeated: tuple[str, ...] = ()
    links: int = 0
    trained_on: int = 0
    review: int = 0
    validation_rate: float | None = None
    surprising: bool = False

    @property
    def exit_code(self) -> int:
        """0, or 3 if a file was refused; a skipped file is not a frontal radiograph, and no failure."""
        return 3 if any(item.error.outcome is Outcome.REFUSED for item in self.refused) else 0


def write_submission(
    model_folder: str | Path,
    images: str | Path,
    output: str | Path,
    *,
    sample: str | Path | None = None,
    shape: tuple[int, int] = CHALLENGE_SHAPE,
    options: ModelOptions = ModelOptions(),
    runtime: Runtime = Runtime(),
    acceptance: AcceptanceFilters | None = None,
    overwrite: bool = False,
    follow_links: bool = False,
) -> SubmitReport:
    """Segment images and write one row for each, in the order of the sample submission.

    Args:
        model_folder: Model folder written by `train_model`.
        images: Folder of DICOM and PNG files, with subfolders; the id of a file is its name without suffix.
        output: Path of the submission, a CSV file.
        sample: Sample submission with the ids to predict, in order; None predicts all images, sorted by id.
        shape: Size of every image as ``(rows, columns)``, which the run lengths refer to.
        options: How to use the model.
        runtime: Device, batch size and workers.
        acceptance: Which files are accepted as frontal chest radiographs.
        overwrite: Replace an earlier file.
        follow_links: Whether to follow links in *images*.

    Returns: Contents of the submission.

    Raises:
        UsageError: If an argument does not fit.
        JobError: If an image of the sample is missing or cannot be read, an image has another size, or an id is
            ambiguous or cannot be written in a submission. Nothing is written then.
    """
    model_folder, images, output = Path(model_folder), Path(images), Path(output)
    sample = None if sample is None else Path(sample)
    claim_file(output, overwrite=overwrite, inputs=[images, *filter(None, [sample])])
    model = load_model(model_folder, resolve_device(runtime.device), options)
    found = find_radiographs(images, leave_out=[output], follow_links=follow_links)
    path_of = {path.stem: path for path in reversed(found.images)}
    wanted, repeated = _read_sample(sample) if sample else (sorted(path_of), [])
    requested = set(wanted)
    for path in found.images:
        if path != path_of[path.stem] and path.stem in requested:
            raise JobError(f"{path_of[path.stem]} and {path} have one name; leave one of them out")
    if missing := [name for name in wanted if name not in path_of]:
        raise JobError(
            f"{len(missing)} of {len(wanted)} images of {sample} are not under {images}; "
            f"the first is {missing[0]}"
        )

    texts: dict[str, str] = {}
    refused: list[NotRead] = []
    paths = sorted((path_of[name] for name in wanted), key=Path.as_posix)
    review = 0
    digests: list[str] = []
    duplicates = Duplicates()
    segmenting = segment_files(
        model,
        paths,
        acceptance=acceptance,
        batch_size=runtime.batch_size,
        workers=runtime.workers,
        refuse=lambda path, radiograph: duplicates.check(os.path.relpath(path, images), radiograph),
    )
    with tracked("segment", total=len(paths)) as advance, closing(segmenting):
        for path, result in zip(paths, segmenting, strict=True):
            if isinstance(result, NotRead):
                refused.append(result)
            elif result.mask.shape != shape:  # its run lengths would be decoded to another mask
                raise JobError(
                    "{} has {}x{} pixels; the run lengths of a submission are counted over {}x{}".format(
                        path.name, *result.mask.shape, *shape
                    )
                )
            elif not is_safe_id(path.stem):  # it would not be read back as it was written
                raise JobError(f"{path}: cannot be named so in a submission; rename it or give --sample")
            else:
                texts[path.stem] = encode_rle(result.mask)
                digests.append(result.radiograph.file_sha256)
                review += bool(result.review)
            advance()
    if refused and sample:
        first = refused[0]
        raise JobError(
            f"{len(refused)} images of {sample} cannot be read, so that no valid submission can be made; "
            f"the first is {first.path.name}: {first.error}"
        )
    texts = {name: texts[name] for name in wanted if name in texts}
    _write(output, texts, shape)
    predicted_positive = sum(text != "-1" for text in texts.values())
    validation = None if options.operating_point else _predicted_positive_in_validation(model)
    return SubmitReport(
        images=len(texts),
        predicted_positive=predicted_positive,
        review=review,
        left_out=len(path_of) - len(wanted),
        refused=tuple(refused),
        repeated=tuple(repeated),
        links=found.links,
        trained_on=sum(map(model.has_seen, digests)),
        validation_rate=validation and validation[0] / validation[1],
        surprising=validation is not None and _is_surprising((predicted_positive, len(texts)), validation),
    )


def _predicted_positive_in_validation(model: Model) -> tuple[int, int] | None:
    """Count the validation images that were predicted positive, and all validation images."""
    positive, images = (model.description.validation.get(name) for name in ("predicted_positive", "images"))
    return (int(positive), int(images)) if positive is not None and images else None


def _is_surprising(here: tuple[int, int], there: tuple[int, int]) -> bool:
    """Tell whether two rates, each a count and its total, differ by more than chance, by Fisher's exact test."""
    table = [[positive, images - positive] for positive, images in (here, there)]
    return bool(fisher_exact(table).pvalue < SURPRISE)


def _read_sample(path: Path) -> tuple[list[str], list[str]]:
    """Read the ids of a sample submission in order, and those that occur more than once with their lines."""
    found = read_trusted_labels(path)
    if bad := [issue for issue in found.errors if issue.kind != "EMPTY"]:
        raise JobError(f"{path}, {bad[0]}")
    lines_of = {name: list(label.lines) for name, label in found.images.items()}
    for issue in found.errors:  # empty cells
        lines_of.setdefault(issue.image_id, []).append(issue.line)
    repeated = [
        f"{name}: lines {', '.join(map(str, lines))}" for name, lines in lines_of.items() if len(lines) > 1
    ]
    return sorted(lines_of, key=lambda name: lines_of[name][0]), repeated


def _write(output: Path, texts: dict[str, str], shape: tuple[int, int]) -> None:
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([("ImageId", "EncodedPixels"), *texts.items()])
    with written_atomically(output) as temporary:
        temporary.write_text(table.getvalue(), encoding="utf-8")
        if faults := check_submission(
            temporary, texts, shape=shape
        ):  # before it gets its name, so an invalid submission never exists
            raise JobError(f"the submission would not be valid: {faults[0]} (and {len(faults) - 1} more)")
