import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Collection, job_options

from pneumoseg.pipeline.core.claims import claim_folder
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.jobs import watch
from pneumoseg.pipeline.jobs.predict import PredictReport, predict_folder
from pneumoseg.pipeline.jobs.watch import Arrivals, watch_folder


@pytest.fixture
def arrivals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Arrivals:
    """A folder that is watched by a clock of its own."""
    (tmp_path / "in").mkdir()
    monkeypatch.setattr("time.monotonic", time.time)
    return Arrivals(tmp_path / "in", leave_out=tmp_path / "in" / "out", settle_s=5)


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    now = time.time() + seconds
    monkeypatch.setattr("time.monotonic", lambda: now)


def put(path: Path, content: bytes = b"\0" * 128 + b"DICM", *, age_s: float = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def test_a_file_is_complete_once_it_has_not_changed_for_a_while(
    arrivals: Arrivals, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(arrivals.folder / "a.dcm")
    assert list(arrivals.complete()) == []
    later(monkeypatch, 4)
    assert list(arrivals.complete()) == []
    later(monkeypatch, 6)
    assert list(arrivals.complete()) == [path]


def test_a_file_that_grows_is_not_complete(arrivals: Arrivals, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(arrivals.folder / "a.dcm")
    arrivals.complete()
    later(monkeypatch, 6)
    put(path, b"\0" * 128 + b"DICM more")
    assert list(arrivals.complete()) == []
    later(monkeypatch, 12)
    assert list(arrivals.complete()) == [path]


def test_a_file_that_is_renamed_into_place_is_complete_at_once(arrivals: Arrivals) -> None:
    put(arrivals.folder / "a.dcm.part", age_s=60).rename(arrivals.folder / "a.dcm")
    assert list(arrivals.complete()) == [arrivals.folder / "a.dcm"]


@pytest.mark.parametrize(
    "name",
    [
        ".hidden.dcm", "a.dcm.part", "a.dcm.TMP", "a.dcm~", "out/seg/a.dcm", ".~tmp~/a.dcm", ".rsync-partial/b/a.dcm",
        "study.part/a.dcm",
    ],
)  # fmt: skip
def test_unfinished_files_and_results_are_left_out(arrivals: Arrivals, name: str) -> None:
    put(arrivals.folder / name, age_s=60)
    assert list(arrivals.complete()) == []


def test_results_of_an_earlier_command_are_left_out_as_predict_leaves_them_out(arrivals: Arrivals) -> None:
    claim_folder(arrivals.folder / "earlier", overwrite=False, command="predict")
    put(arrivals.folder / "earlier" / "masks" / "a.png", b"\x89PNG\r\n\x1a\n", age_s=60)
    assert list(arrivals.complete()) == []


def test_a_file_without_suffix_that_stays_empty_is_complete(arrivals: Arrivals) -> None:
    path = put(arrivals.folder / "IM0001", b"", age_s=60)
    assert list(arrivals.complete()) == [path]


def test_links_are_followed_only_if_that_is_asked_for(arrivals: Arrivals, tmp_path: Path) -> None:
    put(tmp_path / "elsewhere" / "a.dcm", age_s=60)
    (arrivals.folder / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert list(arrivals.complete()) == []
    arrivals.follow_links = True
    assert list(arrivals.complete()) == [arrivals.folder / "link" / "a.dcm"]


def test_a_file_is_another_one_if_it_is_replaced_by_one_of_the_same_size_and_time(arrivals: Arrivals) -> None:
    path = put(arrivals.folder / "a.dcm")
    os.utime(path, (1, 1))
    assert list(arrivals.complete()) == [path]
    put(arrivals.folder.parent / "b.dcm").rename(path)
    os.utime(path, (1, 1))
    assert list(arrivals.complete()) == []


def test_a_folder_that_has_gone_may_come_back(arrivals: Arrivals) -> None:
    put(arrivals.folder / "a.dcm", age_s=60)
    arrivals.folder.rename(arrivals.folder.with_name("away"))
    assert list(arrivals.complete()) == []
    arrivals.folder.with_name("away").rename(arrivals.folder)
    assert list(arrivals.complete()) == [arrivals.folder / "a.dcm"]


def test_unrelated_files_are_left_out(arrivals: Arrivals) -> None:
    put(arrivals.folder / "notes.txt", b"text", age_s=60)
    assert list(arrivals.complete()) == []


def add(collection: Collection, number: int, folder: Path) -> None:
    """Copy an image that has not changed for long."""
    shutil.copy(collection.images / f"case{number:02}.dcm", folder)
    os.utime(folder / f"case{number:02}.dcm", (1, 1))


def watch_passes(
    monkeypatch: pytest.MonkeyPatch, steps: list[Any], model: Path, folder: Path, output: Path, **options: Any
) -> list[PredictReport]:
    """Watch, with a step before each look at the folder; it ends after the last one."""
    reports: list[PredictReport] = []

    def wait(_: float, interruption: Any) -> None:
        if steps:
            steps.pop(0)()
        else:
            interruption.received = 15

    monkeypatch.setattr(watch, "_wait", wait)
    assert (
        watch_folder(model, folder, output, settle_s=0.1, on_pass=reports.append, **job_options(), **options)
        == 15
    )
    return reports


def test_only_new_files_are_read_and_the_results_are_those_of_predict(
    collection: Collection, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()

    def hash_again(path: Path, _: int) -> str:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr("pneumoseg.pipeline.results.earlier.content_sha256", hash_again)
    add(collection, 0, folder)
    steps = [lambda: None, lambda: add(collection, 6, folder)]
    reports = watch_passes(monkeypatch, steps, model_folder, folder, output, kinds=["csv"])
    assert [(each.segmented, each.kept) for each in reports] == [(1, 0), (2, 1)]
    assert len(list((output / "receipts").glob("*.json"))) == 2
    assert (output / "predictions.csv").read_text().count("\n") == 3


def test_a_file_that_goes_before_it_is_read_does_not_end_the_watch(
    collection: Collection, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    add(collection, 0, folder)

    def move_away_and_predict(*words: Any, **options: Any) -> PredictReport:
        (folder / "case00.dcm").unlink()
        return predict_folder(*words, **options)

    monkeypatch.setattr(watch, "predict_folder", move_away_and_predict)
    (report,) = watch_passes(monkeypatch, [], model_folder, folder, tmp_path / "out", kinds=["csv"])
    assert report.segmented == 0


def test_results_of_files_that_are_moved_away_stay(
    collection: Collection, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()

    def take_away_and_add() -> None:
        (folder / "case00.dcm").unlink()
        add(collection, 6, folder)

    add(collection, 0, folder)
    steps = [lambda: None, take_away_and_add]
    reports = watch_passes(monkeypatch, steps, model_folder, folder, output, kinds=["png"])
    assert [(each.segmented, each.others) for each in reports] == [(1, 0), (1, 1)]
    assert len(list((output / "masks").iterdir())) == 2
    assert (output / "predictions.csv").read_text().count("\n") == 3


def test_results_of_other_settings_are_told_before_the_first_file_arrives(
    collection: Collection, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    add(collection, 0, folder)
    watch_passes(monkeypatch, [], model_folder, folder, output, kinds=["csv"])
    (folder / "case00.dcm").unlink()
    (report,) = watch_passes(monkeypatch, [], model_folder, folder, output, kinds=["csv"])
    assert (report.segmented, report.others) == (0, 1)
    with pytest.raises(UsageError, match="results of 1 files that are gone"):
        watch_passes(monkeypatch, [], model_folder, folder, output, kinds=["csv"], research=True)


def test_archives_are_warned_of_once(
    collection: Collection,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "in"
    put(folder / "study.zip", b"PK")

    add(collection, 0, folder)
    steps = [lambda: None, lambda: add(collection, 6, folder)]
    reports = watch_passes(monkeypatch, steps, model_folder, folder, tmp_path / "out", kinds=["csv"])
    assert [each.segmented for each in reports] == [1, 2]
    assert capsys.readouterr().err.count("1 archives are not opened") == 1


def test_a_file_that_changes_is_segmented_again(
    collection: Collection, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()

    def write(number: int) -> None:
        shutil.copy(collection.images / f"case{number:02}.dcm", folder / "image.dcm")
        os.utime(folder / "image.dcm", (number + 1, number + 1))
        time.sleep(0.15)

    write(0)
    reports = watch_passes(
        monkeypatch,
        [lambda: write(6), lambda: time.sleep(0.15)],
        model_folder,
        folder,
        tmp_path / "out",
        kinds=["csv"],
    )
    assert [each.predicted_positive for each in reports if each.segmented] == [1, 0]


@pytest.mark.parametrize("options", [{"overwrite": True}, {"part": object()}])
def test_watching_goes_with_neither_parts_nor_overwrite(
    tmp_path: Path, model_folder: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match="--watch"):
        watch_folder(model_folder, tmp_path, tmp_path / "out", **options)


def test_a_folder_that_is_not_there_cannot_be_watched(tmp_path: Path, model_folder: Path) -> None:
    with pytest.raises(UsageError, match="is not a folder"):
        watch_folder(model_folder, tmp_path / "none", tmp_path / "out")
