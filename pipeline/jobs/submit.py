"""Write a submission to the challenge: a row of run lengths for each image of the sample submission."""

import csv
import io
import os
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from pneumoseg.pipeline.core.claims import claim_file
from pneumoseg.pipeline.core.console import tracked
from pneumoseg.pipeline.core.devices import resolve_device
from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.files import written_atomically
from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.dataset.trusted_labels import read_trusted_labels
from pneumoseg.pipeline.inference.model import Model, ModelOptions, load_model
from pneumoseg.pipeline.inference.runtime_choice import choose_runtime
from pneumoseg.pipeline.inference.segment import NotRead, segment_files
from pneumoseg.pipeline.inference.segmentation import Segmentation
from pneumoseg.pipeline.reading.duplicates import Duplicates
from pneumoseg.pipeline.reading.folders import find_radiographs, look_for_uids
from pneumoseg.pipeline.scoring.submission import CHALLENGE_SHAPE, check_submission
from pneumoseg.transforms.labels.challenge_csv import is_safe_id
from pneumoseg.transforms.labels.rle import encode_rle
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.radiograph import image_name
from pneumoseg.transforms.reader.reasons import Outcome

Missing: TypeAlias = Literal["error", "negative"]
EMPTY: Final = "-1"
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
        filled: Ids of the sample submission whose image is missing or cannot be read, and whose row is an empty mask
            for that reason alone.
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
    filled: tuple[str, ...] = ()
    links: int = 0
    trained_on: int = 0
    review: int = 0
    validation_rate: float | None = None
    surprising: bool = False

    @property
    def exit_code(self) -> int:
        """0, or 3 if a file was refused or missing; a skipped file is not a frontal radiograph, and no failure."""
        is_refused = any(item.error.outcome is Outcome.REFUSED for item in self.refused)
        return 3 if is_refused or self.filled else 0


def write_submission(
    model_folder: str | Path,
    images: str | Path,
    output: str | Path,
    *,
    sample: str | Path | None = None,
    missing: Missing = "error",
    shape: tuple[int, int] = CHALLENGE_SHAPE,
    options: ModelOptions = ModelOptions(),
    runtime: Runtime = Runtime(),
    acceptance: AcceptanceFilters | None = None,
    overwrite: bool = False,
    follow_links: bool = False,
) -> SubmitReport:
    """Segment images and write one row for each, in the order of the sample submission.

    Args:
        model_folder: Model folder written by `train_model`, or the name of a model of the package.
        images: Folder of DICOM and PNG files, with subfolders; the id of a file is its name without suffix. A sample
            submission may also use names with suffix, or SOPInstanceUIDs.
        output: Path of the submission, a CSV file.
        sample: Sample submission with the ids to predict, in order; None predicts all images, sorted by id.
        missing: What to do with an id of the sample whose image is missing or cannot be read: "error" writes nothing,
            "negative" writes an empty mask and reports the id.
        shape: Size of every image as ``(rows, columns)``, which the run lengths refer to.
        options: How to use the model.
        runtime: Device, batch size and workers.
        acceptance: Which files are accepted as frontal chest radiographs.
        overwrite: Replace an earlier file.
        follow_links: Whether to follow links in *images*.

    Returns: Contents of the submission.

    Raises:
        UsageError: If an argument does not fit.
        JobError: If an image of the sample is missing or cannot be read and that is not accepted, an image has another
            size, or an id is ambiguous or cannot be written in a submission. Nothing is written then.
    """
    model_folder, images, output = Path(model_folder), Path(images), Path(output)
    sample = None if sample is None else Path(sample)
    claim_file(output, overwrite=overwrite, inputs=[images, *filter(None, [sample])])
    model = load_model(model_folder, resolve_device(runtime.device), options)
    found = find_radiographs(images, leave_out=[output], follow_links=follow_links)
    wanted, repeated = _read_sample(sample) if sample else (sorted(set(map(image_name, found.images))), [])
    path_of = _find_images(wanted, found.images)
    absent = [name for name in wanted if name not in path_of]
    if absent and missing == "error":
        fits = "complete the folder, or give --missing negative" if path_of else "is it the right folder?"
        raise JobError(
            f"{len(absent)} of {len(wanted)} images of {sample} are not under {images}; the first is {absent[0]}; "
            f"{fits}"
        )

    model = choose_runtime(model, images=len(path_of), batch_size=runtime.batch_size)
    texts = dict.fromkeys(wanted, EMPTY) if missing == "negative" else {}
    refused: list[NotRead] = []
    filled = list(absent)
    review, digests = 0, list[str]()
    segmenting = _segment(model, path_of, images, shape, acceptance=acceptance, runtime=runtime)
    with closing(segmenting):  # an interrupted job ends its readers at once
        for name, result in segmenting:
            if isinstance(result, NotRead):
                refused.append(result)
                filled.append(name)
            else:
                texts[name] = encode_rle(result.mask)
                digests.append(result.radiograph.file_sha256)
                review += bool(result.review)
    if refused and sample and missing == "error":
        first = refused[0]
        raise JobError(
            f"{len(refused)} images of {sample} cannot be read, so that no valid submission can be made; "
            f"the first is {first.path.name}: {first.error}; repair it, or give --missing negative"
        )
    if not sample:
        filled = []  # a file without a result has no row
    if len(filled) == len(texts):
        raise JobError(
            f"none of the {len(wanted)} images of {sample or images} can be used; is {images} the right folder?"
        )
    texts = {name: texts[name] for name in wanted if name in texts}
    _write(output, texts, shape)
    predicted_positive = sum(text != EMPTY for text in texts.values())
    validation = None if options.operating_point else _predicted_positive_in_validation(model)
    return SubmitReport(
        images=len(texts),
        predicted_positive=predicted_positive,
        review=review,
        left_out=len(found.images) - len(path_of),
        refused=tuple(refused),
        repeated=tuple(repeated),
        filled=tuple(filled),
        links=found.links,
        trained_on=sum(map(model.has_seen, digests)),
        validation_rate=validation and validation[0] / validation[1],
        surprising=validation is not None
        and _is_surprising((predicted_positive, len(texts) - len(filled)), validation),
    )


