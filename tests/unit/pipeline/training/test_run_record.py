from pathlib import Path
from typing import Any

import pytest

from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.model import catalogue
from pneumoseg.pipeline.training.run_record import (
    RECORD,
    RunRecord,
    make_record,
    read_record,
    refuse_changes,
    write_record,
)

NOTHING: dict[str, Any] = {
    "manifest": None, "fold": None, "cache": None, "initial": None, "allow_seen": False
}  # fmt: skip


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "manifest.json"
    path.write_text("{}")
    return path


@pytest.fixture
def run(tmp_path: Path, manifest: Path) -> Path:
    """A run of fold 2 that started from a model."""
    record = RunRecord(
        manifest=manifest, fold=2, cache=tmp_path / "cache", initial=tmp_path / "model", allow_seen=True
    )
    write_record(tmp_path / "run", record)
    return tmp_path / "run"


def test_a_resumed_run_takes_everything_from_its_record(run: Path) -> None:
    assert make_record(run, resume=True, **NOTHING) == read_record(run)


def test_a_relative_path_is_found_from_any_folder(
    tmp_path: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    record = make_record(tmp_path / "new", resume=False, **{**NOTHING, "manifest": Path("manifest.json")})
    assert record.manifest == manifest
    assert record.fold == 0


def test_initial_weights_may_be_those_of_a_model_of_the_package(
    tmp_path: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "available_models", lambda: {"tiny": tmp_path / "package" / "tiny"})
    start = {**NOTHING, "manifest": manifest, "initial": "tiny"}
    assert make_record(tmp_path / "new", resume=False, **start).initial == tmp_path / "package" / "tiny"


def test_a_new_run_needs_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the manifest is missing"):
        make_record(tmp_path / "new", resume=False, **NOTHING)


def test_manifest_and_cache_of_a_resumed_run_may_have_moved(run: Path, tmp_path: Path) -> None:
    moved = (tmp_path / "manifest.json").rename(tmp_path / "moved.json")
    record = make_record(run, resume=True, **{**NOTHING, "manifest": moved, "cache": tmp_path / "other"})
    assert (record.manifest, record.cache, record.fold) == (moved, tmp_path / "other", 2)


def test_a_manifest_that_has_moved_is_told_with_the_way_to_name_its_place(run: Path, manifest: Path) -> None:
    manifest.unlink()
    with pytest.raises(UsageError, match=r"is not there; .*pneumoseg train MANIFEST --resume -o"):
        make_record(run, resume=True, **NOTHING)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fold": 1}, "--fold is 2 in .* and 1 was requested"),
        ({"fold": "all"}, "--fold is 2 in .* and all was requested"),
        ({"initial": Path("/elsewhere")}, "--init is .*model in .* and /elsewhere was requested"),
    ],
)
def test_what_a_run_was_started_with_stays(run: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_record(run, resume=True, **{**NOTHING, **given})


def test_what_is_repeated_is_no_change(run: Path, tmp_path: Path) -> None:
    given = {"fold": 2, "initial": tmp_path / "model", "manifest": tmp_path / "manifest.json"}
    assert make_record(run, resume=True, **{**NOTHING, **given}) == read_record(run)


def test_a_folder_without_a_record_holds_no_run(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"holds no run\.json, .*without --resume"):
        read_record(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", '{"fold": 0}', '{"manifest": "a", "fold": "some"}', "\xff"])
def test_a_damaged_record_is_one_line(run: Path, content: str) -> None:
    (run / RECORD).write_text(content, encoding="latin-1")
    with pytest.raises(JobError, match=r"run\.json: .*; start the run anew") as caught:
        read_record(run)
    assert len(str(caught.value).splitlines()) == 1


BEFORE = {"optimization.epochs": 5, "optimization.learning_rate": 0.001, "seed": 0}


@pytest.mark.parametrize("epochs", [5, 6])
def test_a_run_may_be_made_longer(tmp_path: Path, epochs: int) -> None:
    refuse_changes(tmp_path, BEFORE, {**BEFORE, "optimization.epochs": epochs})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"optimization.learning_rate": 0.002},
            r"optimization\.learning_rate is 0\.001 in RUN and 0\.002 was requested; a resumed run keeps its settings",
        ),
        (
            {"seed": 1, "optimization.learning_rate": 0.002},
            r"0\.002 was requested; seed is 0 in RUN and 1 was requested;",
        ),
        (
            {"optimization.epochs": 4},
            r"optimization\.epochs is 5 in RUN and 4 was requested; .* longer, not shorter",
        ),
    ],
)
def test_another_setting_is_told_with_both_values(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        refuse_changes(Path("RUN"), BEFORE, {**BEFORE, **changes})


def test_a_run_on_all_images_takes_from_a_cross_validation_what_is_not_given(
    tmp_path: Path, manifest: Path
) -> None:
    before = RunRecord(manifest=tmp_path / "gone", fold="all", initial=tmp_path / "model", allow_seen=True)
    write_record(tmp_path / "crossed", before)
    record = make_record(
        tmp_path / "new", resume=False, **{**NOTHING, "manifest": manifest}, after=tmp_path / "crossed"
    )
    assert record == RunRecord(
        manifest=manifest, fold=None, initial=before.initial, after=tmp_path / "crossed"
    )


def test_a_cross_validation_that_has_moved_is_named_where_it_is_now(tmp_path: Path, manifest: Path) -> None:
    run, now = tmp_path / "new", tmp_path / "moved"
    write_record(run, RunRecord(manifest=manifest, fold=None, after=tmp_path / "crossed"))
    with pytest.raises(
        UsageError, match=r"crossed: the cross-validation before .*new is not there; give the place"
    ):
        make_record(run, resume=True, **NOTHING)
    now.mkdir()
    assert make_record(run, resume=True, **NOTHING, after=now).after == now


def test_a_run_on_all_images_has_neither_a_fold_nor_weights_of_its_own(tmp_path: Path, run: Path) -> None:
    with pytest.raises(UsageError, match=f"--after {run}: is no cross-validation, as its fold is 2"):
        make_record(tmp_path / "new", resume=False, **NOTHING, after=run)
    write_record(tmp_path / "crossed", RunRecord(manifest=tmp_path, fold="all"))
    for given in ({"fold": 1}, {"initial": tmp_path / "model"}):
        with pytest.raises(UsageError, match="leave out --fold and --init"):
            make_record(tmp_path / "new", resume=False, **{**NOTHING, **given}, after=tmp_path / "crossed")
