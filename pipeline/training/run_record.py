"""``run.json``: manifest, fold and initial weights of a run, so that its folder is all that is needed to resume it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.core.files import write_json
from pneumoseg.pipeline.core.json_files import read_validated_json
from pneumoseg.pipeline.model.catalogue import find_model

RECORD: Final = "run.json"
CONFIG: Final = "config.yaml"
"""Configuration of the run, beside the record."""
Fold = int | Literal["all"]
EPOCHS: Final = "optimization.epochs"


class RunRecord(BaseModel):
    """What a run was started with, besides its configuration; paths are absolute."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    format_version: Literal[1] = 1
    manifest: Path
    """Manifest file."""
    fold: Fold | None = 0
    """Held-out fold, `all` for a cross-validation, or null where no image is held out."""
    after: Path | None = None
    """Run folder of the cross-validation before a run that holds no image out."""
    cache: Path | None = None
    """Folder of the decoded images; null is the one beside the manifest."""
    initial: Path | None = None
    """Model folder of the initial weights."""
    allow_seen: bool = False
    """Whether images that the initial weights have seen may be held out."""

    @property
    def inputs(self) -> list[Path]:
        """Paths that the run reads, which must not be deleted with earlier results."""
        return [path for path in (self.manifest, self.initial, self.after) if path is not None]


def make_record(
    run_dir: Path,
    *,
    resume: bool,
    manifest: str | Path | None,
    fold: Fold | None,
    cache: str | Path | None,
    initial: str | Path | None,
    allow_seen: bool,
    after: str | Path | None = None,
) -> RunRecord:
    """Collect what a run is started with; a resumed run takes from its record what is not given.

    Args:
        run_dir: Run folder.
        resume: Whether the run is resumed.
        manifest: Manifest file; a resumed run needs it only if the file has moved.
        fold: Held-out fold, or ``all``; None is fold 0.
        cache: Folder of the decoded images.
        initial: Model folder of the initial weights, or the name of a model of the package.
        allow_seen: Whether images that the initial weights have seen may be held out.
        after: Run folder of a cross-validation; the run then holds no image out, and takes from it what is not given.
            A resumed run needs it only if the folder has moved.

    Raises:
        UsageError: If there is no manifest, what is given does not go together, or the fold, the initial weights or the
            cross-validation of a resumed run are to change.
        JobError: If the record of a resumed run cannot be read.
    """
    found = None if initial is None else find_model(initial)
    paths = {"manifest": manifest, "cache": cache, "initial": found, "after": after}
    given: dict[str, Path | Fold] = {
        name: Path(path).resolve() for name, path in paths.items() if path is not None
    }
    if fold is not None:
        given["fold"] = fold
    if not resume:
        if after is not None:
            return _record_after(Path(after).resolve(), given)
        if manifest is None:
            raise UsageError("the manifest is missing; give the file that `pneumoseg prepare` wrote")
        return RunRecord.model_validate({**given, "allow_seen": allow_seen})
    record = read_record(run_dir)
    has_moved = record.after is not None and not record.after.is_dir()
    fixed = {"fold": "--fold", "initial": "--init"} | ({} if has_moved else {"after": "--after"})
    for name, option in fixed.items():
        before = getattr(record, name)
        if given.get(name, before) != before:
            raise UsageError(
                f"{option} is {before} in {run_dir} and {given[name]} was requested; leave it out to resume the run, "
                "or start another one"
            )
    record = record.model_copy(update=given)
    if not record.manifest.is_file():
        raise UsageError(
            f"{record.manifest}: the manifest of {run_dir} is not there; give the place where it is now: "
            f"pneumoseg train MANIFEST --resume -o {run_dir}"
        )
    if record.after is not None and not record.after.is_dir():
        raise UsageError(
            f"{record.after}: the cross-validation before {run_dir} is not there; give the place where it is now: "
            f"pneumoseg train --resume -o {run_dir} --after RUN"
        )
    return record


def _record_after(cross_validation: Path, given: Mapping[str, Path | Fold]) -> RunRecord:
    """Make the record of a run that holds no image out, from that of a cross-validation and what else is given."""
    before = read_record(cross_validation)
    if before.fold != "all":
        raise UsageError(
            f"--after {cross_validation}: is no cross-validation, as its fold is {before.fold}; give a run folder of "
            "`pneumoseg train --fold all`"
        )
    if {"fold", "initial"} & given.keys():
        raise UsageError(
            "--after trains on the images of all folds, from the initial weights of the cross-validation; leave out "
            "--fold and --init"
        )
    return before.model_copy(update={"fold": None, "allow_seen": False, **given})


def read_record(run_dir: Path) -> RunRecord:
    """Read ``run.json``.

    Args:
        run_dir: Run folder.

    Raises: JobError: If there is none, or it is damaged.
    """
    path = run_dir / RECORD
    if not path.is_file():
        raise JobError(
            f"{run_dir}: holds no {RECORD}, so there is no run to go on from; give the folder of a run, or start one "
            "without --resume"
        )
    return read_validated_json(path, RunRecord, advice="start the run anew with --overwrite")


def write_record(run_dir: Path, record: RunRecord) -> None:
    """Write ``run.json``.

    Args:
        run_dir: Run folder.
        record: Record to write.
    """
    write_json(run_dir / RECORD, record.model_dump(mode="json"))


def differences(run_dir: Path, before: Mapping[str, object], after: Mapping[str, object]) -> dict[str, str]:
    """Describe each setting of a run that is requested to be another; both values are named.

    Args:
        run_dir: Run folder.
        before: Settings that the run has, by dotted key: see `flatten`.
        after: Settings that were requested.
    """
    return {
        key: f"{key} is {before.get(key)} in {run_dir} and {after.get(key)} was requested"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    }


def refuse_changes(run_dir: Path, before: Mapping[str, object], after: Mapping[str, object]) -> None:
    """Refuse to resume a run with other settings; only the number of epochs may grow.

    Args:
        run_dir: Run folder.
        before: Settings that the run has, by dotted key: see `flatten`.
        after: Settings that were requested.

    Raises: UsageError: If they differ in anything else; both values of each key are named.
    """
    changed = [text for key, text in differences(run_dir, before, after).items() if key != EPOCHS]
    if changed:
        raise UsageError(
            f"--resume: {'; '.join(changed)}; a resumed run keeps its settings, only {EPOCHS} may grow: leave them "
            "out, or start another run"
        )
    if int(str(after[EPOCHS])) < int(str(before[EPOCHS])):
        raise UsageError(
            f"--resume: {EPOCHS} is {before[EPOCHS]} in {run_dir} and {after[EPOCHS]} was requested; a run can be made "
            "longer, not shorter"
        )