def _find_images(wanted: Sequence[str], images: Sequence[Path]) -> dict[str, Path]:
    """Find the image of each id: by the name of its file without or with suffix, else by its SOPInstanceUID."""
    by_name, by_uid = defaultdict[str, list[Path]](list), defaultdict[str, list[Path]](list)
    for path in images:
        for name in {image_name(path), path.name}:
            by_name[name].append(path)
    if any(name not in by_name for name in wanted):  # only then files are opened for their UIDs
        for path, uid in zip(images, look_for_uids(images), strict=True):
            by_uid[uid or ""].append(path)
    path_of: dict[str, Path] = {}
    id_of: dict[Path, str] = {}
    for name in wanted:
        paths = by_name.get(name) or by_uid.get(name, [])
        if len(paths) > 1:
            raise JobError(f"{paths[0]} and {paths[1]} have the same name; leave one of them out")
        for path in paths:
            if (before := id_of.setdefault(path, name)) != name:
                raise JobError(f"the ids {before} and {name} are both that of {path}; leave one of them out")
            path_of[name] = path
    return path_of


def _segment(
    model: Model,
    path_of: Mapping[str, Path],
    images: Path,
    shape: tuple[int, int],
    *,
    acceptance: AcceptanceFilters | None,
    runtime: Runtime,
) -> Generator[tuple[str, Segmentation | NotRead]]:
    """Segment the image of each id; of duplicates, the first path is used.

    Raises: JobError: If an image has another size than *shape*, or an id cannot be written in a submission.
    """
    chosen = sorted(path_of.items(), key=lambda item: item[1].as_posix())
    duplicates = Duplicates()
    segmenting = segment_files(
        model,
        [path for _, path in chosen],
        acceptance=acceptance,
        batch_size=runtime.batch_size,
        workers=runtime.workers,
        refuse=lambda path, radiograph: duplicates.check(os.path.relpath(path, images), radiograph),
    )
    with tracked("segment", total=len(chosen)) as advance, closing(segmenting):
        for (name, path), result in zip(chosen, segmenting, strict=True):
            if isinstance(result, Segmentation):
                if result.mask.shape != shape:  # its run lengths would be decoded to another mask
                    raise JobError(
                        "{} has {}x{} pixels; the run lengths of a submission are counted over {}x{}".format(
                            path.name, *result.mask.shape, *shape
                        )
                    )
                if not is_safe_id(name):  # it would not be read back as it was written
                    raise JobError(f"{path}: cannot be named so in a submission; rename it or give --sample")
            yield name, result
            advance()


def _predicted_positive_in_validation(model: Model) -> tuple[int, int] | None:
    """Count the validation images that were predicted positive, and all validation images."""
    positive, images = (model.description.validation.get(name) for name in ("predicted_positive", "images"))
    return (int(positive), int(images)) if positive is not None and images else None


def _is_surprising(here: tuple[int, int], there: tuple[int, int]) -> bool:
    """Tell whether two rates, each a count and its total, differ by more than chance, by Fisher's exact test."""
    from scipy.stats import fisher_exact  # noqa: PLC0415  (takes a second, and is needed once)

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
    if not lines_of:
        raise JobError(f"{path} lists no image; was it loaded to the end?")
    repeated = [
        f"{name}: lines {', '.join(map(str, lines))}" for name, lines in lines_of.items() if len(lines) > 1
    ]
    return sorted(lines_of, key=lambda name: lines_of[name][0]), repeated


def _write(output: Path, texts: dict[str, str], shape: tuple[int, int]) -> None:
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([("ImageId", "EncodedPixels"), *texts.items()])
    with written_atomically(output) as temporary:
        temporary.write_text(table.getvalue(), encoding="utf-8")
        # before it gets its name, so an invalid submission never exists
        if faults := check_submission(temporary, texts, shape=shape):
            raise JobError(f"the submission would not be valid: {faults[0]} (and {len(faults) - 1} more)")
